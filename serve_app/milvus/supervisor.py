"""The process that keeps the local index's server running while it has users.

`python -m serve_app.milvus.supervisor DATA_DIR`; it ends at once where there is no user. See `local`.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from serve_app.config import MilvusConfig
from serve_app.errors import ShoplensError, Unavailable
from serve_app.milvus.lite_server import STOP_GRACE_S
from serve_app.milvus.rendezvous import HOST, POLL_S, Files, Server, answers, command, environ, try_exclusive

log = logging.getLogger(__name__)

FIRST_BACK_OFF_S = 0.5
LONGEST_BACK_OFF_S = 10.0
STEADY_S = 60.0
"""A server that ran so long starts again without back-off."""

KILL_AFTER_S = STOP_GRACE_S + 5


class _Ended(Exception):
    """Say that the server ended, or that the supervisor shall."""


class Supervisor:
    """Keep one server running until its last user is gone; `lock` is the descriptor of `supervisor.lock`."""

    def __init__(self, files: Files, lock: int) -> None:
        self._files = files
        self._lock = lock
        self._stop = threading.Event()
        self._users_lock: int | None = None

    def run(self) -> None:
        """Return when nobody uses the server, which has then ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        last = self._files.read_server()
        self._files.withdraw()
        port = last.port if last else 0
        back_off = FIRST_BACK_OFF_S
        while not self._done():
            started = time.monotonic()
            port = _choose_port(port)
            with self._running(port) as process, suppress(_Ended):
                self._serve(process, port)
            if self._done():
                return
            back_off = FIRST_BACK_OFF_S if time.monotonic() - started > STEADY_S else back_off
            log.warning("the local Milvus has ended; starting it again in %s s", back_off)
            self._stop.wait(back_off)
            back_off = min(back_off * 2, LONGEST_BACK_OFF_S)

    @contextmanager
    def _running(self, port: int) -> Iterator[subprocess.Popen[bytes]]:
        """Run a server, which is published by nobody and ended when the block is left."""
        process = subprocess.Popen(  # noqa: S603
            command("lite_server", str(self._files.folder), str(port)),
            env=environ(),
            stdin=subprocess.PIPE,
            pass_fds=[self._lock],
        )
        try:
            yield process
        finally:
            self._files.withdraw()
            _end(process)

    def _serve(self, process: subprocess.Popen[bytes], port: int) -> None:
        """Load the server's collections, publish it and watch it until it ends or nobody uses it."""
        # Takes a second or two, in which the server starts.
        from serve_app.milvus import client, indexing  # noqa: F401

        while not answers(port):
            self._pause(process)
        server = Server(process.pid, os.getpid(), port)
        while not _is_ready(server.uri):
            self._pause(process)
        self._files.publish(server)
        log.info("the local Milvus serves on port %s", port)
        while True:
            self._pause(process)

    def _pause(self, process: subprocess.Popen[bytes]) -> None:
        """Wait a moment; raise _Ended when the server has ended or shall."""
        self._files.bound_log()
        if process.poll() is not None or self._done():
            raise _Ended
        self._stop.wait(POLL_S)

    def _done(self) -> bool:
        """Tell whether to end. Where nobody is left, the users' lock is kept, so that nobody comes meanwhile."""
        if self._users_lock is None:
            self._users_lock = try_exclusive(self._files.users_lock)
        return self._users_lock is not None or self._stop.is_set()


def _is_ready(uri: str) -> bool:
    """Load what a restart has unloaded; tell whether that could be done."""
    try:
        _load_all(uri)
    except Unavailable as error:
        log.warning("the local Milvus isn't ready: %s", error)
        return False
    return True


def _load_all(uri: str) -> None:
    from serve_app.milvus import client as connections
    from serve_app.milvus import indexing

    with closing(connections.connect(MilvusConfig(), uri)) as client:
        with connections.translated():
            names = client.list_collections(timeout=indexing.CALL_TIMEOUT_S)
        for name in names:
            try:
                indexing.load(client, name)
            except Unavailable:
                raise
            except ShoplensError:
                log.exception("the collection %s can't be loaded", name)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server: it closes its files when its standard input ends."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _choose_port(last: int) -> int:
    """Return the port that the last server had, so that its clients find the new one, or else a free one."""
    return _free_port(last) or _free_port(0)


def _free_port(port: int) -> int:
    """Return `port`, or some port for 0, where it is free; 0 where it isn't.

    gRPC lets two servers listen on one port, so a taken one must not be used.
    """
    with suppress(OSError, OverflowError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return int(probe.getsockname()[1])
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep the local Milvus running while it has users.")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    files = Files(arguments.data_dir)
    lock = try_exclusive(files.supervisor_lock) if arguments.lock is None else arguments.lock
    if lock is None:
        print(f"another supervisor runs on {files.data_dir}", file=sys.stderr)
        return 1
    os.set_inheritable(lock, False)
    Supervisor(files, lock).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
