"""What a machine has for plexrank, and whether a cluster profile fits its cluster."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import plexrank
from plexrank.errors import PlexrankError
from plexrank.launch import slurm
from plexrank.launch.one_job import SCHEDULERS
from plexrank.launch.options import variables_of
from plexrank.launch.profile import ArrayResources, Profile
from plexrank.launch.refusals import explain
from plexrank.launch.script import probe_text
from plexrank.launch.versions import other_version
from plexrank.machine.cores import usable_cores
from plexrank.planning.order import STAGES
from plexrank.rundir import file_digest


@dataclass(frozen=True)
class Finding:
    """One thing looked at; ``is_bad`` where plexrank cannot work with it."""

    topic: str
    text: str
    is_bad: bool = False

    def line(self) -> str:
        """For a person."""
        return f"{'!' if self.is_bad else ' '} {self.topic:12} {self.text}"


def examine(folder: Path, profile: Profile | None, submit: bool) -> Iterator[Finding]:
    """All that there is to look at.

    Args:
        folder: where runs would be written.
        profile: of the cluster, if any.
        submit: look on a node too.
    """
    yield from examine_machine(folder)
    if profile is not None:
        yield from examine_cluster(profile)
        if submit:
            yield from examine_nodes(profile, folder)


def examine_machine(folder: Path) -> Iterator[Finding]:
    """What this machine has; ``folder`` is where runs would be written."""
    yield Finding("plexrank", f"{plexrank.__version__} on Python {platform.python_version()}, {platform.node()}")
    if difference := other_version():
        yield Finding("plexrank", difference, is_bad=True)
    cores = usable_cores()
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield Finding("machine", f"{cores} of {os.cpu_count()} cores usable, {memory_gb:.0f} GB of memory")
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", "not installed: this machine can submit jobs, but not compute")
    else:
        yield _examine_gpus()
    for command in ("sbatch", "apptainer"):
        yield Finding(command, _version_of(command) or "not found")
    disk = shutil.disk_usage(folder)
    room = f"{disk.free / 1e9:.0f} of {disk.total / 1e9:.0f} GB free"
    yield Finding("disk", f"{room} in {folder} ({_file_system(folder)})")
    if not os.access(folder, os.W_OK):
        yield Finding("disk", f"{folder}: not writable; runs need a folder that is", is_bad=True)


def examine_cluster(profile: Profile) -> Iterator[Finding]:
    """Whether a profile fits the cluster that this machine submits to."""
    if profile.container is not None:
        yield from _examine_container(profile.container.image, profile.container.bind)
        if not shutil.which(profile.container.runtime):
            where = "setup may bring it on the nodes" if profile.setup else "the nodes may have it all the same"
            yield Finding("runtime", f"{profile.container.runtime}: not found here; {where}")
    if profile.scheduler != "slurm":
        submit = SCHEDULERS[profile.scheduler].submit.split()[0]
        yield Finding(profile.scheduler, shutil.which(submit) or f"{submit}: not found here", not shutil.which(submit))
        return
    if not slurm.is_available():
        yield Finding(
            "slurm", "sbatch: not found; run this where jobs are submitted, such as a login node", is_bad=True
        )
        return
    largest = profile.max_array_size or slurm.max_array_size(profile.first_cluster)
    for stage in STAGES:
        yield _examine_stage(stage, profile, largest)


def _examine_stage(stage: str, profile: Profile, largest: int) -> Finding:
    """Whether Slurm would take a stage's jobs, and ever start them, which ``sbatch --test-only`` does not tell."""
    asked = profile.resources(stage)
    num_tasks = min(asked.jobs, largest) if isinstance(asked, ArrayResources) and asked.has_arrays else 1
    what = "its jobs" if num_tasks == 1 else f"an array of {num_tasks}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "probe.sh"
            script.write_text(probe_text(stage, asked, profile, Path(folder), num_tasks))
            slurm.try_out(script, clusters=profile.clusters or "", without=variables_of(asked.options()))
    except PlexrankError as error:
        said = explain(str(error), asked.options(), clusters=profile.clusters, num_tasks=num_tasks)
        return Finding(stage, f"Slurm would refuse {what}: {said}; fix {stage} in the profile", is_bad=True)
    if "time" not in asked.options():
        return Finding(stage, f"Slurm would take {what}")
    partition = asked.partition or os.environ.get("SBATCH_PARTITION")
    where = f"partition {partition}" if partition else "the default partition"
    try:
        longest_min = slurm.longest_min(partition, profile.first_cluster)
    except PlexrankError as error:
        unknown = f"whether {where} allows {stage}.time_min {asked.time_min} is not known"
        return Finding(stage, f"Slurm would take {what}; {unknown}: {error}")
    if asked.time_min > longest_min:
        limit = f"{stage}.time_min is {asked.time_min}, {where} allows {longest_min:.0f}"
        return Finding(stage, f"Slurm would never start its jobs: {limit}", is_bad=True)
    return Finding(stage, f"Slurm would take {what}")


