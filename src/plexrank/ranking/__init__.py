"""From importances and embeddings of tiles to a ranking of channels with its uncertainty."""
