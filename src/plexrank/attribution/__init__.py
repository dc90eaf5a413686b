"""Importances of channels, computed from the embedding r and the small classifier alone."""
