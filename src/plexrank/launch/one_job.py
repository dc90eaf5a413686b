"""A whole study as one job of PBS, LSF or Grid Engine: ``plexrank run`` in a single allocation, gone on with.

submitit and the graph of jobs know Slurm only. Here one script runs all stages one after the other, warns itself before
the time limit, and goes on as long as there is progress, in the same job or a new one. It is submitted by hand.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from plexrank.launch import versions
from plexrank.launch.profile import DIRECTIVES, Profile, WholeRun
from plexrank.launch.requeue import STOPPED
from plexrank.launch.script import data_folders, gpu_option, mount, python_command, refuse_unusable_path
from plexrank.machine.cores import CORES
from plexrank.machine.gpus import ASKED
from plexrank.rundir import RunDir, write_text
from plexrank.settings import Study


def _hours(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _pbs(asked: WholeRun) -> list[str]:
    memory = f":mem={math.ceil(asked.mem_gb)}gb" if asked.mem_gb else ""
    return [
        f"#PBS -l select=1:ncpus={asked.cpus}{memory}{f':ngpus={asked.gpus}' if asked.gpus else ''}",
        f"#PBS -l walltime={_hours(asked.time_min)}:00",
    ]


def _lsf(asked: WholeRun) -> list[str]:
    memory = [f'#BSUB -R "rusage[mem={math.ceil(asked.mem_gb)}GB]"'] if asked.mem_gb else []
    gpus = [f'#BSUB -gpu "num={asked.gpus}"'] if asked.gpus else []
    return [f"#BSUB -n {asked.cpus}", '#BSUB -R "span[hosts=1]"', *memory, *gpus, f"#BSUB -W {_hours(asked.time_min)}"]


def _sge(asked: WholeRun) -> list[str]:
    memory = [f"#$ -l h_vmem={math.ceil(asked.mem_gb * 1024 / asked.cpus)}M"] if asked.mem_gb else []  # of each core
    gpus = [f"#$ -l gpu={asked.gpus}"] if asked.gpus else []
    return [f"#$ -pe smp {asked.cpus}", *memory, *gpus, f"#$ -l h_rt={_hours(asked.time_min)}:00"]


@dataclass(frozen=True)
class Scheduler:
    """What differs between them.

    Attributes:
        queue, account: its options for these.
        fixed: its lines for every job: a name, one log, to be run again after a node went down.
        resources: its lines for what a job asks for.
        submit: what a user submits a script with.
        job_id: variable with the id of a job.
        again: shell that runs the job again; ``$script`` is its file.
    """

    queue: str
    account: str
    fixed: tuple[str, ...]
    resources: Callable[[WholeRun], list[str]]
    submit: str
    job_id: str
    again: str


SCHEDULERS = {
    "pbs": Scheduler(
        queue="-q",
        account="-A",
        fixed=("-N plexrank", "-j oe", "-r y"),
        resources=_pbs,
        submit="qsub",
        job_id="PBS_JOBID",
        again='qsub "$script" && exit 0',
    ),
    "lsf": Scheduler(
        queue="-q",
        account="-P",
        fixed=("-J plexrank", "-r", f"-Q {STOPPED}"),
        resources=_lsf,
        submit="bsub <",
        job_id="LSB_JOBID",
        again=f"exit {STOPPED}",
    ),
    "sge": Scheduler(
        queue="-q",
        account="-P",
        fixed=("-N plexrank", "-j y", "-r y", "-S /bin/bash"),
        resources=_sge,
        submit="qsub",
        job_id="JOB_ID",
        again="exit 99",
    ),
}


def write_one_job(profile: Profile, study: Study, rundir: RunDir, until: str) -> list[str]:
    """Write the script of the whole run; its path, and how to submit it.

    Raises:
        StudyError: a path cannot stand in a script.
    """
    scheduler = SCHEDULERS[profile.scheduler]
    path = rundir.jobs / f"plexrank.{profile.scheduler}"
    write_text(path, one_job_text(profile, study, rundir, until, path))
    path.with_name(f"{path.name}.starts").unlink(missing_ok=True)
    return [f"{path}", f"submit it: {scheduler.submit} {shlex.quote(str(path))}; its log is in {rundir.logs}"]


def one_job_text(profile: Profile, study: Study, rundir: RunDir, until: str, path: Path) -> str:
    """The script, which will lie at ``path``."""
    refuse_unusable_path(rundir.path)
    scheduler, prefix, asked = SCHEDULERS[profile.scheduler], DIRECTIVES[profile.scheduler], profile.run
    where = [(scheduler.queue, profile.partition), (scheduler.account, profile.account)]
    fixed = [f"{prefix} {line}" for line in scheduler.fixed]
    fixed += [f"{prefix} {option} {value}" for option, value in where if value]
    binds = [*(mount(one, "ro") for one in data_folders(profile, study)), mount(rundir.path)]
    python = python_command(profile, binds, rundir.path, gpu_option(profile, asked.gpus, "CUDA_VISIBLE_DEVICES"))
    run, logs = shlex.quote(str(rundir.path)), shlex.quote(str(rundir.logs))
    seconds = asked.time_min * 60 - profile.stop_before_s
    lines = [
        "#!/bin/bash",
        *fixed,
        *(asked.header or scheduler.resources(asked)),
        f"exec >> {logs}/plexrank-${{{scheduler.job_id}:-0}}.log 2>&1",
        f"script={shlex.quote(str(path))}",
        *profile.setup,
        *versions.version_lines(),
        *([f"export {ASKED}={asked.gpus}"] if asked.gpus else []),
        f"export {CORES}={asked.cpus} OMP_NUM_THREADS={asked.cpus}",
        "progress() {",
        f'    find {run} \\( -name "*done.json" -o -name last.pt \\) -printf "%p %s %T@\\n" | sort | cksum',
        "}",
        'echo "$(date) $(hostname)" >> "$script.starts"',
        "before=$(progress)",
        f"timeout --preserve-status --signal=USR2 {seconds} \\",
        f"    {python} -m plexrank run {run}/study.yaml --out {run} --until {until}",
        "code=$?",
        f'if [ $code -ne {STOPPED} ]; then rm -f "$script.starts"; exit $code; fi',
        f'if [ "$(progress)" != "$before" ] && [ "$(wc -l < "$script.starts")" -le {profile.max_requeues} ]; then',
        '    echo "plexrank: stopped with more to do; the job is run again"',
        f"    {scheduler.again}",
        "fi",
        'rm -f "$script.starts"',
        'echo "plexrank: stopped with more to do; submit it again, with more time if nothing was saved"',
        "exit 1",
    ]
    return "\n".join(lines) + "\n"
