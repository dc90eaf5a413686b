"""A ranking held against a known truth."""
