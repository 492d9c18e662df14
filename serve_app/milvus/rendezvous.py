"""Where the processes of the local index meet: locks, the published address, the log."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

HOST = "127.0.0.1"
POLL_S = 0.1
LOG_BYTES = 4 * 2**20
LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Server:
    """Hold what `server.json` says of the server that can be used now."""

    pid: int
    supervisor_pid: int
    port: int

    @property
    def uri(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def usable(self) -> bool:
        """Tell whether it answers and is watched; who was killed leaves its address behind."""
        return _alive(self.supervisor_pid) and answers(self.port)


class Files:
    """Name the files beside the data; their folder is made if need be."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.folder = self.data_dir / "milvus"
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

    def withdraw(self) -> None:
        """Publish no server."""
        self.server.unlink(missing_ok=True)

    def log_tail(self) -> str:
        with suppress(OSError):
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])
        return ""

    def bound_log(self) -> None:
        """Keep the end of a log that has grown: it is written in append mode, so it can be cut."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            os.truncate(self.log, 0)


def try_shared(path: Path) -> int | None:
    """Return a descriptor that holds the lock, with others, until it is closed; None where one has it alone."""
    return _try_lock(path, fcntl.LOCK_SH)


def try_exclusive(path: Path) -> int | None:
    """Return a descriptor that holds the lock alone until it is closed; None where another process has it.

    A child that inherits the descriptor holds the lock too: it is free once all of them have ended.
    """
    return _try_lock(path, fcntl.LOCK_EX)


def _try_lock(path: Path, how: int) -> int | None:
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


def answers(port: int) -> bool:
    """Tell whether a gRPC server speaks; the kernel still accepts connections for one that is being killed."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            # HTTP/2: the server's first frame doesn't wait for ours, https://www.rfc-editor.org/rfc/rfc9113#section-3.4
            return len(connection.recv(1)) == 1
    except (OSError, OverflowError):
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package."""
    return [sys.executable, "-m", f"serve_app.milvus.{module}", *arguments]


def environ() -> dict[str, str]:
    """Let a child find this package from any working directory."""
    source = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))}
