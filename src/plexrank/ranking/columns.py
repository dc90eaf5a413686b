"""The columns of ranking.csv, each declared here and nowhere else, in their order.

``python -m plexrank.ranking.columns > docs/columns.md`` writes their documentation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of ranking.csv.

    Attributes:
        name: as it stands there.
        unit: of its values.
        meaning: what it says of a channel.
        computed: how.
        test: the test whose effect size it is, by the name that its p- and q-value carry; empty for other columns.
    """

    name: str
    unit: str
    meaning: str
    computed: str
    test: str = ""


def _tested(test: str, how_tested: str, effect: Column) -> tuple[Column, Column, Column]:
    """The effect size of a test, its p-value and its q-value."""
    return (
        Column(effect.name, effect.unit, effect.meaning, effect.computed, test),
        Column(f"{test}_p", "p-value", f"of the test of `{effect.name}`", how_tested),
        Column(f"{test}_q", "q-value", f"of the same test: `{test}_p` over all ranked channels", "Benjamini–Hochberg"),
    )


_BOOTSTRAP = "bootstrap of patients; holds for all channels at once (95 %), hence for whichever comes out first"
_BY_PERMUTATION = (
    "permutation of the labels (all labellings where there are at most 100,000, within sites where there are sites)"
)
_LOSS_TEST = (
    "one-sided t-test over the held-out patients; empty with fewer than eight patients in a class, or eight events"
)
_RANK_CORRELATION_TEST = "one-sided, by permutation of the labels"
_EXACT = "against trainings on permuted labels (`rank.null_trainings` of 200 or more); the first seed is compared"

EXACT_STATISTICS = ("score", "pattern", "reliance")
"""What is compared with trainings on permuted labels: columns ``<name>_exact_p`` and ``<name>_max_p``."""

