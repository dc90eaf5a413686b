"""The runs behind the figures in docs/evidence.md: simulated cohorts and real images, from files to ranking.

    python benchmarks/evidence.py null|spatial|paper|hierarchy|exact [--cohorts N] [--first SEED] [--set key=value ...]
    python benchmarks/evidence.py labels --study configs/dcis_mibi.yaml --labels tissue er_status ... [--set ...]

Prints a line of JSON for each cohort and one that sums up, for labels of real images a row of a table. Everything is
small, so that a laptop does it in minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from plexrank.attribution.store import AttributionStore
from plexrank.evaluation.truth import evaluate
from plexrank.launch.opening import open_run, running
from plexrank.planning.order import STAGES
from plexrank.planning.plan import Plan, make_plan
from plexrank.progress import Reporter
from plexrank.simulate import simulate
from plexrank.stages.pipeline import run_stages
from plexrank.study import load_study

SIZES = {"null": (32, 8, 32), "spatial": (60, 10, 48), "paper": (72, 10, 96), "hierarchy": (96, 12, 64)}
TRAINING = {
    "null": ["train.epochs=6", "train.seeds=1"],
    "spatial": ["train.epochs=20", "train.seeds=2", "train.batch_tiles=8"],
    "paper": ["train.epochs=12", "train.seeds=1", "train.batch_tiles=8"],
    "hierarchy": ["train.epochs=4", "train.seeds=1"],
}
FEWER_DRAWS = ["rank.bootstrap=500", "rank.permutations=500"]
FDR, LEVEL = 0.1, 0.05
NULL_KINDS = ((32, 3, 3), (32, 5, 4), (32, 9, 4), (32, 16, 4), (64, 3, 3), (64, 5, 4), (64, 9, 4), (64, 32, 4))
"""Images, those of the smaller class, and folds."""
LISTS = ("intensity", "pattern", "combined", "reliance", "adds")


def run_to_ranking(study: Path, run: Path, overrides: list[str]) -> Plan:
    """Every stage up to the ranking, in this process."""
    plan = open_run(run, study, overrides, Reporter(quiet=True))
    with running(plan):
        run_stages(plan, STAGES[: STAGES.index("rank") + 1], Reporter(quiet=True))
    return make_plan(plan.rundir, plan.study)


def simulated(scenario: str, seed: int, folder: Path, overrides: list[str]) -> tuple[Plan, pd.DataFrame]:
    """The plan of a finished run, and the truth."""
    images, channels, size_px = SIZES[scenario]
    study = simulate(scenario, folder / "cohort", images=images, channels=channels, size_px=size_px, seed=seed)
    plan = run_to_ranking(study, folder / "run", [*TRAINING[scenario], *FEWER_DRAWS, *overrides])
    return plan, pd.read_csv(folder / "cohort" / "truth.csv", keep_default_na=False)


def tables(plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Ranking, baselines and summary."""
    folder = plan.rundir.ranking
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return pd.read_parquet(folder / "ranking.parquet"), pd.read_csv(folder / "baselines.csv"), summary


