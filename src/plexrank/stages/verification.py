"""Every file of a run held against its digest, and against the unit that it is to be of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
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
    damaged = _damaged_notes(rundir)
    try:
        plan = make_plan(rundir, load_study(rundir.study))
    except PlexrankError as error:
        raise RunDirError("\n".join(damaged)) if damaged else error from error
    units = {unit.record: unit for stage in STAGES for unit in plan.units(stage)}
    within = _checks_within(plan)
    not_done, without_digests, checked, num_bytes = [], [], 0, 0
    with reporter.counting("verify", len(units)) as counting:
        for record, unit in units.items():
            before, reason = load_record(record), unit.why_not_done()
            if reason is not None and not reason.startswith(_NO_DAMAGE):
                problems = [f"{record}: {unit.name}: {reason}; run plexrank run again"]
            else:
                problems = _other_bytes(unit) or (_problems(within.get(record)) if reason is None else [])
            if load_record(record) != before:  # withdrawn before outputs are touched
                not_done.append(f"{unit.name}: worked on meanwhile")
            elif reason is None:
                checked += 1
                num_bytes += sum(map(size_bytes, unit.outputs))
                without_digests += [unit.name] * ("sha256" not in (before or {}))
                damaged += problems
            else:
                not_done += [f"{unit.name}: {reason}"] * reason.startswith(_NO_DAMAGE)
                damaged += problems
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
        tuple(_foreign(plan, units)),
    )


def _problems(*checks: Callable[[], object] | None) -> list[str]:
    """What checks say, of those that raise."""
    found = []
    for check in filter(None, checks):
        try:
            check()
        except (RunDirError, MissingInputError) as error:
            found.append(str(error))
    return found


def _damaged_notes(rundir: RunDir) -> list[str]:
    """What is wrong with the small files that no unit writes."""
    notes = (rundir.graph, *sorted(rundir.tiles_table.parent.glob("*.failed.json")))
    return _problems(
        rundir.require_study,
        rundir.last_command,
        lambda: read_skipped(rundir.skipped),
        *(partial(_read_json, path) for path in notes if path.exists()),
    )


def _read_json(path: Path) -> None:
    with reading_output(path):
        json.loads(read_text(path))


def _other_bytes(unit: Unit) -> list[str]:
    """Which outputs of a unit are not what its record, where there is one, has the digests of."""
    return _problems(*(partial(unit.require_intact, output, thoroughly=True) for output in unit.outputs))


def _checks_within(plan: Plan) -> dict[Path, Callable[[], object]]:
    """By done-record, what reads outputs with checksums of their own and holds them against what they are to be."""

    def read_training(fold: int, seed: int) -> None:
        from plexrank.stages.trained_units import read_trained  # loads torch

        read_trained(plan, fold, seed)

    def read_attribution(fold: int, seed: int) -> None:
        with plan.attribute(fold, seed).blamed():
            for _ in open_attribution(plan, fold, seed).blocks():
                pass

    def read_null(unit: Unit) -> None:
        with unit.reading(unit.outputs[0]):
            read_null_unit(unit.outputs[0])

    checks: dict[Path, Callable[[], object]] = {
        plan.tile(image).record: partial(_read_tiles, plan, index) for index, image in enumerate(plan.cohort.images)
    }
    checks |= {unit.record: partial(read_null, unit) for unit in plan.null_units()}
    for fold, seed in plan.fold_seeds:
        checks[plan.rundir.training_record(fold, seed)] = partial(read_training, fold, seed)
        checks[plan.rundir.attribution_record(fold, seed)] = partial(read_attribution, fold, seed)
    return checks


def _read_tiles(plan: Plan, image: int) -> None:
    with plan.tile(plan.cohort.images[image]).blamed():
        store = open_store(plan, image)
        for row in range(store.grid.rows):
            for col in range(store.grid.cols):
                store.read_tile(row, col)


def _damaged_progress(folder: Path) -> Iterator[str]:
    """What is wrong with what a training goes on from."""
    paths = [path for path in (folder / "last.pt", folder / "last.pt.prev") if path.exists() or path.is_symlink()]
    if paths:
        from plexrank.training.checkpoint import load  # loads torch

        for path in paths:
            for problem in _problems(partial(load, path)):
                yield f"{problem.rpartition('; ')[0]}; delete it: nothing rests on it, trainings only go on from it"


def _foreign(plan: Plan, units: Mapping[Path, Unit]) -> Iterator[Path]:
    """What lies in the folders of units and is no part of them, and what processes left that were killed."""
    rundir = plan.rundir
    own = {*units, *(output for unit in units.values() for output in unit.outputs)}
    own |= {rundir.lock, rundir.study, rundir.provenance, rundir.skipped, rundir.jobs, rundir.logs}
    own |= {rundir.image_failure(image.image_id) for image in plan.cohort.images}
    for skipped in plan.skipped:
        own |= {rundir.tile_record(skipped.image_id), rundir.tile_store(skipped.image_id)}
        own.add(rundir.image_failure(skipped.image_id))
    own |= {
        folder / name
        for folder in {record.parent for record in units if record.name == "done.json"}
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
