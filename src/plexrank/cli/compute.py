"""Verbs that compute: a run, and its stages one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plexrank.cli.app import app, below, reporter_of, resumed, run_the_stages, show, stop, with_skip_bad
from plexrank.cli.options import (
    ClusterOption,
    QuietOption,
    RunArgument,
    SetOption,
    SkipBadOption,
    StudyArgument,
    UnitsOption,
    VerboseOption,
)
from plexrank.machine.environment_names import SRUN_NAMES
from plexrank.machine.processes import refuse_several_processes, several_started_by
from plexrank.planning.order import ABOUT_STAGES, STAGES, StageName


@app.command(
    epilog=below(
        "plexrank run study.yaml --out RUN",
        "plexrank run study.yaml --out RUN --set train.epochs=50 --until train",
        "plexrank run study.yaml --out RUN --cluster profile.yaml",
        **ABOUT_STAGES,
    )
)
def run(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run directory; an existing one is resumed.")],
    until: Annotated[StageName, typer.Option(metavar="STAGE", help="Stop after this stage; see below.")] = STAGES[-1],
    set_: SetOption = None,
    skip_bad: SkipBadOption = False,
    cluster: ClusterOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and why.")] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run the whole pipeline, or go on with it: finished work is skipped. With --cluster, submit it to Slurm."""
    from plexrank.launch.opening import open_run, run_on_cluster, running
    from plexrank.stages.pipeline import plans_of_stages, run_stages
    from plexrank.stages.todo import lines_to_do

    refuse_several_processes("run")
    reporter = reporter_of(quiet, verbose)
    with reporter.at_work("check"):
        plan = open_run(out, study, with_skip_bad(set_, skip_bad), reporter, own_weights=cluster is None)
    if cluster is not None:
        show("\n".join(run_on_cluster(plan, cluster, until, dry_run)))
        return
    stages = STAGES[: STAGES.index(until) + 1]
    if dry_run:
        for stage, of_stage in plans_of_stages(plan, stages):
            show("\n".join(lines_to_do(of_stage.units(stage))))
        return
    with running(plan, reporter):
        run_stages(plan, stages, reporter)
    show(plan.rundir.report_page if until == STAGES[-1] else plan.rundir.path)


@app.command(epilog=below("plexrank tile RUN", "srun plexrank tile RUN"))
def tile(
    run: RunArgument,
    units: UnitsOption = None,
    skip_bad: SkipBadOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Cut the images of a run into tile stores; also under srun, to spread every image over several machines."""
    from plexrank.launch.resuming import choose_units, resume_run, save_study

    reporter = reporter_of(quiet, verbose)
    is_dask = several_started_by() == SRUN_NAMES
    if not is_dask:
        refuse_several_processes("tile")
    plan = choose_units(resume_run(run, for_tiling=True, skip_bad=skip_bad), "tile", units)
    if not is_dask:
        run_the_stages(plan, ["tile"], reporter, units, saves_study=skip_bad)
        return
    from plexrank.launch.allocation import dask_client
    from plexrank.stages.tile import run as tile_images

    with (
        dask_client(plan.rundir.meetings, stop) as client,
        reporter.logging_to(plan.rundir.log),
        reporter.at_work("tile"),
    ):
        if skip_bad:
            save_study(plan.rundir, plan.study)
        tile_images(plan, reporter, client)


@app.command(epilog=below("plexrank train RUN", "torchrun --nproc-per-node 4 --no-python plexrank train RUN"))
def train(
    run: RunArgument, units: UnitsOption = None, quiet: QuietOption = False, verbose: VerboseOption = False
) -> None:
    """Train every fold and seed of a run, and on permuted labels; also under torchrun or srun, one process a GPU."""
    from plexrank.launch.resuming import choose_units

    run_the_stages(choose_units(resumed(run), "train", units), ["train"], reporter_of(quiet, verbose), units)


@app.command(epilog=below("plexrank attribute RUN"))
def attribute(
    run: RunArgument, units: UnitsOption = None, quiet: QuietOption = False, verbose: VerboseOption = False
) -> None:
    """Compute the held-out embedding and importances of every training of a run."""
    from plexrank.launch.resuming import choose_units

    run_the_stages(choose_units(resumed(run), "attribute", units), ["attribute"], reporter_of(quiet, verbose), units)


@app.command(epilog=below("plexrank rank RUN"))
def rank(run: RunArgument, quiet: QuietOption = False, verbose: VerboseOption = False) -> None:
    """Merge the importances of a run into the ranking of the cohort."""
    refuse_several_processes("rank")
    run_the_stages(resumed(run), ["rank"], reporter_of(quiet, verbose))


@app.command(epilog=below("plexrank report RUN"))
def report(run: RunArgument, quiet: QuietOption = False, verbose: VerboseOption = False) -> None:
    """Write the report of a run."""
    refuse_several_processes("report")
    run_the_stages(resumed(run), ["report"], reporter_of(quiet, verbose))
