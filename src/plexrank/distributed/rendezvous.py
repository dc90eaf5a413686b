"""How the processes of a job step find each other, and nobody else gets between them.

The first one opens a key-value store at a port of its own, on the address by which the job's other hosts reach it (on a
single host, which may be several nodes to Slurm, the loopback, which no other machine reaches), and leaves address and
secret in a file that only its user can read. Keys begin with half of the secret, and what a process says of itself is
signed with the other half, which is never sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.distributed import DistStoreError, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from plexrank.errors import PlexrankError
from plexrank.rundir import replacing

if TYPE_CHECKING:
    from plexrank.distributed.group import ProcessInfo

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others before it gives up."""
LOOPBACK, LOOPBACK_DEVICE = "127.0.0.1", "lo"
_NUMBERS_OF_HOSTS = ("SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")


def meet(folder: Path, info: ProcessInfo) -> Store:
    """The store of a job step, of all whose processes it is known that they have the secret.

    A port drawn from the job's number may belong to another job, and stays the same when a job is requeued.

    Raises:
        PlexrankError: the first process does not show up, or somebody else answers.
    """
    step = [os.environ.get(f"SLURM_{name}", "0") for name in ("JOB_ID", "STEP_ID", "RESTART_COUNT")]
    place = folder / f"{'-'.join(step)}.json"
    if not info.is_first:
        meeting = _await_meeting(place)
        _require_in_reach(meeting)
        server = TCPStore(
            meeting["host"],
            meeting["port"],
            info.world_size,
            is_master=False,
            timeout=TIMEOUT,
            wait_for_workers=False,
        )
        store = PrefixStore(meeting["keys"], server)
        store.set(f"here-{info.process_rank}", _signature(meeting, info.process_rank))
        return store
    listening = _listening()
    address, port = listening.getsockname()[:2]
    meeting = {"host": address, "port": port, "name": socket.gethostname()}
    meeting |= {"keys": secrets.token_hex(16), "secret": secrets.token_hex(32)}
    server = TCPStore(
        address,
        port,
        info.world_size,
        is_master=True,
        timeout=TIMEOUT,
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )
    store = PrefixStore(meeting["keys"], server)
    _write_private(place, meeting)
    try:
        for rank in range(1, info.world_size):
            _require_here(store, meeting, rank)
    finally:
        place.unlink(missing_ok=True)
    return store


def _require_here(store: Store, meeting: dict[str, Any], rank: int) -> None:
    """Wait until a process shows up, which knows the secret."""
    where = f"{meeting['host']} port {meeting['port']}"
    try:
        said = store.get(f"here-{rank}")
    except DistStoreError as error:
        raise PlexrankError(f"{where}: process {rank} did not start in time; see its log") from error
    if not hmac.compare_digest(said, _signature(meeting, rank).encode()):
        raise PlexrankError(f"{where}: somebody else answers in the place of process {rank}; start the job again")


def is_on_one_host() -> bool:
    """Whether srun started all processes on this host."""
    numbers = (os.environ.get(name) for name in _NUMBERS_OF_HOSTS)
    return next((number for number in numbers if number), "1") == "1"


def _require_in_reach(meeting: dict[str, Any]) -> None:
    """Refuse the loopback of another host, at which nobody would answer."""
    first, own = meeting["name"], socket.gethostname()
    if ipaddress.ip_address(meeting["host"]).is_loopback and first != own:
        raise PlexrankError(
            f"{first}: has no address by which {own} could reach it (its name stands for the loopback alone); correct "
            "/etc/hosts or the name service of the cluster"
        )


def _listening() -> socket.socket:
    """A listening socket at a free port of the address by which the job's other hosts reach this one."""
    for address in [] if is_on_one_host() else _own_addresses():
        with contextlib.suppress(OSError):  # of a name that stands for another host
            return _listening_at(address)
    return _listening_at(LOOPBACK)


def _listening_at(address: str) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listening.bind((address, 0))
        listening.listen(4096)
    except OSError:
        listening.close()
        raise
    return listening


def _own_addresses() -> Iterator[str]:
    """Addresses of this host that are not the loopback's: of its names, then the one towards the launching host."""
    for name in (os.environ.get("SLURMD_NODENAME"), socket.gethostname()):
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM) if name else []
        except OSError:
            continue
        for _, _, _, _, (address, *_) in sorted(found, key=lambda one: one[0] != socket.AF_INET):
            if not str(address).startswith(("127.", "::1", "fe80")):
                yield str(address)
    if launcher := os.environ.get("SLURM_LAUNCH_NODE_IPADDR"):
        with socket.socket(socket.AF_INET6 if ":" in launcher else socket.AF_INET, socket.SOCK_DGRAM) as towards:
            try:
                towards.connect((launcher, 9))  # sends nothing
            except OSError:
                return
            address = str(towards.getsockname()[0])
        if not ipaddress.ip_address(address).is_loopback:
            yield address


def _signature(meeting: dict[str, Any], rank: int) -> str:
    return hmac.new(bytes.fromhex(meeting["secret"]), f"process {rank}".encode(), hashlib.sha256).hexdigest()


def _write_private(place: Path, meeting: dict[str, Any]) -> None:
    with replacing(place) as temporary:
        temporary.touch(mode=0o600, exist_ok=False)
        temporary.write_text(json.dumps(meeting), encoding="utf-8")


def _await_meeting(place: Path) -> dict[str, Any]:
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while time.monotonic() < deadline:
        try:
            meeting: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        except FileNotFoundError:
            time.sleep(0.1)
        else:
            return meeting
    raise PlexrankError(f"{place}: the first process did not start in time; see its log")
