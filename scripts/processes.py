"""Start servers as processes that end with this one."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

STOP_GRACE_S = 5.0
"""A Milvus that gets SIGTERM waits up to 1,800 s for itself (`gracefulStopTimeout`)."""

LOG_TAIL_LINES = 15
HTTP_TIMEOUT_S = 2.0
POLL_S = 0.2


CAUSE = re.compile(r"^(panic|fatal error|runtime|terminate called|SIG[A-Z]+):?\b|what\(\):")
"""The line of a log in which a program in Go or C++ says what ends it."""


class CantStart(RuntimeError):
    """Say why a server can't be started, and what to do."""


class Crashed(CantStart):
    """Say which signal ended a server at its start."""


class Processes:
    """Hold the processes of one server by name, each with a log of its own in `logs`.

    However this process ends, they end too: Linux sends them SIGKILL when the thread that started them is gone
    (prctl(2), PR_SET_PDEATHSIG). One thread therefore starts them all, and lives as long as this object.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starter")

    def start(self, name: str, command: Sequence[str | Path], *, environ: Mapping[str, str], cwd: Path) -> None:
        """Start a process; raises CantStart where it runs already or its program isn't there."""
        if self.pid(name) is not None:
            raise CantStart(f"{name} runs already")
        self._logs.mkdir(parents=True, exist_ok=True)
        bound = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
        with self.log(name).open("ab") as log:
            starting = self._starter.submit(
                subprocess.Popen,
                bound,
                cwd=cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches this process alone, which then ends them in order
            )
            try:
                self._running[name] = starting.result()
            except FileNotFoundError as error:
                raise CantStart("the command `setpriv` is missing; install util-linux") from error

    def pid(self, name: str) -> int | None:
        """Return the process's id; None where it doesn't run."""
        process = self._running.get(name)
        return None if process is None or process.poll() is not None else process.pid

    def send(self, name: str, what: signal.Signals) -> None:
        """Send a signal; raises ValueError where the process doesn't run."""
        if self.pid(name) is None:
            raise ValueError(f"{name} doesn't run")
        self._running[name].send_signal(what)

    def end(self, name: str, how: signal.Signals = signal.SIGTERM, grace_s: float = STOP_GRACE_S) -> None:
        """End a process: by `how`, and by SIGKILL where that takes longer than `grace_s`."""
        process = self._running.pop(name, None)
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # one that is paused takes no other signal than SIGKILL
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill_all(self) -> None:
        """End all processes at once by SIGKILL."""
        for process in self._running.values():
            process.kill()
        for name in list(self._running):
            self.end(name, signal.SIGKILL)

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def wait_until_healthy(self, name: str, healthy: Callable[[], bool], deadline_s: float) -> None:
        """Return when `healthy()`; raises CantStart, with the end of the log, where the process ends or time is up."""
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            if self.pid(name) is None:
                code = self._running[name].returncode if name in self._running else None
                told = f"{name} ended with {code}; {self.log(name)}:\n{self._log_tail(name)}"
                raise Crashed(told) if code is not None and code < 0 else CantStart(told)
            if healthy():
                return
            time.sleep(POLL_S)
        raise CantStart(
            f"{name} wasn't healthy within {deadline_s:.0f} s; the end of {self.log(name)}:\n{self._log_tail(name)}"
        )

    def _log_tail(self, name: str) -> str:
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        # Go tells the cause of a crash first, and then what each of some hundred goroutines did.
        causes = [line for line in lines if CAUSE.search(line)]
        return "\n".join([*causes[:LOG_TAIL_LINES], *lines[-LOG_TAIL_LINES:]])


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


def check_free(port: int, what: str) -> None:
    """Raise CantStart where a port of 127.0.0.1 is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CantStart(f"port {port} is taken: one {what} per network namespace") from error


def answers(port: int, path: str, wanted: bytes) -> bool:
    """Tell whether an HTTP server on this machine answers 200 with `wanted` in the body."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=HTTP_TIMEOUT_S) as answer:
            return wanted in answer.read()
    except OSError:
        return False


def accepts(port: int) -> bool:
    """Tell whether anything on this machine accepts connections at a port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=HTTP_TIMEOUT_S):
            return True
    except OSError:
        return False
