"""From the embedding r of a tile or patient to a prediction."""
