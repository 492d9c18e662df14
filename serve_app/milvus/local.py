"""The local index: one Milvus Lite server per data directory, shared by all processes that use it.

Three kinds of processes take part:

- a *user* holds a shared lock on `users.lock` for its life, so that even a killed one lets go;
- the *supervisor*, started by the first user, holds `supervisor.lock`, keeps the server running with its
  collections loaded and publishes it in `server.json`. Once it can lock `users.lock` for itself, nobody is left:
  it stops the server and ends; who comes meanwhile waits for that lock and then starts another;
- the *server*, `milvus-lite server`, ends itself when its supervisor is gone, however that ended.

`python -m serve_app.milvus.local DATA_DIR` is the supervisor, which ends at once where there is no user.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from serve_app.config import MilvusConfig
from serve_app.errors import MilvusUnavailable, ShoplensError, Unavailable

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_DEADLINE_S = 60.0
"""How long a user waits for a server that answers, with its collections loaded."""

POLL_S = 0.1
FIRST_BACK_OFF_S = 0.5
LONGEST_BACK_OFF_S = 10.0
STEADY_S = 60.0
"""A server that ran so long starts again without back-off."""

STOP_GRACE_S = 20.0
"""How long a server may take to write what it holds in memory, before it is killed."""

LOG_BYTES = 4 * 2**20
LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Server:
    """Hold what `server.json` says of the server that can be used now."""

    pid: int
    supervisor_pid: int
    port: int


class _Files:
    """Name the files beside the data; their folder is made if need be."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir.resolve() / "milvus"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.users_lock = self.folder / "users.lock"
        self.supervisor_lock = self.folder / "supervisor.lock"
        self.server = self.folder / "server.json"
        self.log = self.folder / "server.log"

    def read_server(self) -> Server | None:
        """Return what is published; None where nothing, or nothing readable, is."""
        try:
            return Server(**json.loads(self.server.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def publish(self, server: Server) -> None:
        fresh = self.server.with_suffix(".tmp")
        fresh.write_text(json.dumps(asdict(server)), encoding="utf-8")
        fresh.replace(self.server)

    def log_tail(self) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])
        return ""


def _try_lock(path: Path, how: int) -> int | None:
    """Return a descriptor that holds the lock until it is closed; None where another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


# --- the user


class LocalMilvus:
    """Use the local index from `open` to `close`: `with LocalMilvus(data_dir) as uri`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._users_lock: int | None = None

    def __enter__(self) -> str:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> str:
        """Return the URI of the running server, started if need be.

        Raises MilvusUnavailable with the last lines of the server's log after START_DEADLINE_S.
        """
        files = _Files(self._data_dir)
        deadline = time.monotonic() + START_DEADLINE_S
        try:
            while time.monotonic() < deadline:
                if self._users_lock is None:
                    self._users_lock = _try_lock(files.users_lock, fcntl.LOCK_SH)
                if self._users_lock is not None:
                    _start_supervisor(files, self._data_dir)
                    server = files.read_server()
                    if server is not None and _alive(server.supervisor_pid) and _listens(server.port):
                        return f"http://{HOST}:{server.port}"
                time.sleep(POLL_S)
        except BaseException:
            self.close()
            raise
        self.close()
        raise MilvusUnavailable(
            f"the local index didn't start within {START_DEADLINE_S:.0f} s; the end of {files.log}:\n{files.log_tail()}"
        )

    def close(self) -> None:
        """Let go of the server, which ends after its last user."""
        lock, self._users_lock = self._users_lock, None
        if lock is not None:
            os.close(lock)


def _start_supervisor(files: _Files, data_dir: Path) -> None:
    """Start a supervisor where none runs; it inherits its lock, so that there is never a second one."""
    lock = _try_lock(files.supervisor_lock, fcntl.LOCK_EX)
    if lock is None:
        return
    try:
        with files.log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603
                [*_module(), str(data_dir.resolve()), "--lock", str(lock)],
                env=_environ(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[lock],
                start_new_session=True,
            )
    finally:
        os.close(lock)
    # It outlives this process; until then, somebody must collect its exit status.
    threading.Thread(target=process.wait, name="milvus-supervisor", daemon=True).start()


def _module() -> list[str]:
    return [sys.executable, "-m", "serve_app.milvus.local"]


def _environ() -> dict[str, str]:
    """Let a child find this package from any working directory."""
    source = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


# --- the supervisor


class _Ended(Exception):
    """Say that the server ended, or that the supervisor shall."""


