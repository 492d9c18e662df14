"""The local index: one Milvus Lite server per data directory, shared by all processes that use it.

Three kinds of processes take part:

- a *user* (here) holds a shared lock on `users.lock` for its life, so that even a killed one lets go, and starts a
  supervisor wherever none runs;
- the *supervisor* (`supervisor`) keeps the server running with its collections loaded and publishes it in
  `server.json`. Once it can lock `users.lock` for itself, nobody is left: it stops the server and ends; who comes
  meanwhile waits for that lock and then starts another;
- the *server* (`lite_server`) ends itself when its supervisor is gone, however that ended.

Supervisor and server hold `supervisor.lock` together: a new supervisor starts when both are gone, on the same port.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

from serve_app.errors import MilvusUnavailable
from serve_app.milvus.rendezvous import POLL_S, Files, command, environ, try_exclusive, try_shared

START_DEADLINE_S = 60.0
"""How long a user waits for a server that answers, with its collections loaded."""

WATCH_S = 1.0
"""How often a user looks whether there is a supervisor."""


class LocalMilvus:
    """Use the local index from `open` to `close`: `with LocalMilvus(data_dir) as uri`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._users_lock: int | None = None
        self._closed: threading.Event | None = None

    def __enter__(self) -> str:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> str:
        """Return the URI of the running server, started if need be; it stays while this is open.

        Raises MilvusUnavailable with the last lines of the server's log after START_DEADLINE_S.
        """
        files = Files(self._data_dir)
        try:
            uri = self._wait(files)
        except BaseException:
            self.close()
            raise
        self._closed = threading.Event()
        threading.Thread(target=_watch, args=(files, self._closed), name="milvus-watch", daemon=True).start()
        return uri

    def close(self) -> None:
        """Let go of the server, which ends after its last user."""
        if self._closed is not None:
            self._closed.set()
        lock, self._users_lock = self._users_lock, None
        if lock is not None:
            os.close(lock)

    def _wait(self, files: Files) -> str:
        """Become a user and return the URI once there is a server that can be used."""
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if self._users_lock is None:
                self._users_lock = try_shared(files.users_lock)
            if self._users_lock is not None:
                _start_supervisor(files)
                server = files.read_server()
                if server is not None and server.usable:
                    return server.uri
            time.sleep(POLL_S)
        raise MilvusUnavailable(
            f"the local index didn't start within {START_DEADLINE_S:.0f} s; the end of {files.log}:\n{files.log_tail()}"
        )


def _watch(files: Files, closed: threading.Event) -> None:
    """Start another supervisor should this one be killed."""
    while not closed.wait(WATCH_S):
        _start_supervisor(files)


def _start_supervisor(files: Files) -> None:
    """Start a supervisor where none runs; it inherits its lock, so that there is never a second one."""
    lock = try_exclusive(files.supervisor_lock)
    if lock is None:
        return
    try:
        with files.log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603
                command("supervisor", str(files.data_dir), "--lock", str(lock)),
                env=environ(),
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
