"""A dask cluster made of the processes of one job step, for images that are too large for one machine.

srun starts the processes: the first becomes the scheduler, the second the client, all others workers. A scheduler runs
what it is sent, so they speak TLS, both sides with a certificate that the first process makes for this step and leaves
in a file that only its owner can read.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from dask_jobqueue.slurm import SLURMRunner
from distributed import Client, Security
from distributed.utils import json_load_robust

from plexrank.errors import PlexrankError
from plexrank.launch.profile import LEAST_DASK_PROCESSES
from plexrank.machine.cores import usable_cores
from plexrank.machine.environment_names import SRUN_NAMES
from plexrank.rundir import replacing

DASK_ROLES = ("client", "scheduler", "worker")
SCHEDULER, CLIENT = "0", "1"
"""Numbers of the processes that SLURMRunner makes these."""
WAIT_S = 600
"""How long a process waits for the others."""


@contextmanager
def dask_client(meetings: Path, on_interrupt: Callable[[int, object], None]) -> Iterator[Client]:
    """The client of the cluster, in the process that is to use it; the others serve until it is done, and end here.

    Args:
        meetings: folder that all processes share, where they find each other.
        on_interrupt: what SIGINT calls in the client; in the others it is dask_jobqueue's, which ends them.

    Raises:
        PlexrankError: there are too few processes, or some do not show up.
        SystemExit: this process was the scheduler or a worker, and has done its part.
    """
    count, number = os.environ["SLURM_NTASKS"], os.environ[SRUN_NAMES.process_rank]
    if int(count) < LEAST_DASK_PROCESSES:
        raise PlexrankError(
            f"SLURM_NTASKS is {count}; tiling takes one process, or {LEAST_DASK_PROCESSES} and more: "
            "a scheduler, a client and workers"
        )
    if number == CLIENT:
        signal.signal(signal.SIGINT, on_interrupt)
    meetings.mkdir(parents=True, exist_ok=True)
    step = "-".join(os.environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "STEP_ID", "RESTART_COUNT"))
    keys, address = meetings / f"{step}.tls.json", meetings / f"{step}.scheduler.json"
    logging.getLogger("distributed").setLevel(logging.WARNING)
    try:
        security = _security(keys)
        if number != SCHEDULER:
            _await(address)
        with (
            tempfile.TemporaryDirectory() as scratch,
            _runner(security, address, scratch) as runner,
            Client(runner.scheduler_address, security=security) as client,
        ):
            _await_workers(client, runner.n_workers)
            _remove(keys, address)  # all are here
            yield client
    finally:
        if number in (SCHEDULER, CLIENT):
            _remove(keys, address)


@contextmanager
def _runner(security: Security, address: Path, scratch: str) -> Iterator[_Runner]:
    """Become what this process is to be; only the client comes back."""
    # Pages for a browser, which would be open to everybody, are left out.
    pages: dict[str, list[str]] = {f"distributed.{role}.http.routes": [] for role in ("scheduler", "worker")}
    secure = {"security": security, "protocol": "tls", "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set(pages),
        _Runner(
            security,
            scheduler_file=str(address).replace("{", "{{").replace("}", "}}"),  # jobqueue formats it
            scheduler_options=dict(secure),
            worker_options=secure
            | {
                "nthreads": usable_cores(),
                "memory_limit": 0,  # Slurm sets one
                "local_directory": scratch,
            },
        ) as runner,
    ):
        yield runner


def _await_workers(client: Client, count: int) -> None:
    try:
        client.wait_for_workers(count, timeout=WAIT_S)
    except TimeoutError as error:
        raise PlexrankError(f"{error}; do the machines of this job reach each other's ports?") from error


def _await(path: Path) -> dict[str, str]:
    """What the first process wrote, once it is there as a whole."""
    try:
        found: dict[str, str] = json_load_robust(path, timeout=WAIT_S)
    except TimeoutError as error:
        raise PlexrankError(f"{path}: the first process did not start in time; see its log") from error
    return found


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


class _Runner(SLURMRunner):
    """dask_jobqueue's, which by itself does not reach a scheduler that speaks TLS."""

    def __init__(self, security: Security, **options: object) -> None:
        self._security = security
        super().__init__(**options)  # type: ignore[no-untyped-call]

    async def get_scheduler_address(self) -> str:
        """Address of the scheduler, which is there already."""
        return _await(Path(self.scheduler_file))["address"]

    async def before_client_start(self) -> None:
        """Let the client end the scheduler."""
        self.scheduler_comm.connection_args = self._security.get_connection_args("client")  # type: ignore[attr-defined]

    async def _close(self) -> None:
        """End the scheduler, and through it the workers, unless they were stopped too."""
        with contextlib.suppress(OSError):  # also that of a closed connection, or of no answer in time
            await asyncio.wait_for(super()._close(), timeout=5)


def _security(path: Path) -> Security:
    """Keys and certificate of this step: made by the first process, read by the others."""
    if os.environ[SRUN_NAMES.process_rank] == SCHEDULER:
        made = Security.temporary()
        keys = {"key": made.tls_scheduler_key, "cert": made.tls_scheduler_cert}
        with replacing(path) as temporary:
            temporary.touch(mode=0o600, exist_ok=False)
            temporary.write_text(json.dumps(keys), encoding="utf-8")
    keys = _await(path)
    files = {f"tls_{role}_{kind}": keys[kind] for role in DASK_ROLES for kind in ("key", "cert")}
    return Security(require_encryption=True, tls_ca_file=keys["cert"], **files)
