"""Start the servers that tests and benchmarks need.

A Milvus server listens on every interface whatever its configuration says, so it is started only where there is
no interface but `lo`:

    unshare --net bash -c 'ip link set lo up && python -m scripts.servers standalone WORKDIR'
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import TracebackType

from scripts.kafka_broker import fetch_kafka
from scripts.milvus_binary import unpack_milvus, write_settings
from scripts.milvus_cluster import MilvusCluster
from scripts.processes import CantStart, Crashed, Processes, answers, check_free, check_loopback_only

__all__ = ["CantStart", "MilvusCluster", "MilvusStandalone", "check_loopback_only", "main"]

NAME = "milvus"
MILVUS_PORT = 19530
HEALTH_PORT = 9091
START_DEADLINE_S = 180.0


class MilvusStandalone:
    """Run one Milvus server, with its own etcd, queue and storage below `workdir`, until it is stopped."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir.resolve()
        self.uri = f"http://127.0.0.1:{MILVUS_PORT}"
        self._processes = Processes(self.workdir)

    def __enter__(self) -> MilvusStandalone:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        return self._processes.log(NAME)

    @property
    def pid(self) -> int | None:
        """Return the server's process id; None where it doesn't run."""
        return self._processes.pid(NAME)

    def start(self) -> None:
        """Start the server, on the data it left before, and wait until it is healthy.

        Raises CantStart when it can't be run here or isn't healthy within START_DEADLINE_S.
        """
        check_loopback_only()
        check_free(MILVUS_PORT, "standalone")
        binaries = unpack_milvus()
        environ = os.environ | {
            "DEPLOY_MODE": "STANDALONE",
            "LD_LIBRARY_PATH": str(binaries),
            "METRICS_PORT": str(HEALTH_PORT),
            "MILVUSCONF": str(write_settings(self.workdir)),
            "MILVUS_RUN_DIR": str(self.workdir / "run"),
        }
        try:
            self._start(binaries / "milvus", environ)
        except Crashed as crash:
            # Milvus 2.3.5 was seen to abort at its start on a busy machine; whoever runs it starts it again.
            print(f"once more: {crash}", file=sys.stderr)
            self._start(binaries / "milvus", environ)

    def _start(self, binary: Path, environ: dict[str, str]) -> None:
        try:
            self._processes.start(NAME, [binary, "run", "standalone"], environ=environ, cwd=self.workdir)
            self._processes.wait_until_healthy(NAME, lambda: answers(HEALTH_PORT, "/healthz", b"OK"), START_DEADLINE_S)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server: SIGTERM, and SIGKILL where that takes too long."""
        self._processes.end(NAME)

    def kill(self) -> None:
        """End the server at once by SIGKILL."""
        self._processes.end(NAME, signal.SIGKILL)


def main() -> int:
    """Run a Milvus server until SIGINT or SIGTERM."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.what == "fetch":
            unpack_milvus()
            fetch_kafka()
            return 0
        with _server(arguments) as server:
            uris = server.uris if isinstance(server, MilvusCluster) else [server.uri]
            print(*uris, flush=True)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        return 0
    except CantStart as error:
        print(error)
        return 2


def _server(arguments: argparse.Namespace) -> MilvusStandalone | MilvusCluster:
    if arguments.what == "standalone":
        return MilvusStandalone(arguments.workdir)
    return MilvusCluster(
        arguments.workdir,
        query_nodes=arguments.query_nodes,
        proxies=arguments.proxies,
        standby=arguments.standby,
        lease_s=arguments.lease_s,
        broker=arguments.broker,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.servers", description="Start servers; Ctrl-C ends them.")
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("fetch", help="fetch what can't be fetched without a network: Apache Kafka, by mvn")
    standalone = what.add_parser("standalone", help="one Milvus process")
    cluster = what.add_parser("cluster", help="Milvus as separate processes, with etcd and a Kafka broker")
    for server in (standalone, cluster):
        server.add_argument("workdir", type=Path, help="folder for data and logs")
    cluster.add_argument("--query-nodes", type=int, default=2, metavar="N", help="query nodes (default: %(default)s)")
    cluster.add_argument("--proxies", type=int, choices=(1, 2), default=1, help="proxies (default: %(default)s)")
    cluster.add_argument("--standby", action="store_true", help="a second coordinator of each kind")
    cluster.add_argument(
        "--lease-s", type=int, default=30, metavar="S", help="until a dead role counts as gone (default: %(default)s)"
    )
    cluster.add_argument(
        "--broker", choices=("mock", "kafka"), default="mock", help="the Kafka broker (default: %(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
