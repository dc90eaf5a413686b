"""The lock of a run directory: a lease, so that a dead owner on another host keeps nobody out for ever.

The lock is one file. Its owner touches it every ``BEAT_S`` seconds; one that was not touched for ``LEASE_S`` may be
taken over, and one whose owner is known to be gone at once. Every incarnation has a token of its own, and who follows
on token T is decided by who makes the file ``….after-T``, which a file system lets only one process do; he alone may
replace the lock, or its owner remove it. Nothing rests on flock, which network file systems may lack, nor on clocks
that agree: the age of a lock is held against the time of a file just written beside it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import secrets
import signal
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from plexrank.errors import RunDirError
from plexrank.machine.processes import times_requeued

BEAT_S = 15.0
"""Between two touches of the lock by its owner, seconds."""
LEASE_S = 150.0
"""A lock that was not touched for so long, seconds, is taken over."""
PATIENCE_S = 5.0
"""How long a process waits, seconds, for another that is just taking the lock over."""

_MOST_BYTES = 65536
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class _Owner:
    """Who holds a lock, as it says itself; what an older version or a damaged file does not say is empty."""

    host: str = ""
    pid: int = 0
    job: str = ""
    process: str = ""
    machine: str = ""
    requeued: int = 0

    @classmethod
    def this(cls, job: str) -> _Owner:
        return cls(platform.node(), os.getpid(), job, _start_of(os.getpid()), _machine(), times_requeued())

    def is_gone(self, job: str) -> bool:
        """Whether this is known without waiting: its process ended on this host, or its job was requeued since."""
        if not self._is_here():
            return job == self.job != "" and self.requeued < times_requeued()
        if self.pid == os.getpid():
            return self.process != _start_of(os.getpid())
        return not _is_alive(self.pid) or self.process not in ("", _start_of(self.pid))

    def is_alive_here(self) -> bool:
        """Whether its process is seen on this host: it may be suspended, and is not to be overtaken."""
        return bool(self.process) and self._is_here() and not self.is_gone("")

    def _is_here(self) -> bool:
        return self.host == platform.node() and self.machine in ("", _machine())


@dataclass(frozen=True)
class _Seen:
    """A lock as found: its incarnation, when it was last touched by the file system's clock, and its owner if known."""

    token: str
    touched_ns: int
    owner: _Owner | None


