"""A Milvus cluster of one machine: every role a process of its own, with etcd and a Kafka broker."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from scripts import kafka_broker
from scripts.milvus_binary import unpack_milvus, write_settings
from scripts.milvus_sessions import sessions
from scripts.processes import CantStart, Processes, answers, check_free, check_loopback_only

ETCD = "etcd"
BROKER = kafka_broker.NAME
ETCD_PORT = 30379
ETCD_PEER_PORT = 30380
START_DEADLINE_S = 120.0
END_GRACE_S = 30.0
"""How long a role that is asked to end may hand over what it holds."""

COORDINATORS = ("rootcoord", "datacoord", "querycoord")
FIRST_PORTS = {
    "rootcoord": 30100,
    "datacoord": 30110,
    "querycoord": 30120,
    "datanode": 30130,
    "indexnode": 30140,
    "querynode": 30150,
    "proxy": 30190,
}
"""None of them is one of a standalone's, so that both can run in one network namespace."""

HEALTH_OFFSET = 100
INNER_OFFSET = 200
MOST_QUERY_NODES = 32

Broker = Literal["mock", "kafka"]


@dataclass(frozen=True, slots=True)
class Role:
    """Name one process of Milvus; `number` counts those of one kind from 1."""

    kind: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.kind}{self.number}"

    @property
    def port(self) -> int:
        return FIRST_PORTS[self.kind] + self.number

    @property
    def inner_port(self) -> int:
        """Return where the other roles call it; clients call a proxy at `port`."""
        return self.port + INNER_OFFSET if self.kind == "proxy" else self.port

    @property
    def health_port(self) -> int:
        return self.port + HEALTH_OFFSET


