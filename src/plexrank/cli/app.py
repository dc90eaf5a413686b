"""The command itself, and what several verbs do alike."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

import plexrank
from plexrank.limits import require_settings
from plexrank.progress import Reporter
from plexrank.wording import printable

if TYPE_CHECKING:
    from plexrank.planning.plan import Plan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which protein channels of multiplexed tissue images separate patient groups, and how sure that is.",
)


@app.callback(invoke_without_command=True)
def version(
    is_asked: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """plexrank ranks protein channels; every command has its own --help."""
    if is_asked:
        show(f"plexrank {plexrank.__version__}")
        raise typer.Exit
    require_settings()


class StopRequestedError(BaseException):
    """Ctrl-C, TERM or USR2: passes every handler of errors, but leaves no unit half-written for done."""


def stop(number: int, frame: object) -> None:
    """Handler of these signals."""
    raise StopRequestedError


def below(*examples: str, **meanings: str) -> str:
    """What stands below the help of a command: examples, and what each choice means."""
    head = "Example:" if len(examples) == 1 else "Examples:"
    return "\n\n".join([head, *examples, *(f"{name}: {meaning}" for name, meaning in meanings.items())])


def with_skip_bad(set_: list[str] | None, skip_bad: bool) -> list[str]:
    """The overrides of a command line."""
    from plexrank.launch.resuming import SKIP_BAD

    return [*(set_ or ()), *[SKIP_BAD] * skip_bad]


def resumed(run: Path) -> Plan:
    """The plan of an existing run."""
    from plexrank.launch.resuming import resume_run

    return resume_run(run)


def show(text: object, stream: TextIO | None = None) -> None:
    """Print a result; names from a user's files cannot steer the terminal."""
    print(printable(str(text)), file=stream, flush=True)


def reporter_of(quiet: bool, verbose: bool) -> Reporter:
    """What a command says it with."""
    if quiet and verbose:
        raise typer.BadParameter("--quiet and --verbose exclude each other")
    return Reporter(quiet=quiet, verbose=verbose)


def run_the_stages(
    plan: Plan, stages: Sequence[str], reporter: Reporter, units: Path | None = None, *, saves_study: bool = False
) -> None:
    """Do what is not done of some stages of an existing run.

    Args:
        units: lists the plan's units, where these are not all.
        saves_study: the plan's study differs from that of the run, and is to be that of the stages that follow.
    """
    from plexrank.launch.opening import working_by_hand
    from plexrank.stages.pipeline import run_stages

    with (
        working_by_hand(plan, reporter, shares_work=units is not None, saves_study=saves_study),
        reporter.logging_to(plan.rundir.log),
    ):
        reporter.log(f"$ {shlex.join(['plexrank', *sys.argv[1:]])}")
        run_stages(plan, stages, reporter)
