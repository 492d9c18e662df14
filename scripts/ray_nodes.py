"""Ray nodes on this machine, each in namespaces of its own; they can be killed as machines are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from scripts.measuring import wait_until
from scripts.processes import CantStart, Processes
from serve_app.ray_environment import CLUSTER

BRIDGE = "shoplens0"
HERE = "10.99.0.1"
"""This process's own address on the bridge."""
HEAD = "head"
GCS_PORT, DASHBOARD_PORT, SERVE_PORT = 6379, 8265, 8000
START_DEADLINE_S = 120.0


class RayNodes:
    """Run a head, which holds no work, and workers named `worker1`, `worker2`, … below `workdir` until stopped.

    What the head knows is on disk (Ray's embedded RocksDB), so that a killed one can be started again.
    """

    def __init__(self, workdir: Path, workers: int) -> None:
        self.workdir = workdir.resolve()
        self.workers = [f"worker{number + 1}" for number in range(workers)]
        self._processes = Processes(self.workdir / "logs")

    def __enter__(self) -> Self:
        try:
            _run("ip", "link", "add", BRIDGE, "type", "bridge")
            _run("ip", "addr", "add", f"{HERE}/24", "dev", BRIDGE)
            _run("ip", "link", "set", BRIDGE, "up")
            for name in (HEAD, *self.workers):
                self._join(name)
            self.start(HEAD)
            for name in self.workers:
                self.start(name)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def address(self, name: str) -> str:
        """Return a node's IP address."""
        return f"10.99.0.{10 + (HEAD, *self.workers).index(name)}"

    @property
    def urls(self) -> list[str]:
        """Return where the workers' proxies answer."""
        return [f"http://{self.address(name)}:{SERVE_PORT}" for name in self.workers]

    @property
    def dashboard(self) -> str:
        return f"http://{self.address(HEAD)}:{DASHBOARD_PORT}"

    def start(self, name: str) -> None:
        """Start a node, and wait until the head knows it; raises CantStart."""
        ray = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--block",
            f"--node-ip-address={self.address(name)}",
        ]
        if name == HEAD:
            ray += ["--head", f"--port={GCS_PORT}", "--num-cpus=0", f"--dashboard-host={self.address(HEAD)}"]
            ray += [f"--dashboard-port={DASHBOARD_PORT}"]
        else:
            ray += [f"--address={self.address(HEAD)}:{GCS_PORT}", "--num-cpus=4"]
        ray += ["--object-store-memory=200000000"]
        # Ray looks for other Rays among a machine's processes.
        alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        command = ["ip", "netns", "exec", _namespace(name), *alone, *ray]
        self._processes.start(name, command, environ=self._environ(), cwd=Path.cwd())
        self._processes.wait_until_healthy(name, lambda: self._is_known(name), START_DEADLINE_S)

    def kill(self, name: str) -> None:
        """End all processes of a node at once by SIGKILL."""
        # The first process of a PID namespace takes all others with it.
        self._processes.end(name, signal.SIGKILL)
        left = subprocess.run(["ip", "netns", "pids", _namespace(name)], capture_output=True, text=True).stdout
        for pid in left.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def deploy(self, document: dict[str, Any]) -> None:
        """Deploy what Ray Serve's REST interface takes, and wait until it runs; raises CantStart, TimeoutError."""
        self.put(document)
        wait_until(self._runs, timeout_s=START_DEADLINE_S, what="start of the application")

    def put(self, document: dict[str, Any]) -> None:
        """Have a document deployed, and don't wait for it; raises CantStart."""
        answer = httpx.put(f"{self.dashboard}/api/serve/applications/", json=document, timeout=60)
        if not answer.is_success:
            raise CantStart(f"Ray Serve took no application: {answer.text}")

    def stop(self) -> None:
        """End all nodes and take their network down."""
        for name in (*self.workers, HEAD):
            self.kill(name)
            subprocess.run(["ip", "netns", "del", _namespace(name)], capture_output=True)
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)

    def _environ(self) -> dict[str, str]:
        return {
            **os.environ,
            **CLUSTER,
            "RAY_AUTH_MODE": "disabled",
            "PYTHONPATH": str(Path.cwd()),
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(self.workdir / "gcs"),
            "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
        }

    def _join(self, name: str) -> None:
        namespace, inside, outside = _namespace(name), "eth0", f"sl-{name}"
        _run("ip", "netns", "add", namespace)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace)
        _run("ip", "link", "set", outside, "master", BRIDGE, "up")
        _run("ip", "-n", namespace, "link", "set", "lo", "up")
        _run("ip", "-n", namespace, "addr", "add", f"{self.address(name)}/24", "dev", inside)
        _run("ip", "-n", namespace, "link", "set", inside, "up")

    def _is_known(self, name: str) -> bool:
        try:
            nodes = httpx.get(f"{self.dashboard}/api/v0/nodes", timeout=2).json()["data"]["result"]["result"]
        except (httpx.HTTPError, ValueError, KeyError):
            return False
        return any(node["node_ip"] == self.address(name) and node["state"] == "ALIVE" for node in nodes)

    def _runs(self) -> bool:
        try:
            found = httpx.get(f"{self.dashboard}/api/serve/applications/", timeout=5).json()["applications"]
        except (httpx.HTTPError, ValueError):
            return False
        states = {application["status"] for application in found.values()}
        if "DEPLOY_FAILED" in states:
            raise CantStart(next(application["message"] for application in found.values()))
        return states == {"RUNNING"}


def _namespace(name: str) -> str:
    return f"shoplens-{os.getpid()}-{name}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CantStart(f"{' '.join(command)}: {done.stderr.strip()}; Ray's nodes need root and network namespaces")
