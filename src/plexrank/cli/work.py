"""Verbs that compute: a run, and its stages one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plexrank.cli.app import app, listed, resumed, run_the_stages, stop, with_skip_bad
from plexrank.cli.options import ClusterOption, RunArgument, SetOption, SkipBadOption, StudyArgument, UnitsOption
from plexrank.machine.environment_names import SRUN_NAMES
from plexrank.machine.processes import refuse_several_processes, several_started_by
from plexrank.planning.order import ABOUT_STAGES, STAGES, StageName
from plexrank.progress import Reporter


@app.command(epilog=listed(ABOUT_STAGES))
def run(
    study: StudyArgument,
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run directory; an existing one is resumed.")],
    until: Annotated[StageName, typer.Option(metavar="STAGE", help="Stop after this stage; see below.")] = STAGES[-1],
    set_: SetOption = None,
    skip_bad: SkipBadOption = False,
    cluster: ClusterOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and why.")] = False,
) -> None:
    """Run the whole pipeline, or go on with it: finished work is skipped. With --cluster, submit it to Slurm."""
    from plexrank.launch.opening import open_run, run_on_cluster, running
    from plexrank.stages.pipeline import plans_of_stages, run_stages
    from plexrank.stages.todo import lines_to_do

    refuse_several_processes("run")
    reporter = Reporter()
    plan = open_run(out, study, with_skip_bad(set_, skip_bad), reporter, own_weights=cluster is None)
    if cluster is not None:
        print("\n".join(run_on_cluster(plan, cluster, until, dry_run)))
        return
    stages = STAGES[: STAGES.index(until) + 1]
    if dry_run:
        for stage, of_stage in plans_of_stages(plan, stages):
            print("\n".join(lines_to_do(of_stage.units(stage))))
        return
    with running(plan):
        run_stages(plan, stages, reporter)
    print(plan.rundir.report_page if until == STAGES[-1] else plan.rundir.path)


@app.command()
def tile(run: RunArgument, units: UnitsOption = None, skip_bad: SkipBadOption = False) -> None:
    """Cut the images of a run into tile stores; also under srun, to spread every image over several machines."""
    from plexrank.launch.resuming import choose_units, resume_run

    is_dask = several_started_by() == SRUN_NAMES
    if not is_dask:
        refuse_several_processes("tile")
    plan = choose_units(resume_run(run, for_tiling=True, skip_bad=skip_bad), "tile", units)
    if not is_dask:
        run_the_stages(plan, ["tile"])
        return
    from plexrank.launch.allocation import dask_client
    from plexrank.stages.tile import run as tile_images

    with dask_client(plan.rundir.meetings, stop) as client:
        tile_images(plan, Reporter(), client)


@app.command()
def train(run: RunArgument, units: UnitsOption = None) -> None:
    """Train every fold and seed of a run, and on permuted labels; also under torchrun or srun, one process a GPU."""
    from plexrank.launch.resuming import choose_units

    run_the_stages(choose_units(resumed(run), "train", units), ["train"])


@app.command()
def attribute(run: RunArgument, units: UnitsOption = None) -> None:
    """Compute the held-out embedding and importances of every training of a run."""
    from plexrank.launch.resuming import choose_units

    run_the_stages(choose_units(resumed(run), "attribute", units), ["attribute"])


@app.command()
def rank(run: RunArgument) -> None:
    """Merge the importances of a run into the ranking of the cohort."""
    refuse_several_processes("rank")
    run_the_stages(resumed(run), ["rank"])


@app.command()
def report(run: RunArgument) -> None:
    """Write the report of a run."""
    refuse_several_processes("report")
    run_the_stages(resumed(run), ["report"])
