"""A dask cluster made of the processes of one job step, for images that are too large for one machine.

srun starts the processes: the first becomes the scheduler, the second the client, all others workers. A scheduler runs
what it is sent, so they speak TLS, both sides with a certificate that the first process makes for this step and leaves
in a file that only its owner can read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
from dask_jobqueue.slurm import SLURMRunner
from distributed import Client, Security
from distributed.utils import json_load_robust

from plexrank.errors import PlexrankError
from plexrank.launch.profile import LEAST_DASK_PROCESSES
from plexrank.rundir import replacing

ROLES = ("client", "scheduler", "worker")


@contextmanager
def dask_client(meetings: Path) -> Iterator[Client]:
    """The client of the cluster, in the process that is to use it; the others serve until it is done, and end here.

    Args:
        meetings: folder that all processes share, where they find each other.

    Raises:
        PlexrankError: there are too few processes.
        SystemExit: this process was the scheduler or a worker, and has done its part.
    """
    count = os.environ["SLURM_NTASKS"]
    if int(count) < LEAST_DASK_PROCESSES:
        raise PlexrankError(
            f"SLURM_NTASKS is {count}; tiling takes one process, or {LEAST_DASK_PROCESSES} and more: "
            "a scheduler, a client and workers"
        )
    meetings.mkdir(parents=True, exist_ok=True)
    step = "-".join(os.environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "STEP_ID", "RESTART_COUNT"))
    keys, address = meetings / f"{step}.tls.json", meetings / f"{step}.scheduler.json"
    security = _security(keys)
    logging.getLogger("distributed").setLevel(logging.WARNING)
    # Pages for a browser, which would be open to everybody, are left out.
    pages: dict[str, list[str]] = {f"distributed.{role}.http.routes": [] for role in ("scheduler", "worker")}
    with tempfile.TemporaryDirectory() as scratch, dask.config.set(pages):
        runner = _Runner(
            security,
            scheduler_file=str(address).replace("{", "{{").replace("}", "}}"),  # jobqueue formats it
            scheduler_options={"security": security, "protocol": "tls", "dashboard_address": "127.0.0.1:0"},
            worker_options={
                "security": security,
                "protocol": "tls",
                "dashboard_address": "127.0.0.1:0",
                "nthreads": len(os.sched_getaffinity(0)),
                "memory_limit": 0,  # Slurm sets one
                "local_directory": scratch,
            },
        )
        with runner, Client(runner.scheduler_address, security=security) as client:
            client.wait_for_workers(runner.n_workers)
            for path in (keys, address):  # all are here
                path.unlink()
            yield client


class _Runner(SLURMRunner):
    """dask_jobqueue's, which by itself does not reach a scheduler that speaks TLS."""

    def __init__(self, security: Security, **options: object) -> None:
        self._security = security
        super().__init__(**options)  # type: ignore[no-untyped-call]

    async def get_scheduler_address(self) -> str:
        """Address of the scheduler, once it is written as a whole."""
        address: str = (await asyncio.to_thread(json_load_robust, self.scheduler_file))["address"]
        return address

    async def before_client_start(self) -> None:
        """Let the client end the scheduler."""
        self.scheduler_comm.connection_args = self._security.get_connection_args("client")  # type: ignore[attr-defined]


def _security(path: Path) -> Security:
    """Keys and certificate of this step: made by the first process, read by the others."""
    if os.environ["SLURM_PROCID"] == "0":
        made = Security.temporary()
        keys = {"key": made.tls_scheduler_key, "cert": made.tls_scheduler_cert}
        with replacing(path) as temporary:
            temporary.touch(mode=0o600, exist_ok=False)
            temporary.write_text(json.dumps(keys), encoding="utf-8")
    keys = json_load_robust(path)
    files = {f"tls_{role}_{kind}": keys[kind] for role in ROLES for kind in ("key", "cert")}
    return Security(require_encryption=True, tls_ca_file=keys["cert"], **files)
