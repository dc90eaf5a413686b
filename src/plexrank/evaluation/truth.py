"""A ranking against a known truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from plexrank.errors import StudyError
from plexrank.statistics.means import INTERVAL

RECALL_AT = (*range(1, 14), 15, 20, 25, 30, 40, 50, 75, 100)
COMPARED_TOP = 10
RESAMPLINGS = 5000
PAIRS_AT_ONCE = 200


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95 % interval by bootstrap over channels."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """How well a ranking recovers a truth.

    Attributes:
        num_channels, num_informative: how many there are.
        recall_at: per K the share of informative channels among the first K positions.
        average_precision: mean over informative channels of the precision at their position; None without any.
        spearman, kendall: rank correlations (ρ, τ-b) of the score with ``grade`` of the truth, or with
            ``informative``; None if constant.
        top10_graded: how many channels have the highest grades, see :func:`evaluate`; None without grades.
        top10_overlap: how many of these are among the first ten.
        top10_overlap_p: probability of so many or more if the order were random (hypergeometric).
    """

    num_channels: int
    num_informative: int
    recall_at: dict[int, float]
    average_precision: float | None
    spearman: Correlation | None
    kendall: Correlation | None
    top10_graded: int | None
    top10_overlap: int | None
    top10_overlap_p: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """A line for each figure that there is."""
        return "\n".join(f"{name:18} {_text(value)}" for name, value in vars(self).items() if value is not None)


def evaluate(ranking: pd.DataFrame, truth: pd.DataFrame, truth_name: str = "truth") -> Evaluation:
    """Compare a ranking with a truth, channel by name.

    Args:
        ranking: columns ``channel, position, score``; rows without a position are left out.
        truth: columns ``channel`` and ``informative`` (0/1) or a numeric ``grade`` (higher means more informative),
            or both; with ``grade`` alone the ten highest count as informative. Channels that share a grade across
            the tenth place are not among the ten, so that fewer remain, or, where they share the highest grade of
            all, are all of them; nothing but the truth decides. Other columns are ignored.
        truth_name: what messages call the truth.

    Raises:
        StudyError: columns are missing or malformed, a channel stands twice, or the channels differ.
    """
    _require(ranking, "ranking", ("channel", "position", "score"))
    _require(truth, truth_name, ("channel",))
    if "informative" not in truth and "grade" not in truth:
        raise StudyError(f"{truth_name}: neither a column informative (0/1) nor a column grade (a number)")
    placed = ranking[ranking["position"].notna()].sort_values("position")
    excluded = set(ranking["channel"]) - set(placed["channel"])
    truth = truth[~truth["channel"].isin(excluded)]
    _require_same_channels(placed, truth)
    matched = truth.set_index("channel").loc[placed["channel"]]
    grade = _numbers(matched, "grade") if "grade" in matched else None
    informative = _informative(matched, grade)
    score = placed["score"].to_numpy(dtype=float)
    target = informative.astype(float) if grade is None else grade
    highest = None if grade is None else _highest(grade)
    graded, overlap = (None, None) if highest is None else (int(highest.sum()), int(highest[:COMPARED_TOP].sum()))
    return Evaluation(
        num_channels=len(placed),
        num_informative=int(informative.sum()),
        recall_at=_recall(informative),
        average_precision=_average_precision(informative),
        spearman=_correlation(_spearman, score, target),
        kendall=_correlation(_kendall, score, target),
        top10_graded=graded,
        top10_overlap=overlap,
        top10_overlap_p=None if overlap is None or graded is None else _overlap_p(overlap, graded, len(placed)),
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"@{k} {share:.3f}" for k, share in value.items())
    if isinstance(value, Correlation):
        return f"{value.value:.3f}  (95 % {value.low:.3f} to {value.high:.3f})"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _require(table: pd.DataFrame, name: str, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in table]
    if missing:
        raise StudyError(f"{name}: missing columns {', '.join(missing)}; found {', '.join(map(str, table))}")
    twice = sorted(set(table["channel"][table["channel"].duplicated()]))
    if twice:
        raise StudyError(f"{name}: channels more than once: {', '.join(twice)}")


def _require_same_channels(placed: pd.DataFrame, truth: pd.DataFrame) -> None:
    only_ranking = sorted(set(placed["channel"]) - set(truth["channel"]))
    only_truth = sorted(set(truth["channel"]) - set(placed["channel"]))
    if only_ranking or only_truth:
        parts = [f"only in the ranking: {', '.join(only_ranking)}"] if only_ranking else []
        parts += [f"only in the truth: {', '.join(only_truth)}"] if only_truth else []
        raise StudyError(f"the channels of ranking and truth differ ({'; '.join(parts)}); names must be equal")


def _numbers(truth: pd.DataFrame, column: str) -> np.ndarray:
    values = pd.to_numeric(truth[column], errors="coerce")
    bad = list(truth.index[~np.isfinite(values.to_numpy(dtype=float))])
    if bad:
        raise StudyError(f"truth: {column} is not a number for {', '.join(map(str, bad))}")
    return values.to_numpy(dtype=float)


def _informative(truth: pd.DataFrame, grade: np.ndarray | None) -> np.ndarray:
    if "informative" not in truth:
        return _highest(grade if grade is not None else np.zeros(len(truth)))
    values = _numbers(truth, "informative")
    bad = list(truth.index[~np.isin(values, (0, 1))])
    if bad:
        raise StudyError(f"truth: informative must be 0 or 1, and is not for {', '.join(map(str, bad))}")
    informative: np.ndarray = values == 1
    return informative


def _highest(grade: np.ndarray) -> np.ndarray:
    """(channel,) bool; none where all grades are equal and more than ten."""
    tenth, best = np.sort(grade)[-min(COMPARED_TOP, len(grade))], grade.max()
    tied = (grade >= tenth).sum() > COMPARED_TOP
    highest: np.ndarray = grade > tenth if tied and tenth < best else grade >= tenth
    return highest & (not tied or best > grade.min())


def _recall(informative: np.ndarray) -> dict[int, float]:
    total = max(int(informative.sum()), 1)
    return {k: float(informative[:k].sum() / total) for k in RECALL_AT if k <= len(informative)}


def _average_precision(informative: np.ndarray) -> float | None:
    places = np.flatnonzero(informative) + 1
    if len(places) == 0:
        return None
    return float(np.mean(np.arange(1, len(places) + 1) / places))


def _overlap_p(overlap: int, graded: int, channels: int) -> float:
    return float(stats.hypergeom.sf(overlap - 1, channels, graded, min(COMPARED_TOP, channels)))


def _correlation(
    correlate: Callable[[np.ndarray, np.ndarray], np.ndarray], score: np.ndarray, grade: np.ndarray
) -> Correlation | None:
    """``correlate`` takes (draw, channel) twice and gives (draw,), NaN where a row is constant."""
    if np.ptp(score) == 0 or np.ptp(grade) == 0:
        return None
    drawn = np.random.default_rng(0).integers(len(score), size=(RESAMPLINGS, len(score)))
    low, high = np.nanpercentile(correlate(score[drawn], grade[drawn]), INTERVAL)
    return Correlation(float(correlate(score[None], grade[None])[0]), float(low), float(high))


def _spearman(score: np.ndarray, grade: np.ndarray) -> np.ndarray:
    return _cosine(*(_centred(stats.rankdata(values, axis=1)) for values in (score, grade)))


def _kendall(score: np.ndarray, grade: np.ndarray) -> np.ndarray:
    """τ-b: the correlation of the signs of all differences."""
    first, second = np.triu_indices(score.shape[1], 1)
    blocks = range(0, len(score), PAIRS_AT_ONCE)
    signs = ((np.sign(v[k : k + PAIRS_AT_ONCE, first] - v[k : k + PAIRS_AT_ONCE, second]) for v in (score, grade))
             for k in blocks)  # fmt: skip
    return np.concatenate([_cosine(*pair) for pair in signs])


def _centred(values: np.ndarray) -> np.ndarray:
    centred: np.ndarray = values - values.mean(axis=1, keepdims=True)
    return centred


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    cosine: np.ndarray = np.divide((a * b).sum(axis=1), scale, out=np.full(len(a), np.nan), where=scale > 0)
    return cosine