def null(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Of ``NULL_KINDS`` in turn: a cohort whose labels, drawn anew with a smaller class, mean nothing."""
    images, rare, folds = NULL_KINDS[seed % len(NULL_KINDS)]
    _, channels, size_px = SIZES["null"]
    study = simulate("null", folder / "cohort", images=images, channels=channels, size_px=size_px, seed=seed)
    sheet = pd.read_csv(folder / "cohort" / "samplesheet.csv", dtype=str)
    is_rare = np.random.default_rng([seed, 7]).permutation(images) < rare
    sheet[load_study(study).cohort.label] = np.where(is_rare, "A", "B")
    sheet.to_csv(folder / "cohort" / "samplesheet.csv", index=False)
    settings = [*TRAINING["null"], *FEWER_DRAWS, f"train.folds={folds}", *overrides]
    ranking, _, summary = tables(run_to_ranking(study, folder / "run", settings))
    return {
        "images": images,
        "rare": rare,
        "any_called": bool(ranking["significant"].any()),
        "at_chance": summary["at_chance"],
        **{f"{name}_called": bool((ranking[f"{name}_q"] <= FDR).any()) for name in LISTS},
        **{f"{name}_p": float((ranking[f"{name}_p"] <= LEVEL).mean()) for name in LISTS},
        "auc": summary["held_out"]["auc"]["value"],
    }


def exact(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Exact p-values of a null cohort from trainings on permuted labels, all channels."""
    images, channels, size_px, settings = 24, 8, 32, ["train.folds=2", "train.epochs=2", "train.seeds=1"]
    study = simulate("null", folder / "cohort", images=images, channels=channels, size_px=size_px, seed=seed)
    settings += ["rank.null_trainings=200", *FEWER_DRAWS, *overrides]
    ranking, _, summary = tables(run_to_ranking(study, folder / "run", settings))
    p = {f"{name}_exact_p": ranking[f"{name}_exact_p"].round(4).tolist() for name in ("score", "pattern", "reliance")}
    return {"variance": summary["pattern_variance"], "auc_p": summary["null"]["auc_p"], **p}


def sum_up_exact(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Kolmogorov-Smirnov tests that the exact p-values of all channels and cohorts are uniform."""
    names = [name for name in lines[0] if name.endswith("_exact_p")]
    values = {name: np.concatenate([line[name] for line in lines]) for name in names}
    values = {name: p[np.isfinite(p)] for name, p in values.items()}
    return {name: {"ks_p": round(float(stats.kstest(p, "uniform").pvalue), 3), "at_0.05": float((p <= 0.05).mean())}
            for name, p in values.items()}  # fmt: skip


def planted(scenario: str, seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    plan, truth = simulated(scenario, seed, folder, overrides)
    ranking, baselines, summary = tables(plan)
    result: dict[str, Any] = {"auc": summary["held_out"]["auc"]["value"]}
    orders = {"plexrank": ranking[["channel", "position", "score"]]}
    for name, column in (("anova", "anova_f"), ("logistic", "logistic_importance"), ("forest", "forest_importance")):
        order = baselines[["channel", f"{name}_position", column]]
        orders[name] = order.set_axis(["channel", "position", "score"], axis=1)
    for name, order in orders.items():
        found = evaluate(order, truth)
        result[f"{name}_ap"] = found.average_precision
        result[f"{name}_recall"] = found.recall_at[found.num_informative]
    result |= {f"{name}_auc": summary[key]["auc"]["value"]
               for name, key in (("logistic", "mean_intensity"), ("forest", "forest"))}  # fmt: skip
    informative = ranking["channel"].map(truth.set_index("channel")["informative"]) == 1
    called = ranking["significant"]
    result["power"] = float(called[informative].mean())
    result["false_discoveries"] = float((called & ~informative).sum() / max(int(called.sum()), 1))
    return result


def hierarchy(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """False-positive rates at ``LEVEL`` on channels without a plant: tiles as the unit, and patients."""
    plan, truth = simulated("hierarchy", seed, folder, overrides)
    ranking, _, _ = tables(plan)
    nothing = truth["informative"].to_numpy() == 0
    tiles = pd.read_parquet(plan.rundir.tiles_table)
    label_of = {image.image_id: image.label for image in plan.cohort.images}
    label = tiles["image_id"].map(label_of).to_numpy()
    embedding = np.full((len(tiles), len(truth)), np.nan)
    for fold, number in plan.fold_seeds:
        block = AttributionStore(plan.rundir.attribution(fold, number)).read(methods=[])
        embedding[block.tile_id] = block.embedding
    means = np.stack(tiles["channel_mean"].to_list())
    patients = ranking.set_index("channel").loc[truth["channel"][nothing]]
    return {
        "tile_embedding": false_positives(embedding[:, nothing], label),
        "tile_mean": false_positives(means[:, nothing], label),
        "patient_pattern": float((patients["pattern_p"] <= LEVEL).mean()),
        "patient_mean": float((patients["intensity_p"] <= LEVEL).mean()),
        "patient_reliance": float((patients["reliance_p"] <= LEVEL).mean()),
    }


def false_positives(values: np.ndarray, label: np.ndarray) -> float:
    groups = [values[label == name] for name in np.unique(label)]
    return float((stats.kruskal(*groups, axis=0).pvalue <= LEVEL).mean())


def labels(chosen: argparse.Namespace, folder: Path) -> None:
    """Real images, one label after the other: one run directory, so that all share the tiles."""
    names = ("label", "found by intensity", "by pattern", "held-out AUC", "p", "means: logistic regression; forest")
    head = (*names, "difference, paired")
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for label in chosen.labels:
        plan = run_to_ranking(chosen.study, folder / "run", [f"cohort.label={label}", *chosen.set])
        ranking, _, summary = tables(plan)
        print(described(label, ranking, summary), flush=True)
        for warning in summary["warnings"]:
            print(f"{label}: {warning}", file=sys.stderr, flush=True)


def described(label: str, ranking: pd.DataFrame, summary: dict[str, Any]) -> str:
    """A row of the table of real labels."""

    def called(name: str) -> str:
        rows = ranking[ranking[f"{name}_q"] <= FDR].sort_values(f"{name}_p")
        return ", ".join(rows["channel"]) or "–"

    def auc(name: str, sign: str = "") -> str:
        figure = summary[name] if name == "auc_difference" else summary[name]["auc"]
        interval = f" ({figure['low']:.3f} to {figure['high']:.3f})" if "low" in figure else ""
        return f"{figure['value']:{sign}.3f}{interval}"

    counts = ", ".join(f"{count} {name}" for name, count in summary["counts"]["classes"].items())
    p_value = summary["held_out"]["p_value"]
    cells = [
        f"`{label}` ({counts})",
        called("intensity"),
        called("pattern"),
        auc("held_out"),
        "–" if p_value is None else f"{p_value:.3g}",
        f"{summary['mean_intensity']['auc']['value']:.3f}; {summary['forest']['auc']['value']:.3f}",
        auc("auc_difference", "+"),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", choices=[*SIZES, "exact", "labels"])
    parser.add_argument("--cohorts", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed of the first cohort")
    parser.add_argument("--study", type=Path, help="for labels: a study of real images")
    parser.add_argument("--labels", nargs="+", default=[], help="columns of its samplesheet, one after the other")
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the study: section.key=value")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="plexrank-evidence-") as folder:
        if chosen.runs == "labels":
            labels(chosen, Path(folder))
            return
        lines = []
        for seed in range(chosen.first, chosen.first + chosen.cohorts):
            own = Path(folder) / str(seed)
            own.mkdir()
            run = {"null": null, "hierarchy": hierarchy, "exact": exact}.get(chosen.runs)
            line = run(seed, own, chosen.set) if run else planted(chosen.runs, seed, own, chosen.set)
            print(json.dumps({"scenario": chosen.runs, "seed": seed} | line), flush=True)
            lines.append(line)
    if chosen.runs == "exact":
        print(json.dumps(sum_up_exact(lines)))
        return
    frame = pd.DataFrame(lines).astype(float)
    error = frame.std() / np.sqrt(len(frame))
    print(json.dumps({"mean": frame.mean().round(3).to_dict(), "standard_error": error.round(3).to_dict()}))


if __name__ == "__main__":
    main()
