"""From images to tiles: geometry, the store, the dask pass that fills it, and the intensity scale."""
