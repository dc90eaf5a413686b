"""Every file of a run held against its digest, and against the unit that it is to be of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from plexrank.cohorts.bad_images import read_skipped
from plexrank.errors import MissingInputError, PlexrankError, ReadFailedError, RunDirError
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
        units: how many are finished and without damage.
        num_bytes: in their outputs.
        damaged: of each damaged file what is wrong with it and what to do.
        not_read: of each file that could not be read now why; it may be whole.
        not_done: of each unit that is to be done (again), its name and why; no damage.
        without_digests: names of units that were done before digests were recorded; of these, what carries checksums of
            its own was checked, and sizes.
        foreign: what is no part of a run: left by processes that were killed, or put there by somebody else.
    """

    run: Path
    units: int
    num_bytes: int
    damaged: tuple[str, ...]
    not_read: tuple[str, ...]
    not_done: tuple[str, ...]
    without_digests: tuple[str, ...]
    foreign: tuple[Path, ...]

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do; a run that is not finished may be intact."""
        return not self.not_done

    @property
    def is_intact(self) -> bool:
        """Whether every file could be read, and none is damaged."""
        return not self.damaged and not self.not_read

    def to_dict(self) -> dict[str, Any]:
        """Plain, for JSON."""
        return {
            "run": str(self.run),
            "intact": self.is_intact,
            "finished": self.is_finished,
            "units": self.units,
            "bytes": self.num_bytes,
            "damaged": list(self.damaged),
            "not_read": list(self.not_read),
            "not_done": list(self.not_done),
            "without_digests": list(self.without_digests),
            "foreign": [str(path) for path in self.foreign],
        }

    def lines(self) -> list[str]:
        """For a person."""
        lines = [f"damaged: {line}" for line in self.damaged]
        lines += [f"not read: {line}" for line in self.not_read]
        lines += [f"not done: {line}" for line in self.not_done]
        lines += [f"not of this run: {path}" for path in self.foreign]
        if self.without_digests:
            lines.append(
                f"{counted(len(self.without_digests), 'unit', 'is')} from before digests were recorded, and held "
                "against sizes and checksums only"
            )
        what = f"{counted(self.units, 'unit')}, {self.num_bytes / 1e6:.1f} MB"
        if self.is_intact:
            left = "" if self.is_finished else f"; not finished: {counted(len(self.not_done), 'unit', 'is')} not done"
            return [*lines, f"intact: {what}{left}"]
        if not self.damaged:
            return [*lines, f"{counted(len(self.not_read), 'file')} not read, beside {what} without damage"]
        again = f"what is deleted is made again by plexrank run STUDY.yaml --out {self.run}, with the --set of before"
        return [*lines, f"{counted(len(self.damaged), 'file')} damaged, beside {what} without damage; {again}"]


def verify_run(rundir: RunDir, reporter: Reporter) -> Verification:
    """Hold every file of a run against its digest; nothing is changed.

    Finished units alone are checked, whose files are whole; others may be under way.

    Raises:
        MissingInputError: it is no run directory.
        RunDirError: the saved study is too damaged for anybody to know what belongs to the run.
        ReadFailedError: nor can this be known now, since the study or a done-record could not be read.
        PlexrankError: the study or samplesheet of the run is wrong.
    """
    rundir.require()
    found = _Found()
    _check_notes(rundir, found)
    try:
        plan = make_plan(rundir, load_study(rundir.study))
        units = {unit.record: unit for stage in STAGES for unit in plan.units(stage)}
    except PlexrankError as error:
        said = [*found.damaged, *found.not_read]
        raise RunDirError("\n".join(dict.fromkeys([*said, str(error)]))) if said else error from error
    within, rests_on = _checks_within(plan), _rests_on(plan)
    with reporter.counting("verify", len(units)) as counting:
        for record, unit in units.items():
            found.check(partial(_look_at, unit, rests_on.get(record, ()), within.get(record), found))
            counting.advance()
    for fold, seed in plan.fold_seeds:
        _check_progress(rundir.training(fold, seed), found)
    return Verification(
        run=rundir.path,
        units=found.units,
        num_bytes=found.num_bytes,
        damaged=tuple(found.damaged),
        not_read=tuple(found.not_read),
        not_done=tuple(found.not_done),
        without_digests=tuple(found.without_digests),
        foreign=tuple(_foreign(plan, units)),
    )


@dataclass
class _Found:
    """What was found so far, as in :class:`Verification`."""

    units: int = 0
    num_bytes: int = 0
    damaged: list[str] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)
    not_done: list[str] = field(default_factory=list)
    without_digests: list[str] = field(default_factory=list)

    def add(self, other: _Found) -> None:
        """Take up what was found of a part."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def check(self, *checks: Callable[[], object]) -> bool:
        """Keep what checks say, of those that raise; whether none does."""
        said = len(self.damaged) + len(self.not_read)
        for check in checks:
            try:
                check()
            except (ReadFailedError, OSError, MemoryError) as error:
                self.not_read.append(str(error) or "out of memory")
            except (RunDirError, MissingInputError) as error:
                self.damaged.append(str(error))
        return said == len(self.damaged) + len(self.not_read)