class MilvusCluster:
    """Run a Milvus cluster below `workdir` until it is stopped.

    Its roles are named `querynode1`, `querynode2`, …; so are `rootcoord`, `datacoord` and `querycoord` (2 of each
    with `standby`), `datanode`, `indexnode` and `proxy`. `etcd` and `broker` have no number. A role that is gone
    counts as there until its lease of `lease_s` is over; short leases are lost on a busy machine, and with them
    the role.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        query_nodes: int = 2,
        proxies: int = 1,
        standby: bool = False,
        lease_s: int = 30,
        broker: Broker = "mock",
    ) -> None:
        if not 1 <= query_nodes <= MOST_QUERY_NODES or not 1 <= proxies <= 2:
            raise ValueError(f"a cluster here has 1 to {MOST_QUERY_NODES} query nodes and 1 or 2 proxies")
        self.workdir = workdir.resolve()
        self.lease_s = lease_s
        self.broker = broker
        counts = {"datanode": 1, "indexnode": 1, "querynode": query_nodes, "proxy": proxies}
        counts = dict.fromkeys(COORDINATORS, 1 + standby) | counts
        self.roles = {role.name: role for kind, count in counts.items() for role in _roles(kind, count)}
        self.uris = [f"http://127.0.0.1:{role.port}" for role in self._of("proxy")]
        self._standby = standby
        self._processes = Processes(self.workdir / "logs")
        self._environ: dict[str, str] = {}
        self._binaries = Path()

    def __enter__(self) -> MilvusCluster:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start all processes and wait until all are healthy; raises CantStart, and then leaves none behind.

        Goes on with the data that are there if the broker is Apache Kafka; the mock forgets them, so they are removed.
        """
        check_loopback_only()
        check_free(ETCD_PORT, "cluster")
        if shutil.which("etcd") is None:
            raise CantStart("the command `etcd` is missing; install the package etcd-server")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all processes. Milvus is killed: all that it acknowledged is in the broker, etcd and the storage."""
        for name in self.roles:
            self._processes.end(name, signal.SIGKILL)
        self._processes.end(BROKER)
        self._processes.end(ETCD)

    def kill(self, name: str) -> None:
        """End a role at once by SIGKILL."""
        self._processes.end(name, signal.SIGKILL)

    def end(self, name: str) -> None:
        """Ask a role to hand over what it holds and end, by SIGTERM; it is killed where that takes END_GRACE_S."""
        self._processes.end(name, signal.SIGTERM, END_GRACE_S)

    def pause(self, name: str) -> None:
        """Let a role hang, by SIGSTOP."""
        self._processes.send(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a paused role go on."""
        self._processes.send(name, signal.SIGCONT)

    def start_role(self, name: str) -> None:
        """Start a role that was killed or ended, and wait until it is healthy; raises CantStart."""
        self._launch(name)
        self.wait_until_healthy(name)

    def status(self) -> dict[str, int | None]:
        """Return the process ids by role; None where a role doesn't run."""
        return {name: self._processes.pid(name) for name in (ETCD, BROKER, *self.roles)}

    def wait_until_healthy(self, name: str) -> None:
        """Wait until a role that runs is healthy; raises CantStart where it ends, or isn't in START_DEADLINE_S."""
        if name in self.roles:
            port = self.roles[name].health_port
            self._processes.wait_until_healthy(name, lambda: answers(port, "/healthz", b"OK"), START_DEADLINE_S)

    def serving(self) -> dict[int, str]:
        """Return the names of the roles by the server id that Milvus gave them.

        Roles that are gone are in it until their lease is over. Raises OSError where etcd can't be asked.
        """
        by_port = {role.inner_port: role.name for role in self.roles.values()}
        return {session.server_id: by_port[session.port] for session in sessions(ETCD_PORT)}

    def active(self, kind: str) -> str:
        """Return the name of the coordinator of a kind that isn't the standby.

        Raises LookupError while there is none, OSError where etcd can't be asked.
        """
        ids = [session.server_id for session in sessions(ETCD_PORT) if session.name == kind]
        if not ids:
            raise LookupError(f"no {kind} is active")
        return self.serving()[ids[0]]

    def _start(self) -> None:
        self._binaries = unpack_milvus()
        if self.broker == "mock":
            for folder in ("etcd", "storage"):
                shutil.rmtree(self.workdir / folder, ignore_errors=True)
        configs = write_settings(self.workdir)
        self._launch(ETCD)
        address = self._launch_broker()
        self._environ = os.environ | {
            "MILVUSCONF": str(configs),
            "LD_LIBRARY_PATH": str(self._binaries),
            "ETCD_USE_EMBED": "false",
            "ETCD_ENDPOINTS": f"127.0.0.1:{ETCD_PORT}",
            "MQ_TYPE": "kafka",  # the embedded queues are for a standalone
            "KAFKA_BROKERLIST": address,
            "COMMON_SESSION_TTL": str(self.lease_s),
            "COMMON_GRACEFULSTOPTIMEOUT": f"{END_GRACE_S:.0f}",
            # By default a role calls a coordinator that was away again after up to 10 s, so that the time ticks,
            # and with them all searches, stand still for a second lease.
            "GRPC_CLIENT_MAXBACKOFF": "1",
        }
        for kind in COORDINATORS:
            self._environ[f"{kind.upper()}_ENABLEACTIVESTANDBY"] = str(self._standby).lower()
        firsts = [name for name, role in self.roles.items() if role.number == 1 or role.kind not in COORDINATORS]
        seconds = [name for name in self.roles if name not in firsts]
        for names in (firsts, seconds):
            for name in names:
                self._launch(name)
            for name in names:
                self.wait_until_healthy(name)

    def _launch(self, name: str) -> None:
        if name == ETCD:
            self._launch_etcd()
        elif name == BROKER:
            if self.broker == "mock":
                raise CantStart("the mock of a broker can't be started again on what it held; use Apache Kafka")
            self._launch_broker()
        else:
            self._launch_role(self.roles[name])

    def _launch_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (ETCD_PORT, ETCD_PEER_PORT))
        command = ["etcd", "--data-dir", str(self.workdir / "etcd"), "--name", "default"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        self._processes.start(ETCD, command, environ=os.environ, cwd=self.workdir)
        self._processes.wait_until_healthy(ETCD, lambda: answers(ETCD_PORT, "/health", b'"true"'), START_DEADLINE_S)

    def _launch_broker(self) -> str:
        if self.broker == "kafka":
            return kafka_broker.start_kafka(self._processes, self.workdir)
        return kafka_broker.start_mock(self._processes, self.workdir)

    def _launch_role(self, role: Role) -> None:
        environ = self._environ | {
            "METRICS_PORT": str(role.health_port),
            "MILVUS_RUN_DIR": str(self.workdir / "run" / role.name),
            f"{role.kind.upper()}_IP": "127.0.0.1",
            f"{role.kind.upper()}_PORT": str(role.port),
        }
        if role.kind == "proxy":
            environ["PROXY_INTERNALPORT"] = str(role.inner_port)
            # By default a call to a node that is gone is repeated for longer than a search may take, ten times with
            # growing waits, before the proxy looks for another node.
            environ |= {"GRPC_CLIENT_MAXMAXATTEMPTS": "2", "GRPC_CLIENT_INITIALBACKOFF": "0.05"}
            # Until a lost proxy's lease is over, time stands still for all searches; bounded ones notice after 5 s.
            # And a proxy ends itself when etcd is silent for longer than its lease: 5 s of one are too short.
            environ["COMMON_SESSION_TTL"] = str(max(5, 4 * self.lease_s // 5))
        command = [str(self._binaries / "milvus"), "run", role.kind]
        self._processes.start(role.name, command, environ=environ, cwd=self.workdir)

    def _of(self, kind: str) -> list[Role]:
        return [role for role in self.roles.values() if role.kind == kind]


def _roles(kind: str, count: int) -> Iterator[Role]:
    for number in range(1, count + 1):
        yield Role(kind, number)
