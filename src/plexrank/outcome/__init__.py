"""What a study asks about its patients, of four kinds: classes, ordered grades, numbers, or times to an event.

What differs between the kinds is here and nowhere else: what folds keep even, what is fitted and tested, and by which
measures predictions are judged. Arrays in, arrays out. Cohorts are read on login nodes too, where only counts are
asked for: parts of scipy are therefore loaded when they are used (``scipy.stats``, by scipy itself).
"""

from plexrank.outcome.base import LINEAR_MODELS, MEASURE_NAMES, Group, LinearWeights, Outcome
from plexrank.outcome.kinds import KINDS, Kind, make_outcome

__all__ = ["KINDS", "LINEAR_MODELS", "MEASURE_NAMES", "Group", "Kind", "LinearWeights", "Outcome", "make_outcome"]
