"""How well risks or survival probabilities foretell times to an event, for many weightings of the samples at once.

Everywhere: time (sample,) float > 0; event (sample,) bool, False where censored, at equal times events come before
censoring; risk (sample,) float, the higher the earlier the event; weights (draw, sample) float ≥ 0, how often each
sample counts in each draw of a bootstrap. Pairs of two samples weigh w_i · w_j, and a sample is no pair with itself,
however often it was drawn. Results are NaN where nothing is comparable.

Inverse probabilities of censoring (IPCW) come from one Kaplan-Meier estimate G of the time to censoring, of all samples
and without weights. An event at T was seen because censoring did not come before: it weighs 1 / G(T−). scikit-survival
0.28 and torchsurv 0.2 take G(T), as the papers write it for times without ties. It differs where an event and a
censoring have the same time: G(T) takes the event, which comes first, for one that this censoring could have hidden.
"""

from __future__ import annotations

import numpy as np

from plexrank.arrays import Array, FloatArray
from plexrank.statistics.survival import censoring_survival

LEAST_AT_RISK = 0.1
"""Share of the samples that are still at risk at the horizon."""


def horizon(time: Array, event: Array) -> float:
    """The time up to which metrics are taken: the last event time that enough samples reach.

    At least 10 % of all samples are at risk then, and at least one is followed for longer: an event time without
    anyone after it has no controls, and G may be 0 there.

    Returns:
        NaN where there is no such event, as with no events at all; all metrics at NaN are NaN.
    """
    observed = np.sort(time)
    at_risk = len(time) - np.searchsorted(observed, time, side="left")
    usable = time[np.logical_and(event, (at_risk / len(time) >= LEAST_AT_RISK) & (time < observed[-1]))]
    return float(usable.max()) if len(usable) else np.nan


def concordance(risk: Array, time: Array, event: Array, weights: Array, stratum: Array | None = None) -> FloatArray:
    """Harrell's C (1982): share of comparable pairs in which the earlier event had the higher risk.

    Comparable are an event and whatever lasted longer, censored at the same time included; equal risks count half.
    Where strata are given, (sample,) int, only pairs of one stratum are.

    Returns:
        (draw,) 0 to 1.
    """
    return _concordance(risk, _comparable(time, event, stratum), weights)


def comparable_events(time: Array, event: Array, stratum: Array | None = None) -> int:
    """How many events have somebody of their stratum to compare with, who lasted longer."""
    return int(_comparable(time, event, stratum).any(axis=1).sum())


def uno_concordance(
    risk: Array, time: Array, event: Array, weights: Array, tau: float, stratum: Array | None = None
) -> FloatArray:
    """Uno's C (Uno et al. 2011): pairs whose earlier event came before ``tau``, weighed 1 / G(T−)².

    Unlike Harrell's it does not depend on when samples happened to be censored.

    Args:
        tau: events at it or later do not count; see :func:`horizon`.

    Returns:
        (draw,) 0 to 1.
    """
    weight = np.where(time < tau, censoring_survival(time, event).before(time) ** -2.0, 0.0)
    return _concordance(risk, weight[:, None] * _comparable(time, event, stratum), weights)


def dynamic_auc(risk: Array, time: Array, event: Array, weights: Array, times: Array) -> FloatArray:
    """Cumulative/dynamic AUC (Uno et al. 2007; Hung & Chiang 2010): those with an event by t against those after t.

    Cases weigh 1 / G(T−); controls are seen at t with one probability G(t), which cancels. Samples censored by t are
    neither. Equal risks count half.

    Args:
        times: (time,) float.

    Returns:
        (draw, time) 0 to 1.
    """
    inverse = 1 / censoring_survival(time, event).before(time)
    result = np.full((len(weights), len(times)), np.nan)
    for column, t in enumerate(times):
        case, control = np.flatnonzero(np.logical_and(event, time <= t)), np.flatnonzero(time > t)
        of_cases, of_controls = weights[:, case] * inverse[case], weights[:, control]
        ordered = ((of_cases @ _higher(risk[case], risk[control])) * of_controls).sum(axis=1)
        result[:, column] = _ratio(ordered, of_cases.sum(axis=1) * of_controls.sum(axis=1))
    return result


def brier_score(survival: Array, time: Array, event: Array, weights: Array, times: Array) -> FloatArray:
    """Brier score (Graf et al. 1999): mean of (1{T > t} − S(t))², lower is better, ¼ for S = ½.

    Who had an event by t weighs 1 / G(T−), who is followed beyond t weighs 1 / G(t).

    Args:
        survival: (sample, time) probability of no event by each time.
        times: (time,) float.

    Returns:
        (draw, time); NaN where G(t) is 0.
    """
    censoring = censoring_survival(time, event)
    case = np.where(np.logical_and(event[:, None], time[:, None] <= times), 1 / censoring.before(time)[:, None], 0.0)
    followed = censoring.at(times)
    known = (followed > 0) & ~np.isnan(times)
    control = np.where(time[:, None] > times, 1 / np.where(known, followed, 1.0), 0.0)
    score = weights @ (case * survival**2 + control * (1 - survival) ** 2)
    return np.where(known, _ratio(score, np.broadcast_to(weights.sum(axis=1, keepdims=True), score.shape)), np.nan)


def integrated_brier_score(survival: Array, time: Array, event: Array, weights: Array, times: Array) -> FloatArray:
    """Mean of the Brier score between the first and the last time, by the trapezoidal rule.

    With 0 as the first time, where every sample survives, it is that of Graf et al. (1999), which begins there.

    Args:
        survival: (sample, time) probability of no event by each time.
        times: (time,) float, ascending; two at least.

    Returns:
        (draw,); NaN where one of the scores is.
    """
    scores = brier_score(survival, time, event, weights, times)
    mean: FloatArray = np.trapezoid(scores, times, axis=1) / (times[-1] - times[0])
    return mean


def _comparable(time: Array, event: Array, stratum: Array | None = None) -> Array:
    """(earlier, later) bool: the first had an event while the second was at risk, and kept on without one.

    Of the same stratum, where there are strata.
    """
    later = (time[:, None] < time) | ((time[:, None] == time) & np.logical_not(event))
    if stratum is not None:
        later &= stratum[:, None] == stratum
    comparable: Array = np.logical_and(event[:, None], later)
    return comparable


def _higher(risk: Array, other: Array) -> Array:
    """(sample, other) 1 where the risk is above that of the other, ½ where equal."""
    higher: Array = (risk[:, None] > other) + 0.5 * (risk[:, None] == other)
    return higher


def _concordance(risk: Array, pairs: Array, weights: Array) -> FloatArray:
    """Args: pairs: (earlier, later) weight of each pair, 0 on the diagonal."""
    ordered = ((weights @ (pairs * _higher(risk, risk))) * weights).sum(axis=1)
    return _ratio(ordered, ((weights @ pairs) * weights).sum(axis=1))


def _ratio(part: Array, whole: Array) -> FloatArray:
    ratio: FloatArray = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio
