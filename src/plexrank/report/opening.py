"""What the page says first: what was found and how sure it is, what was not and why, and what stands in the way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from plexrank.outcome import LINEAR_MODELS, MEASURE_NAMES
from plexrank.report.power import detectable, first_threshold
from plexrank.report.ranking_table import CONTRADICTION, agreed_direction
from plexrank.report.wording import Wording, p_value
from plexrank.statistics.power import smallest_p
from plexrank.wording import counted

MOST_NAMED = 8
"""Channels of a list that the opening names."""
MOST_WARNINGS = 3
"""Warnings that stand open; more are folded into a list."""


@dataclass(frozen=True)
class FoundList:
    """Channels that one test, or both, found.

    Attributes:
        by: ``intensity``, ``arrangement`` or ``both``.
        meaning: what was compared, as a sentence part.
        channels: name and evidence, such as ``higher in tumor, q 0.004``; the best first.
        more: how many others there are.
    """

    by: str
    meaning: str
    channels: tuple[tuple[str, str], ...]
    more: int


@dataclass(frozen=True)
class Opening:
    """The first sentences of the page, all plain text.

    Attributes:
        found: the channels by what found them.
        headline: how many there are, or that there are none.
        sureness: at what rate channels of a list are false; empty where there are none.
        not_found: where nothing is found, what was tested, what came nearest and what could have been seen.
        prediction: whether patients are predicted better than by chance, and with what certainty.
        against_means: whether that is better than with plain channel means.
        is_predicted: whether the prediction is better than chance.
        obstacles: what stands in the way, the most serious first.
    """

    headline: str
    found: tuple[FoundList, ...]
    sureness: str
    not_found: tuple[str, ...]
    prediction: str
    against_means: str
    is_predicted: bool
    obstacles: tuple[str, ...]


def make_opening(ranking: pd.DataFrame, summary: Mapping[str, Any], words: Wording) -> Opening:
    """Of the ranking table and the content of ``summary.json``."""
    found = _found_lists(ranking, summary, words)
    is_tested = not summary["confounded"]
    return Opening(
        headline=_headline(summary, words),
        found=found,
        sureness=_sureness(summary, found),
        not_found=() if found or not is_tested else _not_found(ranking, summary, words),
        prediction=_prediction(summary, words),
        against_means=_against_means(summary),
        is_predicted=is_tested and not summary["at_chance"],
        obstacles=tuple(map(_as_sentence, [*_unordered(ranking, summary), *summary["warnings"]])),
    )


def _unordered(ranking: pd.DataFrame, summary: Mapping[str, Any]) -> list[str]:
    """That classes which are numbers were taken as groups without an order."""
    classes = list(summary["counts"]["classes"])
    is_graded = summary["outcome"]["kind"] == "nominal" and len(classes) > 2 and all(map(_reads_as_number, classes))
    if not is_graded or ranking["trend"].notna().any():
        return []
    return [
        f"the classes {', '.join(classes)} were taken as groups without an order, so a steady rise or fall was not "
        "tested; cohort.outcome: ordinal does that, to be chosen before looking at results"
    ]


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _headline(summary: Mapping[str, Any], words: Wording) -> str:
    if summary["confounded"]:
        return f"{words.noun.capitalize()} and site cannot be distinguished"
    counts = {by: len(summary["found"][by]) for by in ("intensity", "pattern", "both")}
    total = sum(counts.values())
    if not total:
        nor = (
            ": arrangement was not tested"
            if "pattern" in summary["not_tested"]
            else ", neither by intensity nor by arrangement"
        )
        by = " by intensity" if "pattern" in summary["not_tested"] else ""
        return f"No channel is found to {words.to}{by}{nor}"
    does = f"channels {words.many}" if total > 1 else f"channel {words.one}"
    called = {"intensity": "by intensity", "pattern": "by arrangement", "both": "by both"}
    return f"{total} {does} ({', '.join(f'{counts[by]} {called[by]}' for by in called if counts[by])})"


def _found_lists(ranking: pd.DataFrame, summary: Mapping[str, Any], words: Wording) -> tuple[FoundList, ...]:
    rows: dict[str, Mapping[Any, Any]] = {str(record["channel"]): record for record in ranking.to_dict("records")}
    meanings = {
        "both": "their mean intensity and, beyond it, how their signal lies in the tissue",
        "intensity": f"their mean intensity {'rises or falls' if words.has_signed_effect else 'differs'}",
        "pattern": "the pattern test: how their signal lies in the tissue; the test of mean intensity finds nothing, "
        f"q > {summary['fdr']:g}",
    }
    lists = []
    for by, meaning in meanings.items():
        names = sorted(summary["found"][by], key=lambda name: _least_q(rows.get(name)))
        evidence = tuple((name, _evidence(rows.get(name), by, words)) for name in names[:MOST_NAMED])
        if names:
            called = "arrangement" if by == "pattern" else by
            lists.append(FoundList(called, meaning, evidence, len(names) - len(evidence)))
    return tuple(lists)


def _least_q(record: Mapping[Any, Any] | None) -> float:
    values = [] if record is None else [record["intensity_q"], record["pattern_q"]]
    return min((float(value) for value in values if not pd.isna(value)), default=1.0)


def _evidence(record: Mapping[Any, Any] | None, by: str, words: Wording) -> str:
    """In a few words why one channel is found, such as ``clustering at 20 µm, q 0.002``."""
    if record is None:
        return ""
    parts = []
    direction = agreed_direction(record, words)
    end = direction.rsplit(" ", 1)[0]
    if by != "pattern" and direction not in ("", "–", CONTRADICTION):
        parts.append(_higher(end, words))
    if by != "intensity" and (seen := _beyond_brightness(str(record["reads"]))):
        parts.append(seen)
    tests = {"intensity": ("intensity",), "pattern": ("pattern",), "both": ("intensity", "pattern")}[by]
    q = max(float(record[f"{test}_q"]) for test in tests)
    return ", ".join([*parts, _equal("q", q) + (" or less in each" if by == "both" else "")])


def _higher(end: str, words: Wording) -> str:
    """Where a channel is brighter: ``higher in tumor``, ``rises with the grade``, ``higher with early events``."""
    if not words.has_signed_effect:
        return f"higher in {end}"
    if end in ("early", "late"):
        return f"higher with {end} events"
    return f"{'rises' if end == 'high' else 'falls'} with the {words.noun}"


def _beyond_brightness(reads: str) -> str:
    """``clustering at 10 µm`` of ``brightness (r² 0.66) and, beyond it, clustering at 10 µm (r² 0.79)``."""
    named = re.search(r"beyond it, (.+?) \(r²", reads) or re.fullmatch(
        r"(?!brightness|neither)(.+?) \(r² [0-9.]+\)", reads
    )
    return named[1] if named else ""


def _equal(symbol: str, value: Any) -> str:
    """``q 0.012``, ``q < 0.001``."""
    return f"{symbol} {p_value(value)}"


def _sureness(summary: Mapping[str, Any], found: Sequence[FoundList]) -> str:
    if not found:
        return ""
    rate = f"{100 * summary['fdr']:g} %"
    return (
        f"How sure: of the channels that intensity calls, and of those that arrangement calls, at most {rate} are "
        f"expected to be false (false-discovery rate {summary['fdr']:g}), of both lists together at most twice as "
        "many. q is the rate at which a channel is just called."
        f"{' Patients are compared within sites.' if summary['sites'] else ''}"
    )


def _not_found(ranking: pd.DataFrame, summary: Mapping[str, Any], words: Wording) -> tuple[str, ...]:
    tested = ranking[~ranking["excluded"].astype(bool)]
    number = int(tested["intensity_p"].notna().sum())
    if not number:
        return ()
    patients = counted(summary["counts"]["patients"], "patient")
    within = ", within sites" if summary["sites"] else ""
    fdr = summary["fdr"]
    and_arrangement = "" if "pattern" in summary["not_tested"] else " and by its arrangement"
    threshold = first_threshold(fdr, number)
    tested_and_nearest = [
        f"Tested: {counted(number, 'channel')} on {patients}{within}, each by its mean intensity{and_arrangement}, at "
        f"a false-discovery rate of {fdr:g}.",
        *_nearest(tested),
    ]
    seen = [f"To be called, the best of {counted(number, 'channel')} needs p ≤ {threshold:.2g}."]
    seen += _could_be_seen(summary, threshold)
    seen.append(f"This result does not show that no channel {words.one}.")
    return (" ".join(tested_and_nearest), " ".join(seen))


def _nearest(tested: pd.DataFrame) -> list[str]:
    """The channel with the least p-value of either test."""
    best: tuple[float, str, str, Any] | None = None
    for test, called in (("intensity", "intensity"), ("pattern", "arrangement")):
        for row in tested[tested[f"{test}_p"].notna()].to_dict("records"):
            if best is None or float(row[f"{test}_p"]) < best[0]:
                best = (float(row[f"{test}_p"]), str(row["channel"]), called, row[f"{test}_q"])
    if best is None:
        return []
    p, channel, called, q = best
    column = "intensity_q" if called == "intensity" else "pattern_q"
    alike = [str(name) for name in tested.loc[tested[column] == q, "channel"] if name != channel]
    same = f" ({', '.join(alike[:MOST_NAMED])}{', …' if len(alike) > MOST_NAMED else ''} share this q)" if alike else ""
    return [f"Nearest comes {channel}, by {called}: {_equal('p', p)}, {_equal('q', q)}{same}."]


def _could_be_seen(summary: Mapping[str, Any], threshold: float) -> list[str]:
    """The smallest effect that is found with a fair chance, or that none can be."""
    kind, patients = summary["outcome"]["kind"], summary["counts"]["classes"]
    if kind == "nominal":
        of_sites = [list(counts.values()) for counts in (summary["sites"] or {"": patients}).values()]
        if (least := smallest_p(of_sites)) > threshold:
            within = " within sites" if summary["sites"] else ""
            return [f"With so few patients none can: labels exchanged{within} give no p below {least:.2g}."]
    size = detectable(kind, patients, threshold)
    return [] if size is None else [_seen_from(summary, size)]


def _seen_from(summary: Mapping[str, Any], size: float) -> str:
    """An effect in the words of the kind."""
    kind, patients = summary["outcome"]["kind"], summary["counts"]["classes"]
    sites = ", sites not counted" if summary["sites"] else ""
    chance = f"with a chance of about 80 %, were it the only one{sites}"
    if kind == "survival":
        events = next(iter(patients.values()))
        return (
            f"With {counted(events, 'event')}, a channel is found {chance}, if the hazard changes {size:.1f}-fold for "
            "one standard deviation of its intensity; weaker ones mostly stay unseen."
        )
    if kind == "nominal":
        name = min(patients, key=lambda label: patients[label])
        others = sum(patients.values()) - patients[name]
        return (
            f"With {counted(patients[name], 'patient')} of class {name} against {others} others, a channel is found "
            f"{chance}, if its mean intensities in the two lie {size:.1f} standard deviations apart; "
            "smaller differences mostly stay unseen."
        )
    return (
        f"With {counted(summary['counts']['patients'], 'patient')}, a channel is found {chance}, if its mean intensity "
        f"correlates with ρ = ±{size:.2f}; weaker ones mostly stay unseen."
    )


def _prediction(summary: Mapping[str, Any], words: Wording) -> str:
    main = summary["outcome"]["headline"]
    held, measure = summary["held_out"], MEASURE_NAMES[main]
    is_mean = main == "auc" and len(summary["counts"]["classes"]) > 2
    of_classes = " (mean over the classes, each against the others; 0.5 is chance)" if is_mean else ""
    reached = f"{measure}{of_classes} {_number(held[main]['value'])}"
    interval = f" (95 % interval {_number(held[main]['low'])} to {_number(held[main]['high'])})"
    p = f"{words.noun}-permutation {_equal('p', held['p_value'])}"
    if summary["confounded"]:
        return f"Held-out prediction reaches {reached}{interval}; it cannot be tested."
    if summary["at_chance"]:
        return (
            f"Held-out prediction is not shown to be better than chance: {reached}{interval}, {p}. The order by score "
            "is no evidence by itself; the tests of single channels do not depend on it."
        )
    both = (
        ""
        if any(summary["found"].values())
        else (
            " Both can be true: weak differences of many channels together can predict, while none is strong enough "
            "alone."
        )
    )
    return f"Held-out prediction is better than chance: {reached}{interval}, {p}.{both}"


def _against_means(summary: Mapping[str, Any]) -> str:
    main = summary["outcome"]["headline"]
    plain, difference = summary["mean_intensity"][main], summary[f"{main}_difference"]
    model = LINEAR_MODELS[summary["outcome"]["linear_model"]]
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        verdict = "Whether that is better than plain channel means is not known"
    elif low > 0:
        verdict = "It is better than with plain channel means"
    elif high < 0:
        verdict = "It is worse than with plain channel means"
    elif difference["value"] < 0:
        verdict = "It is not better than with plain channel means"
    else:
        verdict = "It is not shown to be better than with plain channel means"
    reached = f"{verdict}: a {model} on these reaches {_number(plain['value'])}"
    if low is None or high is None:
        return f"{reached}."
    return (
        f"{reached}, and the difference is {_signed(difference['value'])} ({_signed(low)} to {_signed(high)}, paired "
        "over patients)."
    )


def _as_sentence(warning: str) -> str:
    """With a capital and a full stop; names and paths at its start stay as they are."""
    first = warning.split(" ", 1)[0]
    begun = warning[:1].upper() + warning[1:] if first.isalpha() and first.islower() else warning
    return begun if begun.endswith((".", "!", "?")) else f"{begun}."


def _number(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:+.3f}".replace("-", "−")
