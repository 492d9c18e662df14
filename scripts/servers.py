"""Start the servers that tests and benchmarks need.

Milvus 2.3.5 is the newest server that a package registry holds: the PyPI package `milvus` carries its binary.
It listens on every interface whatever its configuration says, so it is started only where there is
no interface but `lo`:

    unshare --net bash -c 'ip link set lo up && python scripts/servers.py WORKDIR'
"""

from __future__ import annotations

import argparse
import importlib.util
import lzma
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

MILVUS_PORT = 19530
HEALTH_PORT = 9091
START_DEADLINE_S = 180.0
STOP_GRACE_S = 5.0
"""A standalone that gets SIGTERM waits up to 1,800 s for itself (`gracefulStopTimeout`)."""

LOG_TAIL_LINES = 15


class CantStart(RuntimeError):
    """Say why a server can't be started, and what to do."""


def check_loopback_only() -> None:
    """Raise CantStart unless the only network interface is `lo`, which is up."""
    names = {name for _, name in socket.if_nameindex()}
    if names != {"lo"}:
        raise CantStart(
            "Milvus listens on every interface, so it is started only in a network namespace that has nothing but "
            f"lo; here are {', '.join(sorted(names))}. Run it by: unshare --net bash -c 'ip link set lo up && …'"
        )
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
            probe.listen()
            with socket.create_connection(probe.getsockname(), timeout=1):
                pass
        except OSError as error:
            raise CantStart("the interface lo is down; run: ip link set lo up") from error


def unpack_milvus() -> Path:
    """Return the folder of the unpacked Milvus binary, kept in the user's cache folder.

    Raises CantStart where the package `milvus` isn't installed.
    """
    package = _milvus_package()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoplens"
    target = cache / f"milvus-{version('milvus')}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=cache, prefix="milvus-"))
    try:
        for packed in sorted((package / "data" / "bin").glob("*.lzma")):
            unpacked = fresh / packed.stem
            with lzma.open(packed) as source, unpacked.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            unpacked.chmod(0o755)
        fresh.chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def _milvus_package() -> Path:
    spec = importlib.util.find_spec("milvus")
    if spec is None or spec.origin is None:
        raise CantStart("the package `milvus` is missing; install the project with its development dependencies")
    return Path(spec.origin).parent


class MilvusStandalone:
    """Run one Milvus server, with its own etcd, queue and storage below `workdir`, until it is stopped."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir.resolve()
        self.uri = f"http://127.0.0.1:{MILVUS_PORT}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> MilvusStandalone:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        return self.workdir / "milvus.log"

    def start(self) -> None:
        """Start the server, on the data it left before, and wait until it is healthy.

        Raises CantStart when it can't be run here or isn't healthy within START_DEADLINE_S.
        """
        check_loopback_only()
        _check_free(MILVUS_PORT)
        binaries = unpack_milvus()
        self._write_settings()
        environ = os.environ | {
            "DEPLOY_MODE": "STANDALONE",
            "LD_LIBRARY_PATH": str(binaries),
            "METRICS_PORT": str(HEALTH_PORT),
            "MILVUSCONF": str(self.workdir / "configs"),
            "MILVUS_RUN_DIR": str(self.workdir / "run"),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [binaries / "milvus", "run", "standalone"], cwd=self.workdir, env=environ, stdout=log, stderr=log
            )
        try:
            self._wait_until_healthy(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server: SIGTERM, and SIGKILL where that takes too long."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once by SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _write_settings(self) -> None:
        """Fill in the package's template, whose blanks read `{{ name(type): default }}`."""
        source = _milvus_package() / "data"
        values = {
            "etcd_log_path": self.workdir / "etcd.log",
            "etcd_data_dir": self.workdir / "etcd",
            "local_storage_dir": self.workdir / "storage",
            "rocksmq_data_dir": self.workdir / "rocksmq",
            "system_log_path": '""',
        }

        def fill(blank: re.Match[str]) -> str:
            name, default = blank["name"], blank["default"] or ""
            return str(values.get(name, default.strip()))

        template = (source / "config.yaml.template").read_text(encoding="utf-8")
        settings = re.sub(r"\{\{\s*(?P<name>\w+)(?:\(\w+\))?\s*(?::(?P<default>[^}]*))?\}\}", fill, template)
        configs = self.workdir / "configs"
        configs.mkdir(parents=True, exist_ok=True)
        (configs / "milvus.yaml").write_text(settings, encoding="utf-8")
        shutil.copy(source / "glog.conf", configs)

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise CantStart(f"Milvus ended with {process.returncode}; the end of {self.log}:\n{self._log_tail()}")
            if _healthy():
                return
            time.sleep(0.2)
        raise CantStart(f"Milvus wasn't healthy within {START_DEADLINE_S:.0f} s; see {self.log}:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])


def _healthy() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{HEALTH_PORT}/healthz", timeout=2) as answer:
            return b"OK" in answer.read()
    except OSError:
        return False


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CantStart(f"port {port} is taken: one Milvus server per network namespace") from error


def main() -> int:
    """Run a Milvus server until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description="Start a Milvus server; it ends with Ctrl-C.")
    parser.add_argument("workdir", type=Path, help="folder for its data and log")
    arguments = parser.parse_args()
    try:
        with MilvusStandalone(arguments.workdir) as server:
            print(server.uri, flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    except CantStart as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