class Lock:
    """The lock at ``path``; :meth:`held` keeps other processes out.

    Args:
        path: of its file; the folder is there.
        job: id of the Slurm job that this process belongs to, if any.
    """

    def __init__(self, path: Path, job: str = "") -> None:
        self._path, self._job = path, job
        self._token = secrets.token_hex(16)
        self._own = path.with_name(f".{path.name}.{self._token[:8]}.tmp")  # cleared like other leftovers
        self._is_lost = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock until the block ends.

        Raises:
            RunDirError: another process holds it; or, at the end, this one was suspended for so long that another took
                the lock over: what both wrote meanwhile is not to be relied on.
        """
        try:
            self._take()
            with self._beating():
                yield
        except BaseException:
            if self._is_lost:
                raise self._lost() from None
            raise
        finally:
            with contextlib.suppress(OSError):  # what cannot be removed ends with the process
                self._release()
                self._own.unlink(missing_ok=True)
        if self._is_lost:
            raise self._lost()

    def _take(self) -> None:
        """Make the lock, or follow on one whose owner is gone."""
        waits_until = time.monotonic() + PATIENCE_S
        while True:
            now_ns = self._write_own()
            if self._put(self._path):
                break
            seen = _look(self._path)
            if seen is not None:
                self._require_stale(seen, now_ns)
                if self._follow(seen, now_ns):
                    break
            if time.monotonic() > waits_until:
                raise self._in_use("another process is just taking it over")
            time.sleep(0.002)
        self._own.unlink(missing_ok=True)
        for claim in self._path.parent.glob(f"{self._path.name}.after-*"):  # of locks of before
            if claim != self._after(self._token):
                claim.unlink(missing_ok=True)

    def _follow(self, stale: _Seen, now_ns: int) -> bool:
        """Take the place of a stale lock, unless another process does; one that began to may be gone itself."""
        claims = [self._after(stale.token)]
        while not self._put(claims[-1]):
            claimant = _look(claims[-1])
            if claimant is None or not self._is_stale(claimant, now_ns):
                return False
            claims.append(self._after(claimant.token))
        # Who looked long ago may make a claim that was there before: then the lock is not the one that was seen. Nor
        # where its owner has come to life.
        if _look(self._path) != stale or not all(map(_look, claims)):
            claims[-1].unlink(missing_ok=True)
            return False
        claims[-1].replace(self._path)
        return True

    def _release(self) -> None:
        """Remove the lock if it is this process's; another that thinks it dead may be about to follow on it."""
        if not self._is_own(self._path):
            return
        claim = self._after(self._token)
        self._token = secrets.token_hex(16)  # of the claim
        self._own.unlink(missing_ok=True)
        self._write_own()
        if self._put(claim):
            self._path.unlink(missing_ok=True)
            claim.unlink(missing_ok=True)

    def _require_stale(self, seen: _Seen, now_ns: int) -> None:
        if self._is_stale(seen, now_ns):
            return
        if seen.owner is None:
            raise self._in_use(f"{self._path.name} is younger than {LEASE_S:.0f} s and does not say whose it is")
        by = f"process {seen.owner.pid} on {seen.owner.host}"
        if not seen.owner.is_alive_here():
            by += f", last seen {max(0, now_ns - seen.touched_ns) / 1e9:.0f} s ago, given up after {LEASE_S:.0f} s"
        raise self._in_use(by)

    def _is_stale(self, seen: _Seen, now_ns: int) -> bool:
        if seen.owner is not None:
            if seen.owner.is_gone(self._job):
                return True
            if seen.owner.is_alive_here():
                return False
        return now_ns - seen.touched_ns > LEASE_S * 1e9

    def _in_use(self, by: str) -> RunDirError:
        return RunDirError(
            f"{self._path.parent}: another run is using this folder ({by}); wait for it to end, or delete {self._path} "
            "if it no longer runs"
        )

    def _lost(self) -> RunDirError:
        return RunDirError(
            f"{self._path}: this process was stopped for so long that another took the run directory over, or the lock "
            "was deleted; wait for the other to end, then run the same command again"
        )

    def _after(self, token: str) -> Path:
        return self._path.with_name(f"{self._path.name}.after-{token}")

    def _content(self) -> str:
        return json.dumps({"token": self._token, **vars(_Owner.this(self._job))}) + "\n"

    def _write_own(self) -> int:
        """Write what this process puts in the place of a lock; the file system's time, nanoseconds."""
        with self._own.open("w", encoding="utf-8") as file:
            file.write(self._content())
            file.flush()
            os.fsync(file.fileno())  # on a network the server gives the time when it is written there
            return os.fstat(file.fileno()).st_mtime_ns

    def _put(self, path: Path) -> bool:
        """Make ``path`` unless it is there, with the content of the own file from the first moment if possible."""
        try:
            path.hardlink_to(self._own)
        except FileExistsError:
            return self._is_own(path)  # an answer over the network may be lost, and the request repeated
        except FileNotFoundError:  # another process, which has the lock, took the own file for a leftover
            self._write_own()
            return self._put(path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._create(path)
        return True

    def _create(self, path: Path) -> bool:
        """As :meth:`_put`, on a file system without links."""
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(self._content())
        except FileExistsError:
            return False
        return True

    def _is_own(self, path: Path) -> bool:
        seen = _look(path, strict=False)
        return seen is not None and seen.token == self._token

    @contextlib.contextmanager
    def _beating(self) -> Iterator[None]:
        """Touch the lock now and then; where it is another's, the main thread is interrupted if it holds the lock."""
        ended = threading.Event()
        main = threading.main_thread()
        before = signal.getsignal(signal.SIGINT)
        interrupts = threading.current_thread() is main and callable(before)
        is_heard = False

        def hear(number: int, frame: FrameType | None) -> None:
            nonlocal is_heard
            is_heard = self._is_lost  # not by an interruption of before, from elsewhere
            before(number, frame)  # type: ignore[operator, misc]  # callable where this is the handler

        def beat() -> None:
            last = time.monotonic()
            while not ended.wait(BEAT_S):
                try:
                    is_own = self._touch()
                except FileNotFoundError:
                    is_own = False
                except OSError:  # a network that is away for a moment
                    is_own = time.monotonic() - last < LEASE_S
                else:
                    last = time.monotonic()
                if not is_own:
                    self._is_lost = True
                    while interrupts and main.ident and not (is_heard or ended.is_set()):
                        signal.pthread_kill(main.ident, signal.SIGINT)  # wakes it, unless it is just about to wait
                        ended.wait(BEAT_S)
                    return

        thread = threading.Thread(target=beat, name="plexrank lock", daemon=True)
        if interrupts:
            signal.signal(signal.SIGINT, hear)
        try:
            thread.start()
            yield
            self._is_lost = self._is_lost or not self._is_own(self._path)
        finally:
            ended.set()
            if thread.ident is not None:
                thread.join()
            if interrupts and signal.getsignal(signal.SIGINT) is hear:
                signal.signal(signal.SIGINT, before)

    def _touch(self) -> bool:
        """Whether the lock is still this process's, whose time becomes the file system's present one."""
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            content = os.read(descriptor, _MOST_BYTES)
            if _token_in(content) != self._token:
                return False
            os.utime(descriptor)
            return True
        finally:
            os.close(descriptor)


def _look(path: Path, *, strict: bool = True) -> _Seen | None:
    """A lock as it is now; ``None`` where there is none.

    Raises:
        RunDirError: something that is no file stands there; ``None`` too where not ``strict``.
    """
    try:
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode):
            if not strict:
                return None
            raise RunDirError(f"{path}: no file, where the lock of a run belongs; delete it if no run is at work")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            state = os.fstat(descriptor)
            content = os.read(descriptor, _MOST_BYTES)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        if not strict:
            return None
        raise RunDirError(f"{path}: cannot be read ({error.strerror}); delete it if no run is at work") from error
    token = _token_in(content)
    if not token:
        what = f"{state.st_ino} {state.st_mtime_ns}".encode() + content
        token = hashlib.sha256(what).hexdigest()[:32]
    return _Seen(token, state.st_mtime_ns, _owner_in(content))


def _token_in(content: bytes) -> str:
    try:
        token = json.loads(content)["token"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    is_one = isinstance(token, str) and len(token) == 32 and token.isascii() and token.isalnum()
    return token if is_one else ""


def _owner_in(content: bytes) -> _Owner | None:
    try:
        said = json.loads(content)
        owner = _Owner(
            host=str(said["host"]),
            pid=int(said["pid"]),
            job=str(said["job"]),
            process=str(said.get("process", "")),
            machine=str(said.get("machine", "")),
            requeued=int(said.get("requeued", 0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
    return owner if 0 < owner.pid < 2**31 else None


def _machine() -> str:
    """The running system and the space of its process ids, which containers have of their own; empty where unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When a process of this host started, in ticks since the system did; empty where unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return fields[19]
    except (OSError, IndexError):
        return ""


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