def _look_at(unit: Unit, rests_on: Sequence[Path], within: Callable[[], object] | None, found: _Found) -> None:
    """Look at a unit, unless it, or what it rests on, is worked on meanwhile."""
    records = (unit.record, *rests_on)
    before = [load_record(record) for record in records]
    of_unit = _looked_at(unit, within)
    if [load_record(record) for record in records] == before:
        found.add(of_unit)
    else:
        found.not_done.append(f"{unit.name}: worked on meanwhile")  # records go before outputs are touched


def _looked_at(unit: Unit, within: Callable[[], object] | None) -> _Found:
    """What is found of a unit by its digests and, where it is finished and these hold, by reading ``within``."""
    found = _Found()
    reason = unit.why_not_done()
    is_whole = found.check(*(partial(unit.require_intact, output, thoroughly=True) for output in unit.outputs))
    if reason is not None and reason.startswith(_NO_DAMAGE):
        found.not_done.append(f"{unit.name}: {reason}")
        return found
    if reason is not None:
        found.damaged += [f"{unit.record}: {unit.name}: {reason}; run plexrank run again"] * is_whole
        return found
    if is_whole and within is not None:
        found.check(within)
    if found.damaged or found.not_read:
        return found
    found.units = 1
    found.num_bytes = sum(map(size_bytes, unit.outputs))
    found.without_digests += [unit.name] * ("sha256" not in (load_record(unit.record) or {}))
    return found


def _check_notes(rundir: RunDir, found: _Found) -> None:
    """Read the small files that no unit writes."""
    notes = (rundir.graph, *sorted(rundir.tiles_table.parent.glob("*.failed.json")))
    found.check(
        rundir.require_study,
        rundir.last_command,
        lambda: read_skipped(rundir.skipped),
        *(partial(_read_json, path) for path in notes if path.exists()),
    )


def _read_json(path: Path) -> None:
    with reading_output(path):
        json.loads(read_text(path))


def _rests_on(plan: Plan) -> dict[Path, tuple[Path, ...]]:
    """By done-record, those of the units whose outputs its own are held against."""
    rundir = plan.rundir
    return {rundir.attribution_record(*one): (rundir.training_record(*one),) for one in plan.fold_seeds}


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


def _check_progress(folder: Path, found: _Found) -> None:
    """Read what a training goes on from."""
    paths = [path for path in (folder / "last.pt", folder / "last.pt.prev") if path.exists() or path.is_symlink()]
    if not paths:
        return
    from plexrank.training.checkpoint import load  # loads torch

    of_progress = _Found()
    of_progress.check(*(partial(load, path) for path in paths))
    found.not_read += of_progress.not_read
    for problem in of_progress.damaged:
        where = problem.rpartition("; ")[0]
        found.damaged.append(f"{where}; delete it: nothing rests on it, trainings only go on from it")


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
