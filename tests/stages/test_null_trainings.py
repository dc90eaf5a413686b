"""Trainings on permuted labels as a part of the run: done once, resumed, redone where something changed, read back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_pipeline import free_port, wait_until

from conftest import Plexrank, run_arguments, without_digests
from fake_slurm import FakeSlurm, slurm
from plexrank.errors import RunDirError
from plexrank.planning.check import check_study_file
from plexrank.planning.plan import Plan, make_plan
from plexrank.ranking.null_unit import NullUnit, read_null_unit, write_null_unit
from plexrank.rundir import RunDir
from plexrank.stages.tiled_cohort import TiledCohort
from plexrank.stages.unit_tables import read_null_units, read_unit_tables
from plexrank.study import load_study

__all__ = ["slurm"]

THREE = "rank.null_trainings=3"


def plan_of(run: Path) -> Plan:
    return make_plan(RunDir(run), load_study(run / "study.yaml"))


def null_files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.glob("null/**/unit.npz"))}


def finished(run: Path) -> dict[str, int]:
    """When the records of a run were written."""
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in run.rglob("*done.json")}


@pytest.fixture
def trained(tiny_run: Path, tmp_path: Path) -> Path:
    """A finished run without null trainings."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    run.chmod(0o700)
    return run


@pytest.fixture(scope="module")
def with_nulls(tiny_study: Path, tiny_run: Path, plexrank: Plexrank, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the tiny cohort to which three labellings were added, without disturbance; not to be changed."""
    run = tmp_path_factory.mktemp("nulls") / "run"
    shutil.copytree(tiny_run, run)
    run.chmod(0o700)
    before = finished(run)
    done = plexrank(*run_arguments(tiny_study, run, THREE))
    assert done.returncode == 0, done.stderr
    assert "train: 4 of 10 done already" in done.stderr
    assert "attribute: all 4 done already" in done.stderr
    assert "rank: again, changed: null trainings, rank.null_trainings 0 → 3" in done.stderr
    after = finished(run)
    redone = {record for record in before if after[record] != before[record]}
    assert redone == {"ranking/ranking.done.json", "report/report.done.json"}
    return run


def test_a_labelling_and_fold_leave_one_small_file(with_nulls: Path, plexrank: Plexrank) -> None:
    folders = [
        with_nulls / "null" / f"labels-{labelling}" / f"fold-{fold}" for labelling in range(3) for fold in (0, 1)
    ]
    assert sorted(path for path in with_nulls.glob("null/*/*")) == folders
    for folder in folders:
        assert sorted(path.name for path in folder.iterdir()) == ["done.json", "unit.npz"]
    status = plexrank("status", with_nulls).stdout
    assert re.search(r"^train +10 of 10 done \(6 of 6 null trainings\)$", status, flags=re.MULTILINE)


def test_ranking_reads_what_was_permuted_embedded_and_explained(with_nulls: Path) -> None:
    plan = plan_of(with_nulls)
    read = list(read_null_units(plan))
    assert len(read) == 3
    real = read_unit_tables(plan, TiledCohort(plan))
    for labelling, (labels, units) in enumerate(read):
        np.testing.assert_array_equal(labels, plan.null_labels[labelling])
        assert [unit.fold for unit in units] == [0, 1]
        for unit, of_labels in zip(units, real[::2], strict=True):
            for name in ("n_tiles", "mean_intensity"):
                np.testing.assert_array_equal(getattr(unit, name), getattr(of_labels, name))
            held_out = unit.n_tiles > 0
            assert np.flatnonzero(held_out).tolist() == plan.images(unit.fold, "held_out")
            assert unit.classify is not None
            assert unit.linear is not None
            assert np.isfinite(unit.embedding).all(axis=1).tolist() == held_out.tolist()
            assert np.isfinite(unit.training_embedding).all(axis=1).tolist() == (~held_out).tolist()
            np.testing.assert_allclose(unit.classify(unit.embedding[held_out]), unit.logits[held_out], atol=1e-6)
            linear = unit.embedding[held_out] @ unit.linear.coef.T + unit.linear.intercept
            np.testing.assert_allclose(linear, unit.logits[held_out], atol=1e-5)
            assert {*unit.importance, *unit.contrast, *unit.importance_by_class} == {"gradient"}
            by_class = unit.importance_by_class["gradient"]
            np.testing.assert_array_equal(by_class.sum(axis=2), unit.importance["gradient"])
            predicted = unit.logits[held_out].argmax(axis=1)
            np.testing.assert_allclose(by_class[held_out].max(axis=2), np.abs(unit.linear.coef)[predicted], rtol=1e-6)
            assert (unit.embedding[held_out] != of_labels.embedding[held_out]).any()
    assert plan.relabelled(0).images(0, "training") != plan.images(0, "training")


def test_more_labellings_add_theirs_and_fewer_change_the_ranking_only(
    tiny_study: Path, with_nulls: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(with_nulls, run)
    for number, lines in (
        (4, ["train: 10 of 12 done already", "rank: again, changed: null trainings, rank.null_trainings 3 → 4"]),
        (2, ["train: all 8 done already", "rank: again, changed: null trainings, rank.null_trainings 4 → 2"]),
        (4, ["train: all 12 done already", "rank: again, changed: null trainings, rank.null_trainings 2 → 4"]),
    ):
        before = finished(run)
        done = plexrank(*run_arguments(tiny_study, run, f"rank.null_trainings={number}"), "--until", "rank")
        assert done.returncode == 0, done.stderr
        for line in (*lines, "attribute: all 4 done already"):
            assert line in done.stderr
        after = finished(run)
        assert {record for record in before if after[record] != before[record]} == {"ranking/ranking.done.json"}
    assert null_files(run).items() > null_files(with_nulls).items()
    dry = plexrank(*run_arguments(tiny_study, run, "rank.null_trainings=4", "rank.by=occlusion"), "--dry-run").stdout
    assert "train fold 1 seed 0, … (4 in all): done" in dry
    assert "null training 0 fold 0, null training 0 fold 1, null training 1 fold 0, … (8 in all): changed: by" in dry
    (run / "null" / "labels-1" / "fold-0" / "done.json").unlink()
    early = plexrank("rank", run)
    assert early.returncode == 66
    assert "rank needs null training 1 fold 0 (not done yet); run plexrank train first" in early.stderr
    assert "attribute: all 4 done already" in plexrank("attribute", run).stderr


def test_an_array_task_does_its_share(
    tiny_study: Path, with_nulls: Path, trained: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    assert plexrank(*run_arguments(tiny_study, trained, THREE), "--until", "tile").returncode == 0
    share = tmp_path / "share"
    share.write_text("null/labels-2/fold-1/done.json\nnull/labels-0/fold-1/done.json\n")
    done = plexrank("train", trained, "--units", share)
    assert done.returncode == 0, done.stderr
    assert "train: 2 of 2" in done.stderr
    of_all, own = null_files(with_nulls), null_files(trained)
    assert sorted(own) == ["null/labels-0/fold-1/unit.npz", "null/labels-2/fold-1/unit.npz"]
    assert own.items() < of_all.items()
    assert "train: all 2 done already" in plexrank("train", trained, "--units", share).stderr


def test_a_killed_run_ends_with_the_same_files(
    tiny_study: Path, with_nulls: Path, trained: Path, plexrank: Plexrank
) -> None:
    process = plexrank.start(*run_arguments(tiny_study, trained, THREE))
    wait_until(lambda: (trained / "null/labels-1/fold-0").exists(), process)
    process.send_signal(signal.SIGKILL)
    assert process.finish().returncode == -signal.SIGKILL
    assert 1 <= len(null_files(trained)) < 6
    assert plexrank(*run_arguments(tiny_study, trained, THREE)).returncode == 0
    assert null_files(trained) == null_files(with_nulls)


def test_a_stopped_training_exits_75_and_goes_on(
    tiny_study: Path, trained: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    longer = ("train.epochs=30", "train.patience=30", "rank.null_trainings=1")
    assert plexrank(*run_arguments(tiny_study, trained, *longer), "--until", "tile").returncode == 0
    undisturbed, share = tmp_path / "undisturbed", tmp_path / "share"
    shutil.copytree(trained, undisturbed)
    share.write_text("null/labels-0/fold-0/done.json\n")
    assert plexrank("train", undisturbed, "--units", share).returncode == 0
    process = plexrank.start("train", trained, "--units", share)
    said = process.files[1]
    wait_until(lambda: said.exists() and "null training 0 fold 0: epoch" in said.read_text(), process)
    process.send_signal(signal.SIGTERM)
    stopped = process.finish()
    assert stopped.returncode == 75
    assert re.search(r"error: null training 0 fold 0: stopped in epoch \d+; run the same command again", stopped.stderr)
    assert (trained / "null/labels-0/fold-0/last.pt").is_file()
    resumed = plexrank("train", trained, "--units", share)
    assert resumed.returncode == 0, resumed.stderr
    assert "null training 0 fold 0: going on at epoch" in resumed.stderr
    assert len(null_files(trained)) == 1
    assert null_files(trained) == null_files(undisturbed)
    assert not list(trained.glob("null/**/*.pt*"))


def test_two_processes_train_what_one_trains(
    tiny_study: Path, with_nulls: Path, trained: Path, plexrank: Plexrank
) -> None:
    assert plexrank(*run_arguments(tiny_study, trained, THREE), "--until", "tile").returncode == 0
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [plexrank.start("train", trained, RANK=rank, LOCAL_RANK=rank, **group) for rank in "01"]
    for done in [process.finish() for process in started]:
        assert done.returncode == 0, done.stderr
    pairs = zip(read_null_units(plan_of(with_nulls)), read_null_units(plan_of(trained)), strict=True)
    for (labels, one), (same_labels, two) in pairs:
        np.testing.assert_array_equal(labels, same_labels)
        for alone, together in zip(one, two, strict=True):
            np.testing.assert_array_equal(together.n_tiles, alone.n_tiles)
            for name in ("embedding", "training_embedding", "logits"):
                np.testing.assert_allclose(getattr(together, name), getattr(alone, name), atol=0.1)


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        (("model.classifier=paper",), "gradient"),
        (("model.architecture=bsn", "attribute.methods=[gradient,gradcam]", "rank.by=gradcam"), "gradcam"),
    ],
)
def test_other_classifiers_leave_all_but_themselves(
    tiny_study: Path, plexrank: Plexrank, tmp_path: Path, overrides: tuple[str, ...], method: str
) -> None:
    small = (*overrides, "train.seeds=1", "train.epochs=1", "rank.null_trainings=1")
    done = plexrank(*run_arguments(tiny_study, tmp_path / "run", *small), "--until", "train")
    assert done.returncode == 0, done.stderr
    ((_, units),) = read_null_units(plan_of(tmp_path / "run"))
    for unit in units:
        held_out = unit.n_tiles > 0
        assert unit.classify is None
        assert unit.linear is None
        assert np.isfinite(unit.logits[held_out]).all()
        assert np.isfinite(unit.importance[method][held_out]).all()
        assert np.isfinite(unit.embedding[held_out]).all() == (method == "gradient")


def test_a_file_of_something_else_is_refused_by_name(with_nulls: Path, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "other"
    without_digests(shutil.copytree(with_nulls, run))
    own = run / "null" / "labels-1" / "fold-0" / "unit.npz"
    for other, what in (("labels-1/fold-1", "labelling 1 of fold 1"), ("labels-2/fold-0", "labelling 2 of fold 0")):
        shutil.copy(with_nulls / "null" / other / "unit.npz", own)
        with pytest.raises(RunDirError, match=f"{own}: holds {what}; delete it and run plexrank train again"):
            list(read_null_units(plan_of(run)))
    unit = read_null_unit(with_nulls / "null" / "labels-1" / "fold-0" / "unit.npz")
    for change, message in (
        ({"labels": 1 - unit.labels}, "was trained on other labels than labelling 1 of this cohort"),
        ({"channel_names": ("C01", "C02", "C03", "C04", "C05", "X")}, "6 channels, .* differ in C06, X;"),
        ({"output_names": ("B", "A")}, "2 outputs, .* differ in their order;"),
        (by_occlusion(unit), "holds the importance 'occlusion', not 'gradient' of rank.by;"),
    ):
        write_null_unit(own, dataclasses.replace(unit, **change))
        with pytest.raises(RunDirError, match=f"{own}: .*{message}"):
            list(read_null_units(plan_of(run)))
    own.unlink()
    with pytest.raises(RunDirError, match=f"{own}: missing or damaged"):
        list(read_null_units(plan_of(run)))


def by_occlusion(unit: NullUnit) -> dict[str, Any]:
    """What differs in a unit whose importances are of another method."""
    names = ("importance", "contrast", "importance_by_class")
    values = {name: {"occlusion": getattr(unit.table, name)[unit.method]} for name in names}
    return {"method": "occlusion", "table": dataclasses.replace(unit.table, **values)}


def test_a_damaged_file_is_refused_and_never_misread(with_nulls: Path, tmp_path: Path) -> None:
    source = with_nulls / "null" / "labels-0" / "fold-0" / "unit.npz"
    content, path = source.read_bytes(), tmp_path / "unit.npz"
    write_null_unit(path, read_null_unit(source))
    assert path.read_bytes() == content
    rng = np.random.default_rng(0)
    damaged = [content[:length] for length in (0, 1, 100, len(content) // 2, len(content) - 1)]
    for place in rng.choice(len(content), 300, replace=False):
        damaged.append(content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :])
    refused = 0
    for bad in damaged:
        path.write_bytes(bad)
        with contextlib.suppress(RunDirError):
            write_null_unit(path, read_null_unit(path))  # what is read after all, such as another date, is the same
            assert path.read_bytes() == content
            continue
        refused += 1
    assert refused > 200
    path.write_bytes(content[:-1])
    with pytest.raises(RunDirError, match=f"{path}: missing or damaged .*; delete it and run plexrank train again"):
        read_null_unit(path)


def test_labels_that_cannot_be_permuted_are_refused_before_any_compute(
    tiny_study: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    shutil.copytree(tiny_study.parent, tmp_path / "cohort")
    sheet = pd.read_csv(tmp_path / "cohort" / "samplesheet.csv", dtype=str)
    sheet["site"] = sheet["label"]
    sheet.to_csv(tmp_path / "cohort" / "samplesheet.csv", index=False)
    study = tmp_path / "cohort" / "study.yaml"
    assert not check_study_file(study).problems
    for refused in (
        plexrank("check", study, "--set", THREE),
        plexrank(*run_arguments(study, tmp_path / "run", THREE)),
    ):
        assert refused.returncode == 64
        (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
        assert line.startswith("error: rank.null_trainings: the labels cannot be permuted: patients exchange them")
    assert not (tmp_path / "run").exists()


def test_check_states_how_many_trainings_a_study_takes(tiny_study: Path, plexrank: Plexrank) -> None:
    cost = check_study_file(tiny_study, ["train.folds=3", "train.seeds=2", "rank.null_trainings=200"]).cost
    assert cost is not None
    assert (cost.n_trainings, cost.n_null_trainings) == (6, 600)
    more = ("--set", "rank.null_trainings=200", "--set", "train.folds=3")
    said = plexrank("check", tiny_study, "--quick", *more).stdout
    assert "n_null_trainings   600" in said
    refused = plexrank("check", tiny_study, "--set", "rank.null_trainings=-1")
    assert refused.returncode == 64
    assert "rank.null_trainings" in refused.stderr


def test_the_train_array_holds_them(
    slurm: FakeSlurm, tiny_study: Path, trained: Path, plexrank: Plexrank, tmp_path: Path
) -> None:
    profile = tmp_path / "site.yaml"
    profile.write_text("partition: low\nstop_before_s: 20\ntrain: {jobs: 2}\n")
    nulls = sorted(f"null/labels-{labelling}/fold-{fold}/done.json" for labelling in range(3) for fold in range(2))
    fresh = plexrank(*run_arguments(tiny_study, tmp_path / "fresh", THREE), "--cluster", profile)
    assert fresh.returncode == 0, fresh.stderr
    jobs = {job["name"]: job for job in json.loads((tmp_path / "fresh/jobs/graph.json").read_text())["jobs"]}
    real = [f"train/fold-{fold}/seed-{seed}/done.json" for fold in range(2) for seed in range(2)]
    assert sorted(record for share in jobs["train"]["shares"] for record in share) == [*nulls, *real]
    assert [len(share) for share in jobs["train"]["shares"]] == [5, 5]
    slurm.calls()
    added = plexrank(*run_arguments(tiny_study, trained, THREE), "--cluster", profile)
    assert added.returncode == 0, added.stderr
    jobs = {job["name"]: job for job in json.loads((trained / "jobs/graph.json").read_text())["jobs"]}
    assert list(jobs) == ["train", "rank", "report"]
    assert sorted(record for share in jobs["train"]["shares"] for record in share) == nulls
    assert jobs["rank"]["after"] == [jobs["train"]["job_id"]]
    status = plexrank("status", trained).stdout
    assert re.search(
        r"^train +4 of 10 done \(0 of 6 null trainings\), 6 failed; job \d+ 2 × ENDED$", status, re.MULTILINE
    )
