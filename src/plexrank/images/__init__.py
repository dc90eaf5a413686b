"""Images of many channels, opened without reading their pixels; one file per format."""
