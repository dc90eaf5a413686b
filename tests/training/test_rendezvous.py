"""How processes find each other under srun, what travels between them, and that nobody else gets in."""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import TCPStore
from torch.multiprocessing import start_processes

from plexrank.distributed import ProcessInfo, _meet, from_first, messages, on_first, process_group, rendezvous
from plexrank.errors import MissingInputError, PlexrankError, Problems, RunDirError, StudyError

PROCESSES = 2
VALUE = {
    "tensor": torch.arange(6).reshape(2, 3),
    "nothing": None,
    "empty": torch.empty(0, 2),
    3: (1.5, float("inf"), True, "ü"),
    "paths": {Path("a/b")},
    "nested": [{"rows": [{"loss": 0.5}]}, ()],
}
FAILURES = [
    RunDirError("run: torn"),
    OSError(28, "No space left on device", "run/file"),
    ValueError("odd"),
    Problems([StudyError("a"), MissingInputError("b")]),
]


def as_srun_does(environment: pytest.MonkeyPatch, rank: int) -> None:
    for name, value in (("PROCID", rank), ("LOCALID", rank), ("STEP_NUM_TASKS", PROCESSES), ("JOB_ID", 7)):
        environment.setenv(f"SLURM_{name}", str(value))
    environment.setenv("SLURM_STEP_NUM_NODES", "1")
    environment.setenv("CUDA_VISIBLE_DEVICES", "")


def in_a_group(rank: int, folder: Path) -> None:
    """What srun starts."""
    with pytest.MonkeyPatch.context() as environment:
        as_srun_does(environment, rank)
        with process_group(folder / "meetings") as info:
            value = from_first(VALUE if info.is_first else None, info)
            errors = []
            for failure in FAILURES:
                try:
                    on_first(lambda failure=failure: raised(failure), info)
                except (PlexrankError, OSError, ValueError) as error:
                    errors.append([type(error).__name__, str(error)])
            same = repr(value) == repr(VALUE)
            result = on_first(lambda: {"found": 3}, info)
    (folder / f"{rank}.json").write_text(json.dumps({"same": same, "errors": errors, "result": result}))


def raised(error: Exception) -> None:
    raise error


def test_values_and_errors_of_the_first_process_reach_the_others(tmp_path: Path) -> None:
    start_processes(in_a_group, args=(tmp_path,), nprocs=PROCESSES, start_method="forkserver")
    expected = [[type(error).__name__, str(error)] for error in FAILURES]
    expected[1][0] = "OSError"
    for rank in range(PROCESSES):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found == {"same": True, "errors": expected, "result": {"found": 3}}
    assert not list((tmp_path / "meetings").iterdir())


class Meeting:
    """The first process of two, which waits for the other in a thread."""

    def __init__(self, folder: Path) -> None:
        self.outcome: object = None
        self.thread = threading.Thread(target=self._wait, args=(folder,), daemon=True)
        self.thread.start()
        self.place = folder / "7-0-0.json"
        while not self.place.exists():
            pass
        self.mode = self.place.stat().st_mode & 0o777
        self.told = json.loads(self.place.read_text())

    def _wait(self, folder: Path) -> None:
        try:
            self.outcome = _meet(folder, ProcessInfo(0, PROCESSES, 0))
        except PlexrankError as error:
            self.outcome = error


@pytest.fixture
def meeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Meeting:
    as_srun_does(monkeypatch, 0)
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return Meeting(tmp_path)


def test_the_rendezvous_of_one_host_is_out_of_reach_of_others(meeting: Meeting) -> None:
    assert meeting.told["host"] == "127.0.0.1"
    assert meeting.mode == 0o600
    port = f"{meeting.told['port']:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port}")]
    assert listening == [f"0100007F:{port}"]
    _meet(meeting.place.parent, ProcessInfo(1, PROCESSES, 1))
    meeting.thread.join()
    assert not isinstance(meeting.outcome, PlexrankError)
    assert not meeting.place.exists()


def test_a_stranger_does_not_let_the_first_process_go(meeting: Meeting) -> None:
    port = meeting.told["port"]
    stranger = TCPStore("127.0.0.1", port, PROCESSES, is_master=False, wait_for_workers=False)
    stranger.set("here-1", "")
    stranger.set("x", "y")
    assert meeting.thread.is_alive()
    _meet(meeting.place.parent, ProcessInfo(1, PROCESSES, 1))
    meeting.thread.join()
    assert not isinstance(meeting.outcome, PlexrankError)


