"""A ranking held against a known truth, and rankings held against each other."""
