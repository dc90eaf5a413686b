"""Cohorts with planted channels, written as a user's own would be; one file per family of scenarios."""

from plexrank.simulate.scenarios import SCENARIOS, simulate

__all__ = ["SCENARIOS", "simulate"]
