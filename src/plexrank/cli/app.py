"""The command itself, and what several verbs do alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import plexrank

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
    show: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """plexrank ranks protein channels; every command has its own --help."""
    if show:
        print(f"plexrank {plexrank.__version__}")
        raise typer.Exit


class StopRequestedError(BaseException):
    """Ctrl-C, TERM or USR2: passes every handler of errors, but leaves no unit half-written for done."""


def stop(number: int, frame: object) -> None:
    """Handler of these signals."""
    raise StopRequestedError


def listed(meanings: Mapping[str, str]) -> str:
    """What each choice means, below the help of a command."""
    return "\n\n".join(f"{name}: {meaning}" for name, meaning in meanings.items())


def with_skip_bad(set_: list[str] | None, skip_bad: bool) -> list[str]:
    """The overrides of a command line."""
    from plexrank.launch.resuming import SKIP_BAD

    return [*(set_ or ()), *[SKIP_BAD] * skip_bad]


def resumed(run: Path) -> Plan:
    """The plan of an existing run."""
    from plexrank.launch.resuming import resume_run

    return resume_run(run)


def run_the_stages(plan: Plan, stages: Sequence[str]) -> None:
    """Do what is not done of some stages."""
    from plexrank.progress import Reporter
    from plexrank.stages.pipeline import run_stages

    run_stages(plan, stages, Reporter())
