"""Every file of a run held against its digest, and against the unit that it is to be of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from plexrank.cohorts.bad_images import read_skipped
from plexrank.errors import MissingInputError, PlexrankError, RunDirError
from plexrank.planning.order import STAGES
from plexrank.planning.plan import Plan, make_plan
from plexrank.progress import Reporter
from plexrank.ranking.null_unit import read_null_unit
from plexrank.rundir import RunDir, Unit, files_in, load_record, read_text, reading_output, size_bytes
from plexrank.rundir.atomic import ASIDE, name_replaced
from plexrank.stages.attributions import open_attribution
from plexrank.stages.tiled_cohort import open_store
from plexrank.study import load_study
from plexrank.tiles.store import TileStore
from plexrank.wording import counted

_NO_DAMAGE = ("not done yet", "changed: ")
"""How the reasons begin for which a unit is to be done that say nothing against its files."""
_BESIDE_CHECKPOINTS = ("events.out.tfevents.",)


@dataclass(frozen=True)
class Verification:
    """What was found of a run directory.

    Attributes:
        run: the run directory.
        units: how many finished ones were held against their digests.
        num_bytes: in their outputs.
        damaged: of each damaged file what is wrong with it and what to do.
        not_done: of each unit that is to be done (again), its name and why; no damage.
        without_digests: names of units that were done before digests were recorded; of these, what carries checksums of
            its own was checked, and sizes.
        foreign: what is no part of a run: left by processes that were killed, or put there by somebody else.
    """

    run: Path
    units: int
    num_bytes: int
    damaged: tuple[str, ...]
    not_done: tuple[str, ...]
    without_digests: tuple[str, ...]
    foreign: tuple[Path, ...]

    @property
    def is_intact(self) -> bool:
        """Whether no file is damaged."""
        return not self.damaged

    def to_dict(self) -> dict[str, Any]:
        """Plain, for JSON."""
        return {
            "run": str(self.run),
            "intact": self.is_intact,
            "units": self.units,
            "bytes": self.num_bytes,
            "damaged": list(self.damaged),
            "not_done": list(self.not_done),
            "without_digests": list(self.without_digests),
            "foreign": [str(path) for path in self.foreign],
        }

    def lines(self) -> list[str]:
        """For a person."""
        lines = [f"damaged: {line}" for line in self.damaged]
        lines += [f"not done: {line}" for line in self.not_done]
        lines += [f"not of this run: {path}" for path in self.foreign]
        if self.without_digests:
            lines.append(
                f"{counted(len(self.without_digests), 'unit', 'is')} from before digests were recorded, and held "
                "against sizes and checksums only"
            )
        what = f"{counted(self.units, 'unit')}, {self.num_bytes / 1e6:.1f} MB"
        if self.is_intact:
            return [*lines, f"intact: {what}"]
        again = f"what is deleted is made again by plexrank run STUDY.yaml --out {self.run}"
        return [*lines, f"{counted(len(self.damaged), 'file')} damaged, of {what}; {again}"]


def verify_run(rundir: RunDir, reporter: Reporter) -> Verification:
    """Hold every file of a run against its digest; nothing is changed.

    Finished units alone are checked, whose files are whole; others may be under way.

    Raises:
        MissingInputError: it is no run directory.
        RunDirError: the saved study is too damaged for anybody to know what belongs to the run.
        PlexrankError: the study or samplesheet of the run is wrong.
    """
    rundir.require()
    damaged = [problem for check in (rundir.require_study, rundir.last_command) if (problem := _problem(check))]
    damaged += _damaged_notes(rundir)
    try:
        plan = make_plan(rundir, load_study(rundir.study))
    except PlexrankError as error:
        raise RunDirError("\n".join(damaged)) if damaged else error from error
    units = {unit.record: (stage, unit) for stage in STAGES for unit in plan.units(stage)}
    not_done, without_digests, checked, num_bytes = [], [], 0, 0
    with reporter.counting("verify", len(units)) as counting:
        for stage, unit in units.values():
            reason = unit.why_not_done()
            if reason is None:
                checked += 1
                num_bytes += sum(map(size_bytes, unit.outputs))
                record = load_record(unit.record) or {}
                without_digests += [unit.name] * ("sha256" not in record)
                damaged += _other_bytes(unit) or _damaged_within(stage, unit, plan)
            elif reason.startswith(_NO_DAMAGE):
                not_done.append(f"{unit.name}: {reason}")
                damaged += _other_bytes(unit)
            else:
                damaged.append(f"{unit.record}: {unit.name}: {reason}; run plexrank run again")
            counting.advance()
    for fold, seed in plan.fold_seeds:
        damaged += _damaged_progress(rundir.training(fold, seed))
    return Verification(
        rundir.path,
        checked,
        num_bytes,
        tuple(damaged),
        tuple(not_done),
        tuple(without_digests),
        tuple(_foreign(plan, set(units))),
    )


def _problem(check: Callable[[], object]) -> str | None:
    """What a check says, where it raises."""
    try:
        check()
    except (RunDirError, MissingInputError) as error:
        return str(error)
    return None


def _damaged_notes(rundir: RunDir) -> Iterator[str]:
    """What is wrong with the small files that no unit writes."""
    if problem := _problem(lambda: read_skipped(rundir.skipped)):
        yield problem
    for path in (rundir.graph, *sorted(rundir.tiles_table.parent.glob("*.failed.json"))):
        if path.exists() and (problem := _problem(partial(_read_json, path))):
            yield problem


def _read_json(path: Path) -> None:
    with reading_output(path):
        json.loads(read_text(path))


def _other_bytes(unit: Unit) -> list[str]:
    """Which outputs of a unit are not what its record, where there is one, has the digests of."""
    checks = [partial(unit.require_intact, output, thoroughly=True) for output in unit.outputs]
    return [problem for check in checks if (problem := _problem(check))]


def _damaged_within(stage: str, unit: Unit, plan: Plan) -> list[str]:
    """What is wrong with the outputs of a finished unit beside their bytes."""
    problem = _problem(partial(_require_whole, stage, unit, plan))
    return [problem] if problem else []


def _require_whole(stage: str, unit: Unit, plan: Plan) -> None:
    """Read the outputs of a finished unit that carry checksums of their own, and hold all against what they are to be.

    Raises:
        DamagedOutputError: one is not what the unit wrote, or is of another unit.
    """
    if stage == "tile":
        images = [index for index, image in enumerate(plan.cohort.images) if plan.tile(image).record == unit.record]
        for image in images:
            with unit.blamed():
                _read_all(open_store(plan, image))
    for fold, seed in plan.fold_seeds:
        if unit.record == plan.rundir.training_record(fold, seed):
            from plexrank.stages.trained_units import read_trained  # loads torch

            read_trained(plan, fold, seed)
        elif unit.record == plan.rundir.attribution_record(fold, seed):
            with unit.blamed():
                for _ in open_attribution(plan, fold, seed).blocks():
                    pass
    if stage == "train" and unit.outputs[0].suffix == ".npz":
        with unit.reading(unit.outputs[0]):
            read_null_unit(unit.outputs[0])


def _read_all(store: TileStore) -> None:
    for row in range(store.grid.rows):
        for col in range(store.grid.cols):
            store.read_tile(row, col)


def _damaged_progress(folder: Path) -> Iterator[str]:
    """What is wrong with what a training goes on from."""
    paths = [path for path in (folder / "last.pt", folder / "last.pt.prev") if path.exists() or path.is_symlink()]
    if paths:
        from plexrank.training.checkpoint import load  # loads torch

        for path in paths:
            if problem := _problem(partial(load, path)):
                yield f"{problem.rpartition('; ')[0]}; delete it: nothing rests on it, trainings only go on from it"


def _foreign(plan: Plan, records: set[Path]) -> Iterator[Path]:
    """What lies in the folders of units and is no part of them, and what processes left that were killed."""
    rundir = plan.rundir
    own = {*records, *(output for stage in STAGES for unit in plan.units(stage) for output in unit.outputs)}
    own |= {rundir.lock, rundir.study, rundir.provenance, rundir.skipped, rundir.jobs, rundir.logs}
    own |= {rundir.image_failure(image.image_id) for image in plan.cohort.images}
    own |= {
        folder / name
        for folder in {record.parent for record in records if record.name == "done.json"}
        for name in ("last.pt", "last.pt.prev", "best.pt")
    }
    folders = {parent for path in own for parent in path.parents if parent.is_relative_to(rundir.path)}
    for folder in sorted(folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            is_known = path in own or path in folders or path.name.startswith(_BESIDE_CHECKPOINTS)
            if not is_known or name_replaced(path.name) or ASIDE in path.name:
                yield path
    for folder in (rundir.jobs, rundir.logs):
        yield from (path for path in (files_in(folder) if folder.is_dir() else ()) if name_replaced(path.name))
