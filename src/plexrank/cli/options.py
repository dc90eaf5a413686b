"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="The study file.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
UnitsOption = Annotated[
    Path | None,
    typer.Option(help="A file with a done-record of RUN on each line: work on these units only, as a job array does."),
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="section.key=value", help="Override the study.")]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out images that cannot be used, and count them, instead of stopping.")
]
ClusterOption = Annotated[
    Path | None, typer.Option(metavar="PROFILE.yaml", help="A cluster profile; see slurm/README.md.")
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only results and errors; RUN/logs/plexrank.log has the rest.")
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more: every unit, every epoch.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
