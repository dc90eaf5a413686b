"""A comparison of runs as text for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from plexrank.evaluation.compare import Agreement, Comparison, PairOfRuns
from plexrank.wording import counted

WIDTH = 79
SHOWN_CHANNELS = 20
MOST_POSITIONS = 6
"""Runs whose positions fit beside the rest."""
LONGEST_NAME = 20


def comparison_text(comparison: Comparison) -> str:
    """Runs, pairs and the first channels; runs are called by their number."""
    number = {run.name: place for place, run in enumerate(comparison.runs, start=1)}
    lines = [f"{counted(len(number), 'run')} compared", ""]
    for run in comparison.runs:
        about = f"{counted(len(run.patients), 'patient')}, {counted(len(run.ranked), 'channel')} ranked, "
        about += f"{int(run.ranked['significant'].sum())} significant; {run.outcome}"
        lines += _wrapped(f"{number[run.name]}  {run.name}: {about}", "   ")
    for pair in comparison.pairs:
        lines += ["", *_pair_lines(pair, number)]
    lines += ["", *_table(comparison), ""]
    names = ", ".join(comparison.replicated)
    rate = f"(replicated q ≤ {comparison.fdr:g})"
    lines += _wrapped(f"{comparison.methods.found} {rate}: {names or 'none'}")
    for name, channels in comparison.only_in.items():
        if channels:
            lines += _wrapped(f"only run {number[name]} has {', '.join(channels)}", "  ")
    lines += [""] * bool(comparison.notes)
    for note in comparison.notes:
        lines += _wrapped(f"note: {note}", "  ")
    return "\n".join(lines)


def _pair_lines(pair: PairOfRuns, number: Mapping[str, int]) -> list[str]:
    head = f"{number[pair.first]} and {number[pair.second]}: {counted(pair.channels, 'channel')} in common"
    ids = f", {counted(pair.shared_patients, 'patient id')} too" if pair.shared_patients else ""
    lines = _wrapped(f"{head}{ids}")
    lines.append(f"  scores             ρ {_agreement(pair.scores)}")
    if pair.effects is not None:
        lines.append(f"  signed intensity   ρ {_agreement(pair.effects)}")
    lines += _wrapped(
        f"  first {pair.top:<2}           {pair.top_shared} shared, {pair.top_by_chance:.1f} by chance, "
        f"p {_p(pair.top_p)}"
    )
    ways = {True: ", same direction", False: ", opposite directions", None: ""}
    found = [
        f"{one.channel} ({one.by[0] if one.by[0] == one.by[1] else ' / '.join(one.by)}{ways[one.same_direction]})"
        for one in pair.found_in_both
    ]
    return lines + _wrapped(f"  significant in both: {', '.join(found) or 'none'}", "    ")


def _table(comparison: Comparison) -> list[str]:
    runs = comparison.runs if len(comparison.runs) <= MOST_POSITIONS else ()
    table = comparison.channels.head(SHOWN_CHANNELS)
    width = min(LONGEST_NAME, max(len("channel"), *(len(name) for name in table["channel"])))
    heads = "".join(f"{place:>4}" for place, _ in enumerate(runs, start=1))
    lines = [f"{'':{width}}  position in run" if runs else ""]
    lines.append(f"{'channel':{width}}{heads}  intensity q  pattern q  replicated q")
    for row in table.to_dict("records"):
        name = row["channel"] if len(row["channel"]) <= width else f"{row['channel'][: width - 1]}…"
        places = "".join(f"{_place(row[f'position_{run.name}']):>4}" for run in runs)
        q = f"{_p(row['intensity_q']):>13}{_p(row['pattern_q']):>11}{_p(row['replicated_q']):>14}"
        lines.append(f"{name:{width}}{places}{q}")
    if len(comparison.channels) > len(table):
        lines.append(f"… and {len(comparison.channels) - len(table)} more in compare.csv (--out DIR)")
    return [line for line in lines if line]


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    """Lines of the width of a terminal; names are not broken."""
    start = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.lstrip(),
        WIDTH,
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _agreement(agreement: Agreement) -> str:
    if agreement.value is None:
        return "– (does not vary)"
    if agreement.low is None:
        return f"{agreement.value:.2f} (too few channels for an interval)"
    return f"{agreement.value:.2f} (95 % {agreement.low:.2f} to {agreement.high:.2f})"


def _place(value: Any) -> str:
    return "–" if value is None or value != value or str(value) == "<NA>" else f"{int(value)}"


def _p(value: float) -> str:
    return "–" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"
