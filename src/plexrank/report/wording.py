"""What the report says of each kind of outcome: the page and its figures ask for words here and know no kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from plexrank.outcome.continuous import Continuous
from plexrank.outcome.nominal import Nominal
from plexrank.outcome.ordinal import Ordinal
from plexrank.outcome.survival import Survival

_PATTERN_EFFECT = "rank correlation of held-out patients with what training expects"


@dataclass(frozen=True)
class Wording:
    """Phrases for one kind of outcome, each to go into a sentence of the page.

    Attributes:
        question: what the page asks of channels, up to the counts; ``{column}`` is where the outcome's column goes.
        one, many, to: what a found channel does: ``the channel …``, ``channels …``, ``found to …``.
        relation: what proteins or sites may do.
        found: what an excluded channel would be.
        listed: what a found channel is called in a figure, before ``by intensity``.
        evidence: what small p-values speak for.
        noun, nouns: a patient's outcome; those of all patients.
        intensity_effect: symbol of the effect size of the intensity test.
        effects: what both effect sizes mean.
        loss: by which reliance is measured.
        direction: what the direction of the intensity means, up to the semicolon.
        chance: the headline measure of predictions that know nothing.
    """

    question: str
    one: str
    many: str
    to: str
    relation: str
    found: str
    listed: str
    evidence: str
    noun: str
    nouns: str
    intensity_effect: str
    effects: str
    loss: str
    direction: str
    chance: float

    @property
    def has_signed_effect(self) -> bool:
        """Whether the effect size of the intensity is a correlation, with a sign."""
        return self.intensity_effect == "ρ"


def _ordered(noun: str, loss: str, chance: float) -> Wording:
    """Phrases for numbers along which channels rise or fall."""
    return Wording(
        question=f"go along with the {noun}{{column}}:",
        one=f"rises or falls with the {noun}",
        many=f"rise or fall with the {noun}",
        to=f"rise or fall with the {noun}",
        relation=f"go along with the {noun}",
        found="found",
        listed="found",
        evidence=f"evidence of a rise or fall with the {noun}",
        noun=noun,
        nouns=f"{noun}s",
        intensity_effect="ρ",
        effects=f"ρ of the intensity (rank correlation with the {noun}, below 0 where it falls) and ρ of the pattern "
        f"({_PATTERN_EFFECT})",
        loss=loss,
        direction=f"Whether the mean intensity is higher in the patients with a high or in those with a low {noun} "
        "(above the median, or up to it), and the log2 ratio of their means",
        chance=chance,
    )


WORDINGS: dict[str, Wording] = {
    Nominal.kind: Wording(
        question="separate the groups{column}:",
        one="differs between the groups",
        many="differ between the groups",
        to="differ between the groups",
        relation="separate the classes",
        found="found to differ",
        listed="differs",
        evidence="evidence of a difference between groups",
        noun="label",
        nouns="labels",
        intensity_effect="ε²",
        effects=f"ε² (share of the variance of ranks, 0 to 1) and ρ ({_PATTERN_EFFECT})",
        loss="class-balanced log loss",
        direction="The class with the highest mean intensity, and the log2 ratio to the other classes",
        chance=Nominal.chance,
    ),
    Ordinal.kind: _ordered("grade", "log loss", Ordinal.chance),
    Continuous.kind: _ordered("value", "squared deviation in units of the variance", Continuous.chance),
    Survival.kind: Wording(
        question="go along with survival (time to event{column}):",
        one="is associated with the hazard",
        many="are associated with the hazard",
        to="be associated with the hazard",
        relation="go along with survival",
        found="found",
        listed="found",
        evidence="evidence of an association with the hazard",
        noun="outcome",
        nouns="outcomes",
        intensity_effect="ρ",
        effects="ρ of the intensity (rank correlation with the martingale residual, events seen less events expected, "
        f"above 0 where events come earlier) and ρ of the pattern ({_PATTERN_EFFECT})",
        loss="minus the log likelihood of a proportional hazard",
        direction="Whether the mean intensity is higher in the half of the patients with early or with late events, "
        "given how long each was followed (by martingale residuals), and the log2 ratio of their means",
        chance=Survival.chance,
    ),
}
"""By the kind of outcome."""


def wording_of(summary: Mapping[str, Any]) -> Wording:
    """The phrases for a run, of the content of its ``summary.json``; one that names no kind is of classes."""
    return WORDINGS[summary.get("outcome", {}).get("kind", Nominal.kind)]


def p_value(value: Any) -> str:
    """``0.012``, ``< 0.001``, and a dash where there is none."""
    if value is None or pd.isna(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
