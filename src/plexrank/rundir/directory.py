"""The run directory: the only owner of its file names, and of its lock and provenance.

A unit of work (an image's tiles, a fold × seed, a table) is done when its done-record exists. The
record is written last and holds what the unit depended on and the sizes of what it wrote, so that a
half-written unit is never taken for done and a changed setting redoes only what depends on it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from plexrank.errors import MissingInputError, RunDirError, StudyError, naming_damage, refuse_passing, resolve_input
from plexrank.rundir.atomic import clear_leftovers, name_replaced, read_text, write_text
from plexrank.rundir.digests import file_digest
from plexrank.rundir.lock import Lock

STUDY_DIGEST = "study sha256"
"""Of the saved study, in a command's entry of ``provenance.json``."""


class RunDir:
    """Names of everything in a run directory; see the layout in the README."""

    def __init__(self, path: Path) -> None:
        self.path = resolve_input(path, str(path))
        self.lock = self.path / ".run.lock"
        self.study = self.path / "study.yaml"
        self.provenance = self.path / "provenance.json"
        self.tiles_table = self.path / "tiles" / "tiles.parquet"
        self.tile_statistics = self.path / "tiles" / "statistics.parquet"
        self.tiles_record = self.path / "tiles" / "_tiles.done.json"  # no image_id begins with _
        self.image_notes = self.path / "tiles" / "images.json"
        self.skipped = self.path / "tiles" / "skipped.json"
        self.null = self.path / "null"
        self.ranking = self.path / "ranking"
        self.ranking_record = self.ranking / "ranking.done.json"
        self.report = self.path / "report"
        self.report_page = self.report / "report.html"
        self.figures = self.report / "figures"
        self.multiqc = self.report / "ranking_mqc.json"
        self.report_record = self.report / "report.done.json"
        self.jobs = self.path / "jobs"
        self.logs = self.path / "logs"
        self.log = self.logs / "plexrank.log"
        self.meetings = self.jobs / "meetings"
        self.graph = self.jobs / "graph.json"
        self.idle = self.jobs / "idle"

    def create(self) -> None:
        """Make the directory, readable by its owner only, unless it is there."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def require_own(self) -> None:
        """Raise :class:`StudyError` where a new run would take over what is no run directory."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise StudyError(f"{self.path}: a file, not a folder; give --out a new folder")
        if not self._is_run() and any(map(self._is_foreign, self.path.iterdir())):
            raise StudyError(f"{self.path}: not a run directory, but holds other files; give --out a new folder")

    def _is_run(self) -> bool:
        """Whether something is here that only plexrank writes, whatever else was lost."""
        if self.provenance.is_file():
            return True
        ours = ("tiles/*.done.json", "train/fold-*/seed-*/*.pt", "ranking/ranking.done.json", "report/report.done.json")
        is_begun = self.study.is_file() and (self.log.is_file() or self.graph.is_file())
        return is_begun or any(next(self.path.glob(pattern), None) for pattern in ours)

    def _is_foreign(self, path: Path) -> bool:
        """Whether a file is none of those that a process leaves which was killed before it wrote anything else."""
        return not (path.name.startswith(self.lock.name) or path == self.provenance or name_replaced(path.name))

    @contextlib.contextmanager
    def locked(self, job: str = "") -> Iterator[None]:
        """Keep other runs out of the directory, which is made if need be, until the block ends.

        The lock of a process that is gone is taken over: at once where that can be told (on the same host, or where
        Slurm requeued its job to another), otherwise when it gave no sign of life for some minutes.

        Args:
            job: id of the Slurm job that this process belongs to, if any.

        Raises:
            RunDirError: another run is at work.
        """
        self.create()
        with Lock(self.lock, job).held():
            clear_leftovers([self.lock, self.study, self.provenance])
            yield

    def require(self) -> None:
        """Raise :class:`MissingInputError` where this is no run directory."""
        if self.path.is_file():
            raise MissingInputError(f"{self.path}: a file; give the run directory, which plexrank run made")
        if not self._is_run():
            raise MissingInputError(
                f"{self.path}: not a run directory (no {self.provenance.name} in it); start one with plexrank run"
            )
        if not self.study.is_file():
            raise MissingInputError(
                f"{self.study}: lost; plexrank run STUDY --out {self.path} writes it again; give it the same --set as "
                "before, since with other settings what is done is done again"
            )

    def require_study(self) -> None:
        """Hold the saved study against the digests in ``provenance.json``, where these are to be had.

        Any command's will do: one that was killed may have noted a study that it did not come to write.

        Raises:
            RunDirError: the study was changed since it was written.
        """
        try:
            known = {command[STUDY_DIGEST] for command in self._commands() if STUDY_DIGEST in command}
        except RunDirError:
            return
        if known and file_digest(self.study) not in known:
            raise RunDirError(
                f"{self.study}: changed by hand or damaged since plexrank run wrote it; change settings in your own "
                f"study file, and run plexrank run STUDY.yaml --out {self.path} with it, which writes this one again"
            )

    def tile_store(self, image_id: str) -> Path:
        """The image's tile store."""
        return self.path / "tiles" / f"{image_id}.ome.zarr"

    def image_failure(self, image_id: str) -> Path:
        """Why the image could not be tiled at the last try, for the process that joins what others have tiled."""
        return self.path / "tiles" / f"{image_id}.failed.json"

    def tile_record(self, image_id: str) -> Path:
        """Done-record of the image's tiles."""
        return self.path / "tiles" / f"{image_id}.done.json"

    def training(self, fold: int, seed: int) -> Path:
        """Folder of one training unit, which holds ``best.pt``, ``last.pt`` and ``history.csv``."""
        return self.path / "train" / f"fold-{fold}" / f"seed-{seed}"

    def training_record(self, fold: int, seed: int) -> Path:
        """Done-record of one training unit."""
        return self.training(fold, seed) / "done.json"

    def null_training(self, labelling: int, fold: int) -> Path:
        """Folder of one training on permuted labels, which holds ``unit.npz`` and, until that is there, checkpoints."""
        return self.null / f"labels-{labelling}" / f"fold-{fold}"

    def null_training_record(self, labelling: int, fold: int) -> Path:
        """Done-record of one training on permuted labels."""
        return self.null_training(labelling, fold) / "done.json"

    def attribution(self, fold: int, seed: int) -> Path:
        """Attribution store of one unit."""
        return self.path / "attribution" / f"fold-{fold}-seed-{seed}.zarr"

    def attribution_record(self, fold: int, seed: int) -> Path:
        """Done-record of one unit's attribution."""
        return self.path / "attribution" / f"fold-{fold}-seed-{seed}.done.json"

    def add_provenance(self, entry: Mapping[str, str]) -> None:
        """Append one command's entry to ``provenance.json``."""
        history: list[dict[str, str]] = []
        with contextlib.suppress(RunDirError):
            history = self._commands()
        write_text(self.provenance, json.dumps({"commands": [*history, entry]}, indent=1) + "\n")

    def add_to_last_command(self, **more: str) -> dict[str, str]:
        """Add to the newest entry of ``provenance.json``; the entry.

        Raises:
            RunDirError: the file is missing or damaged.
        """
        *before, last = self._commands()
        write_text(self.provenance, json.dumps({"commands": [*before, last | more]}, indent=1) + "\n")
        return last | more

    def last_command(self) -> dict[str, str]:
        """The newest entry of ``provenance.json``.

        Raises:
            RunDirError: the file is missing or damaged.
        """
        return self._commands()[-1]

    def _commands(self) -> list[dict[str, str]]:
        try:
            commands = json.loads(read_text(self.provenance))["commands"]
            if not commands or not all(isinstance(command, dict) for command in commands):
                raise ValueError("no list of commands")
            return [{str(key): str(value) for key, value in command.items()} for command in commands]
        except (OSError, MemoryError, ValueError, KeyError, TypeError, RecursionError) as error:
            refuse_passing(error, str(self.provenance))
            raise RunDirError(
                f"{self.provenance}: missing or damaged; run plexrank run with --out {self.path} again, which writes it"
            ) from error


def reading_output(path: Path) -> contextlib.AbstractContextManager[None]:
    """A block that reads a file of a run: what libraries raise for a damaged one becomes an error that names it.

    Raises:
        RunDirError: the file is missing or damaged.
    """
    return naming_damage(f"{path}: missing or damaged", "delete it and run plexrank run again", RunDirError)
