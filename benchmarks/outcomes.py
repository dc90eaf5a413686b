"""The runs behind the figures of docs/evidence.md on survival, grades and numbers: simulated cohorts to their ranking.

    python benchmarks/outcomes.py survival|ordinal|continuous [--cohorts N] [--first SEED] [--set key=value ...]
    python benchmarks/outcomes.py null_survival|null_ordinal|null_continuous [...]

Prints a line of JSON for each cohort and one that sums up.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from evidence import FDR, FEWER_DRAWS, LEVEL, LISTS, run_to_ranking, tables
from scipy import stats

from plexrank.evaluation.truth import evaluate
from plexrank.simulate import simulate

KINDS = ("survival", "ordinal", "continuous")
IMAGES = (100, 120)
"""Of cohorts in turn."""
CHANNELS, SIZE_PX = 10, 64
NULL_IMAGES, NULL_SIZE_PX = 48, 32
NULL_TRAINING = ["train.epochs=6", "train.seeds=1"]


def planted(kind: str, seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Order and calls against the truth; what the means say of the channels whose arrangement is planted.

    ``means_arrangement_auc`` is how often such a channel is associated more with the outcome, by its mean intensity,
    than a channel without a plant: 0.5 is chance.
    """
    images = IMAGES[seed % len(IMAGES)]
    study = simulate(kind, folder / "cohort", images=images, channels=CHANNELS, size_px=SIZE_PX, seed=seed)
    ranking, _, summary = tables(run_to_ranking(study, folder / "run", [*FEWER_DRAWS, *overrides]))
    truth = pd.read_csv(folder / "cohort" / "truth.csv", keep_default_na=False).set_index("channel")
    kinds = ranking["channel"].map(truth["kind"])
    by_means = ranking["mean_intensity_association"].abs()
    arranged, plain = by_means[kinds == "arrangement"], by_means[kinds == "none"]
    called, headline = ranking["significant"], summary["outcome"]["headline"]
    return {
        "images": images,
        "average_precision": evaluate(ranking, truth.reset_index()).average_precision,
        "means_arrangement_auc": float(stats.mannwhitneyu(arranged, plain).statistic / (len(arranged) * len(plain))),
        "means_arrangement_called": float((ranking["intensity_q"] <= FDR)[kinds == "arrangement"].mean()),
        "power": float(called[kinds != "none"].mean()),
        "false_discoveries": float((called & (kinds == "none")).sum() / max(int(called.sum()), 1)),
        headline: summary["held_out"][headline]["value"],
        f"means_{headline}": summary["mean_intensity"][headline]["value"],
    }


def null(kind: str, seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Whether anything is called, and how often p-values are at most ``LEVEL``, where the outcome means nothing."""
    study = simulate(kind, folder / "cohort", images=NULL_IMAGES, channels=CHANNELS, size_px=NULL_SIZE_PX, seed=seed)
    ranking, _, summary = tables(run_to_ranking(study, folder / "run", [*NULL_TRAINING, *FEWER_DRAWS, *overrides]))
    headline = summary["outcome"]["headline"]
    tested = {name: ranking[f"{name}_p"].dropna() for name in LISTS}
    return {
        "any_called": bool(ranking["significant"].any()),
        "at_chance": summary["at_chance"],
        **{f"{name}_called": bool((ranking[f"{name}_q"] <= FDR).any()) for name in LISTS},
        **{f"{name}_p": float((p <= LEVEL).mean()) if len(p) else None for name, p in tested.items()},
        headline: summary["held_out"][headline]["value"],
        "p_value": summary["held_out"]["p_value"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=[*KINDS, *(f"null_{kind}" for kind in KINDS)])
    parser.add_argument("--cohorts", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first cohort")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the study: section.key=value")
    chosen = parser.parse_args()
    run, lines = null if chosen.scenario.startswith("null_") else planted, []
    for seed in range(chosen.first, chosen.first + chosen.cohorts):
        with tempfile.TemporaryDirectory(prefix="plexrank-outcomes-") as folder:
            line = run(chosen.scenario, seed, Path(folder), chosen.set)
        print(json.dumps({"scenario": chosen.scenario, "seed": seed} | line), flush=True)
        lines.append(line)
    frame = pd.DataFrame(lines).astype(float)
    error = frame.std() / np.sqrt(frame.count())
    print(json.dumps({"mean": frame.mean().round(3).to_dict(), "standard_error": error.round(3).to_dict()}))


if __name__ == "__main__":
    main()
