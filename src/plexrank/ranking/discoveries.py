"""Every test of every channel: what differs between the labels, what the model uses, and what it adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import stats

from plexrank.arrays import Array
from plexrank.ranking.aggregate import SampleTables, UnitTable
from plexrank.ranking.audit import site_association
from plexrank.ranking.conditional import explained_by_others
from plexrank.ranking.pattern import amounts, arrangement, differs_in_arrangement, rises_in_arrangement
from plexrank.ranking.prediction import MIN_LABELLINGS, has_labellings, is_confounded
from plexrank.ranking.reliance import FEWEST_PATIENTS, Reliance, can_measure_reliance, measure_reliance
from plexrank.ranking.samples import Samples
from plexrank.ranking.table import Tested
from plexrank.statistics.exchange import DRAWS
from plexrank.statistics.rank_tests import RankTest, rank_test, trend_test
from plexrank.wording import counted

CONFOUNDED = "patients of the same sites nearly all have the same label"
SITE_DRAWS = 10_000
"""Exchanges of sites behind the p-value of the site test, which is an audit and in no list of discoveries."""


@dataclass(frozen=True)
class Discoveries:
    """Attributes:
    tests: by the names of :data:`plexrank.ranking.columns.EFFECT_COLUMNS`, those that could be made.
    not_tested: of the others, why not.
    """

    tests: dict[str, Tested]
    not_tested: dict[str, str]

    def p_values(self) -> dict[str, Array]:
        """(channel,) p-values by the name of the test."""
        return {name: test.p for name, test in self.tests.items()}


def find_discoveries(
    units: Sequence[UnitTable],
    tables: SampleTables,
    samples: Samples,
    order: Array | None,
    variance: float | None,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Discoveries:
    """Make every test that the cohort allows.

    Args:
        order: (class,) place of each class where the classes have an order.
        variance: λ of the pattern test, ``None`` where r was not learned from labels.
        draws: labellings behind each p-value.
    """
    tests: dict[str, Tested] = {}
    not_tested: dict[str, str] = {}
    by_intensity = ("intensity", *(["mean_intensity_trend"] if order is not None else []))
    by_pattern = ("pattern", *(["trend"] if order is not None else []))
    if is_confounded(samples):
        not_tested |= dict.fromkeys((*by_intensity, *by_pattern, "reliance", "adds"), CONFOUNDED)
    else:
        tests |= _intensity_tests(tables, samples, order, draws, rng)
        why_no_pattern = _why_no_pattern(tables, samples, variance)
        rest = arrangement(units, tables, samples) if why_no_pattern is None else None
        if rest is not None and variance is not None:
            tests["pattern"] = differs_in_arrangement(rest, samples, variance, draws, rng)
            if order is not None:
                tests["trend"] = rises_in_arrangement(rest, samples, order, variance, draws, rng)
        else:
            not_tested |= dict.fromkeys(
                by_pattern, why_no_pattern or "the networks keep no embedding of their training"
            )
        model_tests = _model_tests(units, tables, samples)
        tests |= model_tests
        if not model_tests:
            not_tested |= dict.fromkeys(("reliance", "adds"), _why_no_reliance(tables, samples))
    site = site_association(units, samples, SITE_DRAWS, rng) if tables.classify else None
    if site is not None:
        tests["site"] = site
    return Discoveries(tests, not_tested)


def _intensity_tests(
    tables: SampleTables, samples: Samples, order: Array | None, draws: int, rng: np.random.Generator
) -> dict[str, Tested]:
    values = amounts(tables.mean_intensity)
    tests: dict[str, Tested] = {"intensity": association_test(values, samples, draws, rng)}
    if order is not None:
        place = stats.rankdata(order[samples.label])
        tests["mean_intensity_trend"] = trend_test(values, samples.order(place), draws, rng)
    return tests


def association_test(values: Array, samples: Samples, draws: int, rng: np.random.Generator) -> RankTest:
    """Whether columns (sample, column) differ between classes, or rise or fall along an outcome that has an order."""
    places = samples.places()
    if places is None:
        return rank_test(values, samples.exchange(), draws, rng)
    return trend_test(values, samples.order(places), draws, rng)


def _model_tests(units: Sequence[UnitTable], tables: SampleTables, samples: Samples) -> dict[str, Tested]:
    """What the model uses, and what no other channel can stand in for; nothing where classes are too small."""
    if not can_measure_reliance(tables, samples):
        return {}
    reliance = partial(measure_reliance, tables.embedding, tables.classify, tables.seeds, samples)
    explained = explained_by_others(units, tables, samples)
    tests: dict[str, Tested] = {"reliance": _tested(reliance(), samples)}
    if explained is not None:
        tests["adds"] = _tested(reliance(explained=explained), samples)
    return tests


def _tested(reliance: Reliance, samples: Samples) -> RankTest:
    """Empty where fewer than ``FEWEST_PATIENTS`` of a class say something of the channel."""
    enough = samples.fewest_patients(np.isfinite(reliance.increase)) >= FEWEST_PATIENTS
    return RankTest(*(np.where(enough, values, np.nan) for values in (reliance.mean, reliance.p)))


def _why_no_pattern(tables: SampleTables, samples: Samples, variance: float | None) -> str | None:
    """Why what the embedding reads cannot be tested; ``None`` where it can."""
    if variance is None:
        return "no embedding was trained"
    if not tables.classify:
        return "the network has no channel embedding"
    exchange = samples.exchange(within_folds=True)
    if not has_labellings(exchange):
        number = np.exp(exchange.log_count())
        labellings = counted(round(number), "labelling", "keeps")
        return f"{labellings} the labels of every fold and site; the test needs {MIN_LABELLINGS}"
    return None


def _why_no_reliance(tables: SampleTables, samples: Samples) -> str:
    if not tables.classify:
        return "the network has no channel embedding"
    counts, groups = samples.patients_per_group(), samples.outcome.groups
    smallest = min((group for group in groups if group.is_trained_on), key=lambda group: counts[group.name])
    count = counts[smallest.name]
    if not samples.outcome.has_classes:
        return f"there are {counted(count, smallest.one)}, and the test needs {FEWEST_PATIENTS}"
    return f"class {smallest.name} has {counted(count, 'patient')}, and the test needs {FEWEST_PATIENTS} of each class"
