"""One training unit at a time: data, loop, checkpoints and the embedding of tiles."""
