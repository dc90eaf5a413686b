"""summary.json: the headline of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from plexrank.ranking.agreement import Agreement
from plexrank.ranking.controls import Controls
from plexrank.ranking.panels import Faithfulness, SmallPanel
from plexrank.ranking.prediction import Estimate, Performance
from plexrank.ranking.samples import UNKNOWN_SITE, Samples
from plexrank.ranking.sanity import Sanity
from plexrank.wording import counted

CHANCE_P = 0.05
SMALL_CLASS = 10
TIED_CRAMERS_V = 0.5


@dataclass(frozen=True)
class LeftOut:
    """What the ranking does not see.

    Attributes:
        background_tiles: tiles with too little tissue.
        skipped: image_id and reason of images that could not be used.
    """

    background_tiles: int = 0
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Counts:
    """What a ranking rests on.

    Attributes:
        patients, images, tiles: of the whole cohort.
        classes: patients per class, or events and censored patients.
        background_tiles, skipped_images: what was left out.
    """

    patients: int
    images: int
    tiles: int
    classes: dict[str, int]
    background_tiles: int
    skipped_images: int


@dataclass(frozen=True)
class NullSummary:
    """Trainings on permuted labels.

    Attributes:
        labellings: how many.
        is_variance_measured: whether λ of the pattern test comes from them.
        headline: mean of the headline measure, held out, of one seed.
        p: exact p-value of that of the first seed, None with too few labellings.
    """

    labellings: int
    is_variance_measured: bool
    headline: float
    p: float | None


@dataclass(frozen=True)
class Summary:
    """The headline figures of a run.

    Attributes:
        held_out: the ensemble on held-out samples.
        mean_intensity: the linear model of the outcome on channel means, the same folds.
        forest: random forest on channel means, the same folds.
        difference: headline measure of the ensemble less that of the linear model, paired over patients.
        outcome: its kind, and a line about it where it is no set of classes.
        without_channels: measures of a prediction that is the same for all patients, and what they are measured over,
            where that is no round number such as an AUC of 0.5.
        at_chance: held-out p-value above ``CHANCE_P``.
        confounded: label and site cannot be distinguished, so that there is no p-value.
        fdr: the q-value up to which a channel is significant.
        found: channels found to differ, by ``intensity``, ``pattern`` or ``both``.
        not_tested: why columns of the ranking are empty, by the name of the test.
        pattern_variance: λ of the pattern test; None where there is none.
        null: what trainings on permuted labels say; None where there are none.
        agreement: of the units on the order.
        controls: decoys and excluded channels that would be called.
        panel: the smallest panel that keeps the held-out performance; None where classifiers cannot be refitted.
        faithfulness: what becomes of the prediction without, or with only, the first channels; None where the networks
            have no channel embedding.
        sanity: whether the order depends on the labels, and what its first channels predict alone; None where
            classifiers cannot be refitted.
        sites: per site the patients of each class; None where no site is known.
        skipped: images that could not be used, each with the reason.
        warnings: what a reader must know.
    """

    held_out: Performance
    mean_intensity: Performance
    forest: Performance
    difference: Estimate
    outcome: dict[str, str]
    without_channels: dict[str, float | int]
    at_chance: bool
    confounded: bool
    fdr: float
    found: dict[str, list[str]]
    not_tested: dict[str, str]
    pattern_variance: float | None
    null: NullSummary | None
    counts: Counts
    agreement: Agreement
    controls: Controls
    panel: SmallPanel | None
    faithfulness: Faithfulness | None
    sanity: Sanity | None
    sites: dict[str, dict[str, int]] | None
    skipped: tuple[dict[str, str], ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; what rests on the headline measure bears its name, such as ``auc_difference``."""
        plain = {name: _plain(value) for name, value in asdict(self).items()}
        plain |= {name: getattr(self, name).to_dict() for name in ("held_out", "mean_intensity", "forest")}
        main = self.held_out.headline
        named = {
            "difference": f"{main}_difference",
            "headline": main,
            "p": f"{main}_p",
            "curve": main,
            "full": f"full_{main}",
        }
        for part in ("null", "panel"):
            if plain[part] is not None:
                plain[part] = {named.get(key, key): value for key, value in plain[part].items()}
        plain["outcome"] |= {"headline": main}
        return {named.get(key, key): value for key, value in plain.items()}