def examine_nodes(profile: Profile, folder: Path) -> Iterator[Finding]:
    """What a job of one minute finds where ``train`` would run; waits for it.

    Args:
        profile: of the cluster.
        folder: shared with the nodes; a folder in it holds script and log meanwhile.
    """
    if profile.scheduler != "slurm":
        yield Finding("node", f"not looked at: only Slurm is given a job for that, not {profile.scheduler}")
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix="plexrank-doctor-") as scratch:
        script = Path(scratch) / "probe.sh"
        one_minute = {"time_min": 1, "nodes": 1, "tasks_per_node": 1}
        asked = profile.resources("train").model_copy(update=one_minute)
        script.write_text(probe_text("train", asked, profile, Path(scratch)))
        try:
            slurm.run_and_wait(script, clusters=profile.clusters or "", without=variables_of(asked.options()))
        except PlexrankError as error:
            yield Finding("node", f"the job failed: {error or 'it ended with an error'}", is_bad=True)
        for log in sorted(Path(scratch).glob("*_log.out")):
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                yield Finding("node", line.strip())


def _examine_container(image: Path, binds: tuple[Path, ...]) -> Iterator[Finding]:
    if not image.exists():
        yield Finding(
            "container", f"{image}: no such image; build it (container/README.md) or fix the profile", is_bad=True
        )
    elif image.is_file():
        yield Finding("container", f"{image}: {image.stat().st_size / 1e9:.1f} GB, sha256 {file_digest(image)}")
    else:
        yield Finding("container", f"{image}: an unpacked image, which has no digest")
    for path in binds:
        if not path.exists():
            yield Finding("bind", f"{path}: no such folder; fix container.bind in the profile", is_bad=True)


def _examine_gpus() -> Finding:
    """What torch computes on, asked in a process of its own, since loading it takes long and may fail."""
    code = "from plexrank.machine.devices import choose_device, found_line; print(found_line(choose_device(0)))"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], capture_output=True, errors="backslashreplace", check=False, timeout=120
        )
    except subprocess.TimeoutExpired:
        return Finding("torch", f"{version('torch')}; no answer within two minutes")
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1].removeprefix("plexrank.errors.PlexrankError: ")
        return Finding("torch", f"{version('torch')}; {said}", is_bad=True)
    return Finding("torch", f"{version('torch')}; {done.stdout.strip()}")


def _version_of(command: str) -> str | None:
    path = shutil.which(command)
    if path is None:
        return None
    done = subprocess.run([path, "--version"], capture_output=True, errors="backslashreplace", check=False, timeout=60)
    return f"{done.stdout.strip()} ({path})" if done.returncode == 0 else None


def _file_system(folder: Path) -> str:
    """Type of the file system that a folder lies in, by the longest mount point above it."""
    found, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, of_mount, *_ = line.split()
        if folder.is_relative_to(mount) and len(mount) >= len(found):
            found, kind = mount, of_mount
    return kind
