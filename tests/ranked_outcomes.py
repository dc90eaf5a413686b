"""Small ranked cohorts whose outcome, of any kind, follows their first channel."""

from __future__ import annotations

import numpy as np

from plexrank.outcome import Kind, make_outcome
from plexrank.outcome.survival import survival_level
from plexrank.ranking.cohort_ranking import CohortRanking, rank_cohort
from plexrank.ranking.features import _units
from plexrank.ranking.samples import make_samples
from plexrank.settings import RankSettings

PATIENTS, CHANNELS = 36, 5
GRADES = ("mild", "moderate", "severe")


def rank_outcome(kind: Kind) -> CohortRanking:
    """A cohort whose first channel, and no other, goes along with the outcome; the last one is a negative control."""
    rng = np.random.default_rng(4)
    content = rng.normal(size=(PATIENTS, CHANNELS))
    size = 1.5 * content[:, 0] + 0.5 * rng.normal(size=PATIENTS)
    if kind == "survival":
        times = np.round(20 * np.exp(-size), 1) + 0.1
        levels = [survival_level(f"{time:.1f}", patient % 3 > 0) for patient, time in enumerate(times)]
    elif kind == "continuous":
        levels = [f"{value:.2f}" for value in size]
    else:
        levels = [GRADES[k] for k in np.digitize(size, np.quantile(size, [1 / 3, 2 / 3]))]
    outcome = make_outcome(kind, levels, GRADES if kind == "ordinal" else ())
    folds = (np.argsort(np.argsort(size)) % 3).tolist()
    ids, sites = [f"p{k:02d}" for k in range(PATIENTS)], [("Basel", "Bern")[k // 3 % 2] for k in range(PATIENTS)]
    samples = make_samples(ids, levels, folds, sites, outcome)
    units = _units(np.exp(content / 4), samples, 0)
    settings = RankSettings(bootstrap=100, permutations=100)
    return rank_cohort(units, samples, [f"C{k}" for k in range(CHANNELS)], settings, excluded=["C4"])