class Supervisor:
    """Keep one server running until its last user is gone."""

    def __init__(self, data_dir: Path) -> None:
        self._files = _Files(data_dir)
        self._stop = threading.Event()
        self._users_lock: int | None = None
        self._port = 0

    def run(self) -> None:
        """Return when nobody uses the server, which has then ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        self._port = _choose_port(self._files.read_server())
        self._files.server.unlink(missing_ok=True)
        back_off = FIRST_BACK_OFF_S
        while not self._done():
            started = time.monotonic()
            if _free_port(self._port):
                with self._running() as process, suppress(_Ended):
                    self._serve(process)
            if self._done():
                return
            back_off = FIRST_BACK_OFF_S if time.monotonic() - started > STEADY_S else back_off
            log.warning("the local Milvus has ended; starting it again in %s s", back_off)
            self._stop.wait(back_off)
            back_off = min(back_off * 2, LONGEST_BACK_OFF_S)

    @contextmanager
    def _running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run a server, which is published by nobody and ended when the block is left."""
        process = subprocess.Popen(  # noqa: S603
            [*_module(), str(self._files.folder), "--serve", str(self._port)], env=_environ(), stdin=subprocess.PIPE
        )
        try:
            yield process
        finally:
            self._files.server.unlink(missing_ok=True)
            _end(process)

    def _serve(self, process: subprocess.Popen[bytes]) -> None:
        """Load the server's collections, publish it and watch it until it ends or nobody uses it."""
        while not _listens(self._port):
            self._pause(process)
        while not self._load_all():
            self._pause(process)
        self._files.publish(Server(process.pid, os.getpid(), self._port))
        log.info("the local Milvus serves on port %s", self._port)
        while True:
            self._pause(process)

    def _load_all(self) -> bool:
        """Load what a restart has unloaded; tell whether the server is ready."""
        from serve_app.milvus import client as connections
        from serve_app.milvus import indexing

        try:
            client = connections.connect(MilvusConfig(), f"http://{HOST}:{self._port}")
            try:
                with connections.translated():
                    names = client.list_collections(timeout=indexing.CALL_TIMEOUT_S)
                for name in names:
                    indexing.load(client, name)
            finally:
                client.close()
        except Unavailable as error:
            log.warning("the local Milvus isn't ready: %s", error)
            return False
        except ShoplensError:
            log.exception("a collection can't be loaded")
        return True

    def _pause(self, process: subprocess.Popen[bytes]) -> None:
        """Wait a moment; raise _Ended when the server has ended or shall."""
        _bound(self._files.log)
        if process.poll() is not None or self._done():
            raise _Ended
        self._stop.wait(POLL_S)

    def _done(self) -> bool:
        """Tell whether to end. Where nobody is left, the users' lock is kept, so that nobody comes meanwhile."""
        if self._users_lock is None:
            self._users_lock = _try_lock(self._files.users_lock, fcntl.LOCK_EX)
        return self._users_lock is not None or self._stop.is_set()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server: it closes its files when its standard input ends."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _choose_port(last: Server | None) -> int:
    """Return the port that the last server had, so that clients find the new one, or else a free one."""
    return _free_port(last.port if last else 0) or _free_port(0)


def _free_port(port: int) -> int:
    """Return `port`, or some port for 0, where it is free; 0 where it isn't.

    gRPC lets two servers listen on one port, so a taken one must not be used.
    """
    with suppress(OSError, OverflowError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return int(probe.getsockname()[1])
    return 0


def _bound(path: Path) -> None:
    """Keep the end of a log that has grown: it is written in append mode, so it can be cut."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


def supervise(data_dir: Path, lock: int | None) -> int:
    """Run the supervisor of a data directory; `lock` is the descriptor of a lock that was inherited."""
    files = _Files(data_dir)
    lock = _try_lock(files.supervisor_lock, fcntl.LOCK_EX) if lock is None else lock
    if lock is None:
        print(f"another supervisor runs on {data_dir}", file=sys.stderr)
        return 1
    os.set_inheritable(lock, False)
    try:
        Supervisor(data_dir).run()
    finally:
        os.close(lock)
    return 0


# --- the server


def serve(folder: Path, port: int) -> int:
    """Run the server until standard input ends: the supervisor has closed it, or is gone."""
    from milvus_lite.cmdline import main as milvus_lite

    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_follow_supervisor, name="follow-supervisor", daemon=True).start()
    # Its own default is 0.0.0.0.
    return int(milvus_lite(["server", "--data-dir", str(folder), "--host", HOST, "--port", str(port)]))


def _follow_supervisor() -> None:
    """Wait for the end of standard input and interrupt the server, which then closes its files."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(STOP_GRACE_S)
    os._exit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep the local Milvus running while it has users.")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        return serve(arguments.data_dir, arguments.serve)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return supervise(arguments.data_dir, arguments.lock)


if __name__ == "__main__":
    raise SystemExit(main())
