"""A Slurm of two nodes with accounting on this machine, all of its state in one folder.

Run by hand: ``python tests/cluster/local_slurm.py FOLDER`` brings it up, prints what to export, and takes it
down on Ctrl-C.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CLUSTER = "plexrank"
ATTEMPTS = 3
NODES = ("n1", "n2")
SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=20
StateSaveLocation={folder}/ctld
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/slurmd-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge/socket
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0,sched_min_interval=100000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=5
SlurmdTimeout=20
MinJobAge=900
GresTypes=gpu
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=60 State=UP PriorityTier=1 GraceTime=15
PartitionName=high Nodes=ALL MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""
NODE_CONF = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=16000 Gres=gpu:tesla:2 "
    "State=UNKNOWN"
)
DBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdPort={dbd_port}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""


@dataclass
class LocalSlurm:
    """Its daemons, each a child of this process, and what a client needs in its environment."""

    folder: Path
    environment: dict[str, str]
    daemons: dict[str, subprocess.Popen[bytes]]

    def command(self, *arguments: object, check: bool = True) -> str:
        """Run a command of Slurm and return what it printed."""
        done = subprocess.run(
            [*map(str, arguments)], env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        if check and done.returncode:
            raise RuntimeError(f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def start_node(self, name: str) -> None:
        """Start a node's slurmd."""
        self._start(f"slurmd-{name}", ["slurmd", "-D", "-N", name])

    def kill(self, name: str) -> None:
        """End a daemon at once, as a power failure would; jobs on a node that dies stay behind as processes."""
        self.daemons.pop(name).kill()

    def _start(self, name: str, command: list[str], user: str | None = None) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, user=user, cwd="/"
            )

    def await_(self, what: str, ready: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something holds, or say which daemon ended or what its log says."""
        deadline = time.monotonic() + seconds
        while not ready():
            dead = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(
                    f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}"
                    for path in sorted([*self.folder.glob("*.out"), *self.folder.glob("*.log")])
                )
                raise RuntimeError(f"waiting for {what}: {'ended: ' + ', '.join(dead) if dead else 'too long'}\n{logs}")
            time.sleep(0.1)

    def bring_up(self) -> None:
        """Start everything, each when what it needs answers."""
        ports = iter(_free_ports(4 + len(NODES)))
        ctld_port, dbd_port, sql_port = next(ports), next(ports), next(ports)
        names = {"cluster": CLUSTER, "host": socket.gethostname(), "folder": self.folder, "dbd_port": dbd_port}
        password = os.urandom(8).hex()
        nodes = "\n".join(NODE_CONF.format(name=name, port=next(ports)) for name in NODES)
        for folder in ("ctld", "munge", "sql", *(f"slurmd-{name}" for name in NODES), "devices"):
            (self.folder / folder).mkdir()
        devices = [self.folder / "devices" / f"gpu{index}" for index in range(2)]
        for device in devices:
            device.touch()
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**names, ctld_port=ctld_port, nodes=nodes))
        (self.folder / "gres.conf").write_text("".join(f"Name=gpu Type=tesla File={device}\n" for device in devices))
        (self.folder / "slurmdbd.conf").write_text(DBD_CONF.format(**names, sql_port=sql_port, password=password))
        (self.folder / "slurmdbd.conf").chmod(0o600)
        self._start_munge()
        self._start_database(sql_port, password)
        self._start("slurmdbd", ["slurmdbd", "-D"])
        self.await_("slurmdbd", lambda: _listens(dbd_port))
        self.command("sacctmgr", "-i", "add", "cluster", CLUSTER)
        self.command("sacctmgr", "-i", "add", "account", "lab", f"Cluster={CLUSTER}")
        self.command("sacctmgr", "-i", "add", "user", "root", "account=lab", check=False)
        self._start("slurmctld", ["slurmctld", "-D", "-c"])
        self.await_("slurmctld", lambda: _listens(ctld_port))
        for name in NODES:
            self.start_node(name)
        self.await_("nodes", lambda: self.node_states() == dict.fromkeys(NODES, "idle"))

    def node_states(self) -> dict[str, str]:
        """State of every node."""
        lines = self.command("sinfo", "-h", "-N", "-p", "low", "-o", "%N %t", check=False).splitlines()
        return dict(line.split() for line in lines)

    def take_down(self) -> None:
        """Cancel what runs and end the daemons, newest first, each by its own pid."""
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            self.command("scancel", "--user=root")
            self.command("scancel", "--user=root", "--signal=KILL", "--full")
            self.await_("the last jobs to end", lambda: not self.command("squeue", "-h", "-t", "R,CG"), 20)
        for daemon in reversed(self.daemons.values()):
            daemon.send_signal(signal.SIGTERM)
        for daemon in reversed(self.daemons.values()):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        user = pwd.getpwnam("munge")
        for path in (folder, key):
            os.chown(path, user.pw_uid, user.pw_gid)
        options = {"key-file": key, "socket": folder / "socket", "pid-file": folder / "pid", "log-file": folder / "log"}
        options["seed-file"] = folder / "seed"
        command = ["munged", "--foreground", "--force", *(f"--{name}={value}" for name, value in options.items())]
        self._start("munged", command, user="munge")
        self.await_("munged", (folder / "socket").exists)

    def _start_database(self, port: int, password: str) -> None:
        folder = self.folder / "sql"
        user = pwd.getpwnam("mysql")
        os.chown(folder, user.pw_uid, user.pw_gid)
        data = folder / "data"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--user=mysql", f"--datadir={data}"],
            check=True,
            capture_output=True,
        )
        options = {"datadir": data, "socket": folder / "socket", "pid-file": folder / "pid", "port": port}
        options |= {"bind-address": "127.0.0.1", "user": "mysql"}
        self._start(
            "mariadbd", ["mariadbd", "--no-defaults", *(f"--{name}={value}" for name, value in options.items())]
        )
        self.await_("mariadbd", lambda: _listens(port))
        statements = (
            "CREATE DATABASE slurm;"
            f"CREATE USER slurm@'127.0.0.1' IDENTIFIED BY '{password}'; GRANT ALL ON slurm.* TO slurm@'127.0.0.1';"
            f"CREATE USER slurm@localhost IDENTIFIED BY '{password}'; GRANT ALL ON slurm.* TO slurm@localhost;"
        )
        subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={folder / 'socket'}"],
            input=statements.encode(),
            check=True,
            capture_output=True,
        )


@contextlib.contextmanager
def local_slurm(folder: Path, environment: Mapping[str, str]) -> Iterator[LocalSlurm]:
    """A running cluster until the block ends.

    Args:
        folder: new and empty; every user must be able to enter it.
        environment: of the daemons and so of the jobs.
    """
    for attempt in itertools.count(1):
        own = folder / str(attempt)
        own.mkdir(mode=0o755)
        cluster = LocalSlurm(own, {**environment, "SLURM_CONF": str(own / "slurm.conf")}, {})
        try:
            cluster.bring_up()
            break
        except BaseException as error:
            cluster.take_down()
            if not isinstance(error, RuntimeError) or attempt == ATTEMPTS:  # somebody else may have taken a port
                raise
    try:
        yield cluster
    finally:
        cluster.take_down()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve()
    where.mkdir(mode=0o755)
    with local_slurm(where, os.environ) as running, contextlib.suppress(KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        print(f"export SLURM_CONF={running.environment['SLURM_CONF']}", flush=True)
        signal.pause()