def _plain(value: Any) -> Any:
    """Lists in the place of tuples, all the way down."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class SummaryFindings:
    """Parts of the summary that say what was found and how far to trust it; see :class:`Summary`."""

    found: dict[str, list[str]]
    not_tested: dict[str, str]
    pattern_variance: float | None
    null: NullSummary | None
    agreement: Agreement
    controls: Controls
    panel: SmallPanel | None
    faithfulness: Faithfulness | None
    sanity: Sanity | None


def make_summary(
    held_out: Performance,
    mean_intensity: Performance,
    forest: Performance,
    difference: Estimate,
    findings: SummaryFindings,
    samples: Samples,
    *,
    fdr: float,
    num_images: int,
    num_tiles: int,
    left_out: LeftOut,
    warnings: Sequence[str] = (),
) -> Summary:
    """Join the figures and add the warnings that the samples themselves call for."""
    counts = Counts(
        samples.num_patients, num_images, num_tiles, samples.patients_per_group(),
        left_out.background_tiles, len(left_out.skipped),
    )  # fmt: skip
    return Summary(
        held_out=held_out,
        mean_intensity=mean_intensity,
        forest=forest,
        difference=difference,
        outcome={
            "kind": samples.outcome.kind,
            "described": samples.outcome.describe([samples.outcome.levels[label] for label in samples.label]),
            "linear_model": samples.outcome.linear_model,
        },
        without_channels=samples.outcome.without_channels(samples.label, samples.stratum),
        at_chance=is_at_chance(held_out),
        confounded=held_out.p_value is None,
        fdr=fdr,
        found=findings.found,
        not_tested=findings.not_tested,
        pattern_variance=findings.pattern_variance,
        null=findings.null,
        counts=counts,
        agreement=findings.agreement,
        controls=findings.controls,
        panel=findings.panel,
        faithfulness=findings.faithfulness,
        sanity=findings.sanity,
        sites=patients_per_site(samples),
        skipped=tuple({"image_id": image_id, "reason": reason} for image_id, reason in left_out.skipped),
        warnings=(*sample_warnings(samples), *warnings),
    )


def is_at_chance(performance: Performance) -> bool:
    """Whether prediction is not shown to be better than chance; not so where there is no p-value."""
    return performance.p_value is not None and performance.p_value > CHANCE_P


def patients_per_site(samples: Samples) -> dict[str, dict[str, int]] | None:
    """Per site the patients with each label, "(unknown)" last; None where no site is known."""
    if samples.site is None:
        return None
    named = [*enumerate(samples.site_names), (UNKNOWN_SITE, "(unknown)")]
    return {
        name: {
            group.name: int((samples.group[samples.site == site] == k).sum())
            for k, group in enumerate(samples.outcome.groups)
        }
        for site, name in named
        if (samples.site == site).any()
    }


def sample_warnings(samples: Samples) -> list[str]:
    """A label that is confounded with the site, which leads, unknown sites, and small classes."""
    small = [
        f"class {name} has {counted(count, 'patient')}; with fewer than {SMALL_CLASS} patients per class, "
        "intervals and p-values are approximate"
        for name, count in samples.patients_per_group().items()
        if samples.outcome.has_classes and count < SMALL_CLASS
    ]
    if samples.site is None:
        return small
    warnings = []
    known = samples.site != UNKNOWN_SITE
    if len(np.unique(samples.site[known])) > 1:
        tied = _classes_tied_to_sites if samples.outcome.has_classes else _outcome_tied_to_sites
        warnings += tied(samples, known, samples.site[known])
    if not known.all():
        unknown = len(np.unique(samples.patient[~known]))
        warnings.append(f"{counted(unknown, 'patient', 'has')} no site; they count as one site of their own")
    return [*warnings, *small]


def _outcome_tied_to_sites(samples: Samples, known: np.ndarray, site: np.ndarray) -> list[str]:
    """A warning where numbers or times, in a few steps by size, are confounded with the site.

    Args:
        known: (sample,) bool, which samples have a site.
        site: (known sample,).
    """
    levels = [samples.outcome.levels[label] for label in samples.label]
    step = np.unique(samples.outcome.strata(levels), return_inverse=True)[1]
    v, p = cramers_v(step[known], site)
    if v < TIED_CRAMERS_V or p >= CHANCE_P:
        return []
    return [
        f"the outcome is confounded with the site (Cramér's V {v:.2f}, p {p:.2g}): what follows it may be a difference "
        "between sites; tests compare within sites"
    ]


def _classes_tied_to_sites(samples: Samples, known: np.ndarray, site: np.ndarray) -> list[str]:
    """A warning where the label, or one class against the others, is confounded with the site; p times the classes."""
    label = samples.group[known]
    v, p = cramers_v(label, site)
    if v >= TIED_CRAMERS_V and p < CHANCE_P:
        return [
            f"the label is confounded with the site (Cramér's V {v:.2f}, p {p:.2g}): what separates the classes may be "
            f"a difference between sites; tests compare within sites, {_comparable(label, site)}"
        ]
    groups = samples.outcome.groups
    tied = sorted((-cramers_v(label == k, site)[0], k) for k in range(len(groups)))
    warnings = []
    for _, k in tied:
        name = groups[k].name
        v, p = cramers_v(label == k, site)
        p = min(p * len(groups), 1.0)
        if v >= TIED_CRAMERS_V and p < CHANCE_P:
            codes, counts = np.unique(site[label == k], return_counts=True)
            most = samples.site_names[codes[counts.argmax()]] if samples.site_names else str(codes[counts.argmax()])
            warnings.append(
                f"class {name} is confounded with the site ({counts.max()} of {counts.sum()} patients at {most}; "
                f"Cramér's V {v:.2f} against the other classes, p {p:.2g}): what marks it may be a difference between "
                f"sites; tests compare within sites, {_comparable(label, site)}"
            )
    return warnings


def _comparable(label: np.ndarray, site: np.ndarray) -> str:
    """How many samples have others of another class at their site."""
    mixed = [own for own in np.unique(site) if len(np.unique(label[site == own])) > 1]
    return f"where {np.isin(site, mixed).sum()} of {len(site)} patients share their site with another class"


def cramers_v(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Cramér's V of two integer codings and the p-value of Pearson's χ² without continuity correction."""
    table = stats.contingency.crosstab(a, b).count
    if min(table.shape) < 2:
        return 0.0, 1.0
    p = stats.chi2_contingency(table, correction=False).pvalue
    return float(stats.contingency.association(table, method="cramer")), float(p)
