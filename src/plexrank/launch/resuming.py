"""The plan of a run that exists already, for a stage of it and for a look at it."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from plexrank.errors import PlexrankError, RunDirError, StudyError, naming_input
from plexrank.launch.versions import other_version
from plexrank.planning.plan import Plan, make_plan
from plexrank.rundir import STUDY_DIGEST, RunDir, write_text
from plexrank.settings import Study
from plexrank.study import dump_study, load_study

SKIP_BAD = "cohort.skip_bad=true"
"""The override that ``--skip-bad`` stands for."""


def resume_run(path: Path, *, for_tiling: bool = False, skip_bad: bool = False) -> Plan:
    """The plan of an existing run.

    Raises:
        PlexrankError: there is none, its study or cohort is wrong, or this is a job that another version submitted.
    """
    if difference := other_version():
        raise PlexrankError(difference)
    rundir = RunDir(path)
    rundir.require()
    rundir.require_study()
    study = load_study(rundir.study, [SKIP_BAD] if skip_bad else [])
    return make_plan(rundir, study, for_tiling=for_tiling)


def save_study(rundir: RunDir, study: Study) -> None:
    """Write the study into its run, and its digest beside the command that is noted last, before it."""
    text = dump_study(study)
    with contextlib.suppress(RunDirError):  # without a list of commands nothing is known of the study before either
        rundir.add_to_last_command(**{STUDY_DIGEST: hashlib.sha256(text.encode()).hexdigest()})
    write_text(rundir.study, text)


def choose_units(plan: Plan, stage: str, units: Path | None) -> Plan:
    """The plan for the units of a stage that a file lists, a done-record on each line; the plan itself without one.

    Raises:
        MissingInputError: the file cannot be read.
        StudyError: it lists something else.
    """
    if units is None:
        return plan
    with naming_input(str(units)):
        content = units.read_bytes()
    try:
        return plan.choose(stage, content.decode("utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise StudyError(f"{units}: not UTF-8 text; give the file that was written for this task") from error
