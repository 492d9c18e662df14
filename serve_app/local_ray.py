"""The start of a Ray of this machine's own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import psutil
import ray

from serve_app.errors import StageUnavailable

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Ray gives one of its own processes 15 s for what is mostly imports, https://github.com/ray-project/ray/issues/65983:
too little on a machine that is busy, or that reads them for the first time. The second time they are in memory."""
LATE = "timed out during startup"
"""Says Ray then."""
END_S = 10.0


def start(**options: Any) -> None:
    """Start and connect to a Ray with these options of `ray.init`; raises StageUnavailable."""
    for left in reversed(range(ATTEMPTS)):
        before = _processes()
        try:
            ray.init(address="local", **options)
        except Exception as error:  # Ray's own errors at start are of no class below it
            if not left or LATE not in str(error):
                raise StageUnavailable(
                    f"Ray does not start; its logs are in /tmp/ray/session_latest/logs: {error}"
                ) from error
            log.warning("Ray was too slow to start; once more")
            # It leaves what it has started of itself.
            _end(_processes() - before)
        else:
            return


def _processes() -> set[psutil.Process]:
    """Return the processes below this one that are Ray's."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if command.startswith("ray::") or str(Path(ray.__file__).parent) in command:
            found.add(process)
    return found


def _end(processes: set[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=END_S)
