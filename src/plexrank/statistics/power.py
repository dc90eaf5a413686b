"""What a test of ranks could have found: how large a shift of one group, and the smallest p-value there is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import optimize, stats


def detectable_shift(sizes: Sequence[int], threshold: float, power: float) -> float | None:
    """The shift of the smallest group against all others that a Kruskal-Wallis test finds with a given chance.

    The statistic is taken for noncentral χ² with k − 1 degrees of freedom, of noncentrality 12 n (N − n) (P − 1/2)² /
    (N + 1), with P = Φ(δ / √2) the chance that a number of the group is above one of another: what its expected ranks
    add, for numbers that are normal and alike but for the shift (Noether, J. Am. Stat. Assoc. 82:645, 1987, for k = 2).

    Args:
        sizes: of the k groups.
        threshold: the p-value that is needed, above 0.
        power: the chance, between ``threshold`` and 1.

    Returns:
        δ in standard deviations within groups; ``None`` with fewer than two in or outside the smallest group, and
        where no shift is found so often.
    """
    smallest, total = min(sizes, default=0), sum(sizes)
    if smallest < 2 or total - smallest < 2:
        return None
    freedom = len(sizes) - 1
    reach = float(stats.chi2.isf(threshold, freedom))
    needed = optimize.brentq(lambda way: float(stats.ncx2.sf(reach, freedom, way)) - power, 1e-9, 20 * reach + 100)
    above = 0.5 + math.sqrt(needed * (total + 1) / (12 * smallest * (total - smallest)))
    return math.sqrt(2) * float(stats.norm.ppf(above)) if above < 1 else None


def smallest_p(sizes: Sequence[Sequence[int]]) -> float:
    """The least p-value of a permutation test over groups, or a little less.

    Args:
        sizes: (site, group) patients; permuted within sites.
    """
    log_labellings = sum(
        math.lgamma(sum(of_site) + 1) - sum(math.lgamma(size + 1) for size in of_site) for of_site in sizes
    )
    mirrored = 2 if len(sizes) == 1 and len(sizes[0]) == 2 and sizes[0][0] == sizes[0][1] else 1
    return min(1.0, mirrored * math.exp(-log_labellings))
