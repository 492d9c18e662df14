"""Services under measurement: started, stopped while others have their turn, and what their processes take."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from scripts.closed_loop import SEARCH_PATH
from scripts.processes import CantStart

START_TIMEOUT_S = 240.0
ANSWERS_S = 60.0
"""From its first answer on, a service has so long to give a good one."""
POLL_S = 0.5
END_S = 20.0
LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Service:
    """Hold a running service; `pid` is the process that all others of it descend from."""

    name: str
    pid: int
    url: str = ""
    path: str = SEARCH_PATH
    pausable: bool = False

    def processes(self) -> list[psutil.Process]:
        """Return its processes, the first one first."""
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def pause(self) -> None:
        """Stop its processes until `resume`, where it may be stopped: some ask their queues all the time."""
        if self.pausable:
            for process in self.processes():
                with suppress(psutil.NoSuchProcess):
                    process.suspend()

    def resume(self) -> None:
        """Let its processes run on."""
        if self.pausable:
            for process in self.processes():
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def cpu_s(self) -> float:
        """Return the CPU-seconds, user and system, that all its processes took so far, ended ones too."""
        total = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_mib(self) -> float:
        """Return the memory of all its processes, pages that they share counted once."""
        total = 0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / 2**20


@contextmanager
def running(
    name: str, command: Sequence[str], environ: Mapping[str, str], url: str, photo: Path, log: Path, pausable: bool
) -> Iterator[Service]:
    """Yield a service once it answers a search; all its processes end with the block.

    `environ` is added to this process's own. Raises CantStart with the end of its log.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environ}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    service = Service(name, process.pid, url, pausable=pausable)
    try:
        _wait(process, service, photo, log)
        yield service
    finally:
        service.resume()
        _end(process)


def _wait(process: subprocess.Popen[bytes], service: Service, photo: Path, log: Path) -> None:
    deadline, said, data = time.monotonic() + START_TIMEOUT_S, "it does not listen", photo.read_bytes()
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CantStart(f"{service.name} ended with {process.returncode}:\n{_tail(log)}")
        try:
            answer = httpx.post(f"{service.url}{service.path}", files={"photo": (photo.name, data)}, timeout=60)
        except httpx.HTTPError:
            time.sleep(POLL_S)
            continue
        if answer.is_success:
            return
        if said == "it does not listen":
            # What listens may still wait for its models, but not for long.
            deadline = min(deadline, time.monotonic() + ANSWERS_S)
        said = f"it answers {answer.status_code}: {answer.text[:300]}"
        time.sleep(POLL_S)
    raise CantStart(f"{service.name} answered no search in time, {said}\n{_tail(log)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that descend from it, also those it would leave behind."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        below = []
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in below:
        # psutil looks at the time of its start, so that nobody else who got its number is killed.
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(below, timeout=END_S)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])
