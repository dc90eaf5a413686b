"""plexrank from Python: what the public functions do, and a run that is opened to be looked at."""