def test_a_stranger_who_lists_the_keys_cannot_sign(meeting: Meeting) -> None:
    stranger = TCPStore("127.0.0.1", meeting.told["port"], PROCESSES, is_master=False, wait_for_workers=False)
    stranger.set(f"{meeting.told['keys']}/here-1", "0" * 64)
    meeting.thread.join()
    assert "somebody else answers in the place of process 1" in str(meeting.outcome)


def test_on_several_hosts_the_address_is_the_one_that_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def addresses(name: str, *rest: object, **more: object) -> list:
        found = {"node": ["127.0.1.1", "192.0.2.1"]}.get(name)
        if found is None:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr(rendezvous.socket, "getaddrinfo", addresses)
    monkeypatch.setattr(rendezvous.socket, "gethostname", lambda: "node")
    monkeypatch.setenv("SLURMD_NODENAME", "unknown")
    monkeypatch.delenv("SLURM_LAUNCH_NODE_IPADDR", raising=False)
    assert list(rendezvous._own_addresses()) == ["192.0.2.1"]
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    assert not rendezvous.is_on_one_host()
    with rendezvous._listening() as listening:  # 192.0.2.1 is nobody's
        assert listening.getsockname()[0] == "127.0.0.1"


def test_the_loopback_of_another_host_is_refused(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    first = socket.gethostname()
    with monkeypatch.context() as patch:
        patch.setattr(rendezvous.socket, "gethostname", lambda: "elsewhere")
        with pytest.raises(PlexrankError, match=f"{first}: has no address by which elsewhere could reach it"):
            _meet(meeting.place.parent, ProcessInfo(1, PROCESSES, 1))
    _meet(meeting.place.parent, ProcessInfo(1, PROCESSES, 1))
    meeting.thread.join()
    assert not isinstance(meeting.outcome, PlexrankError)


@pytest.mark.parametrize("value", [VALUE, [], np.float32(2.5), 3, None, [1, [2, (3,)]], {"a": {"b": {1, 2}}}])
def test_what_is_packed_comes_out_the_same(value: object) -> None:
    assert repr(messages.unpacked(messages.packed(value))) == repr(
        value.item() if isinstance(value, np.generic) else value
    )


def test_arrays_keep_type_and_shape() -> None:
    for array in (np.arange(6, dtype=np.int64).reshape(2, 3), np.zeros((0, 4), np.float32), np.array(2.0)):
        found = messages.unpacked(messages.packed(array))
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)
    swapped = messages.unpacked(messages.packed(np.arange(3, dtype=">i4")))
    np.testing.assert_array_equal(swapped, [0, 1, 2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64, torch.uint8, torch.bool, torch.int64])
def test_tensors_keep_type_shape_and_place(dtype: torch.dtype) -> None:
    sent = [torch.arange(6).reshape(2, 3).T.to(dtype), torch.tensor(1, dtype=dtype), torch.ones(2, dtype=torch.uint8)]
    for found, one in zip(messages.unpacked(messages.packed(sent)), sent, strict=True):
        assert (found.dtype, found.shape) == (one.dtype, one.shape)
        assert torch.equal(found, one)


def test_tensors_keep_their_order_in_memory() -> None:
    nhwc = torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last)
    for sent in (nhwc, nhwc[:, :1], torch.ones(16, 1, 5, 5).to(memory_format=torch.channels_last), nhwc[0, 0, 0, 0]):
        found = messages.unpacked(messages.packed([torch.ones(3), sent]))[1]
        assert torch.equal(found, sent)
    assert messages.unpacked(messages.packed(nhwc)).stride() == nhwc.stride()


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("false",)


def test_nothing_is_unpickled() -> None:
    for content in (pickle.dumps(Evil()), b"\x80\x04", b"", messages.packed(torch.ones(3))[:-1]):
        with pytest.raises(PlexrankError, match="another process sent what cannot be read"):
            messages.unpacked(content)
    with pytest.raises(TypeError, match="Evil is not for another process"):
        messages.packed([Evil()])