COLUMNS = (
    Column(
        "position", "1, 2, …", "1 = most informative; empty for `exclude_channels`, which stand at the end", "`score`"
    ),
    Column("channel", "text", "name of the channel", "the panel's, or the images' own"),
    Column(
        "score",
        "share",
        "the channel's share of the importance; equal channels would have 1 / channels each",
        "mean over the patients who have the channel, and over seeds",
    ),
    Column("score_low", "share", "lower end of the interval of `score`", _BOOTSTRAP),
    Column("score_high", "share", "upper end of the interval of `score`", _BOOTSTRAP),
    Column("position_low", "1, 2, …", "lower end of the interval of `position`", _BOOTSTRAP),
    Column("position_high", "1, 2, …", "upper end of the interval of `position`", _BOOTSTRAP),
    Column("p_top10", "share", "of resamplings in which the channel is among the first ten", "bootstrap of patients"),
    Column(
        "significant",
        "true/false",
        "whether the channel is found to differ between the groups",
        "`intensity_q` or `pattern_q` is at most `rank.fdr`: each of the two lists is at that rate, their union at "
        "twice the rate at most",
    ),
    Column("found_by", "text", "`intensity`, `pattern` or `both`; empty where neither finds it", "as `significant`"),
    *_tested(
        "intensity",
        _BY_PERMUTATION,
        Column(
            "mean_intensity_association",
            "ε², 0–1; ρ, −1–1",
            "share of the variation of the patients' mean intensity that the classes explain, or its correlation with "
            "an outcome that has an order, above 0 for earlier events in survival: would it have shown anyway?",
            "of ranks, within sites where there are sites; with grades, numbers, or martingale residuals",
        ),
    ),
    Column("mean_intensity_q", "q-value", "equals `intensity_q`", "as there"),
    *_tested(
        "pattern",
        _RANK_CORRELATION_TEST,
        Column(
            "pattern_association",
            "ρ",
            "what the embedding reads beyond brightness (log mean intensity and its square)",
            "rank correlation of held-out patients with what the training patients of their network say of the label",
        ),
    ),
    Column(
        "combined_p",
        "p-value",
        "of intensity and pattern together, for whoever wants one list at one rate",
        "Cauchy combination of `intensity_p` and `pattern_p`",
    ),
    Column("combined_q", "q-value", "`combined_p` over all ranked channels", "Benjamini–Hochberg"),
    *_tested(
        "reliance",
        _LOSS_TEST,
        Column(
            "reliance",
            "loss",
            "permutation importance: how much worse the held-out prediction gets without the channel, that is, "
            "what the model uses. It may use a channel only to subtract what all share",
            "rise of the loss when the channel is exchanged between patients (of the same site where there are sites): "
            "log loss, class-balanced for classes without an order; squared error in variances; minus the log "
            "likelihood of the events; empty with fewer than eight patients in a class, or eight events",
        ),
    ),
    *_tested(
        "adds",
        _LOSS_TEST,
        Column(
            "adds",
            "loss",
            "what no other channel can stand in for",
            "as `reliance`, when only that is exchanged which the other channels do not explain",
        ),
    ),
    Column(
        "reads",
        "text",
        "which image statistic explains the embedding on held-out patients, and how much (r²), and which one explains "
        "what brightness leaves: `brightness (r² 0.92)`, `brightness (r² 0.66) and, beyond it, clustering at 10 µm "
        "(r² 0.79)`, `neither …` where none explains 30 %",
        "the best of `tiles/statistics.parquet`; all of them in `reads.csv`",
    ),
    Column(
        "direction",
        "text",
        "the class with the highest mean intensity, with `direction_log2`: `tumor +2.4`; of an outcome with an order "
        "the half of the patients: `high +0.8`, `low +0.8`, in survival `early +0.8` or `late +0.8`",
        "means over patients; the test for it is that of the intensity",
    ),
    Column(
        "direction_log2",
        "log2",
        "of the ratio of that class's or half's mean intensity to that of the others",
        "as there",
    ),
    Column(
        "stability",
        "≤ 1",
        "1 is the same position in every training, 0 as loose as chance; stricter than the interval, since each "
        "training counts by itself",
        "1 minus the spread of the position over folds and seeds, relative to that of a random order",
    ),
    Column("n_patients", "patients", "that have the channel: what the row rests on", "count"),
    Column("n_images", "images", "that have the channel", "count"),
    Column("n_tiles", "tiles", "that have the channel", "count"),
    Column("excluded", "true/false", "whether it is a negative control", "`cohort.exclude_channels`"),
    Column(
        "borda_position",
        "1, 2, …",
        "position by the mean position instead of the mean importance",
        "Borda count over folds and seeds",
    ),
    *_tested(
        "trend",
        _RANK_CORRELATION_TEST,
        Column(
            "trend",
            "ρ",
            "as `pattern_association`, where `rank.ordered` gives the classes an order",
            "a slope along the order, learned from the training patients",
        ),
    ),
    *_tested(
        "mean_intensity_trend",
        _BY_PERMUTATION,
        Column(
            "mean_intensity_trend",
            "ρ",
            "association of the mean intensity with the order of the classes",
            "Spearman's correlation",
        ),
    ),
    *_tested(
        "site",
        "permutation of the patients' sites",
        Column(
            "site_association",
            "ε², 0–1",
            "where there are sites: association of the held-out embedding with the site",
            "each network by itself",
        ),
    ),
    Column(
        "group",
        "number",
        "channels that share it are highly correlated: treat as interchangeable",
        "mean absolute Spearman correlation over patients above 0.7",
    ),
    *(
        column
        for name in EXACT_STATISTICS
        for column in (
            Column(f"{name}_exact_p", "p-value", f"exact, of the {name}, for the channel alone", _EXACT),
            Column(
                f"{name}_max_p", "p-value", f"of `{name}` against the largest of all channels (family-wise)", _EXACT
            ),
        )
    ),
    Column(
        "null_score_low",
        "share",
        "lower end of the band of the score that stands at this position where labels mean nothing",
        "95 % of the trainings on permuted labels",
    ),
    Column("null_score_high", "share", "upper end of that band", "as there"),
)

RANKING_COLUMNS = tuple(column.name for column in COLUMNS)
"""Their names, in their order."""
EFFECT_COLUMNS = {column.test: column.name for column in COLUMNS if column.test}
"""The tests of a channel, each with the column of its effect size; beside it ``<test>_p`` and ``<test>_q``."""


def page() -> str:
    """docs/columns.md."""
    rows = [f"| `{column.name}` | {column.unit} | {column.meaning} | {column.computed} |" for column in COLUMNS]
    lines = [
        "# The columns of `ranking/ranking.csv` (and `.parquet`)",
        "",
        "One row a channel, best first. The other files of a run: [tables.md](tables.md).",
        "",
        "| column | unit | meaning | how computed |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        "Empty p-values have their reason in `summary.json`, under `not_tested`; those of a single channel are empty",
        "where too few patients have it: one class of them or one possible labelling only, for `reliance` and `adds`",
        "fewer than eight in a class, or eight events.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
