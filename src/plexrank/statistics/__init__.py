"""Statistics of tables: arrays in, arrays out; knows nothing of images, files or networks."""
