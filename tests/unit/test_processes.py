"""Servers end with whoever started them."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.processes import CantStart, Crashed, Processes

DEADLINE_S = 20
FOREVER = ["sleep", "1000"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    found.kill_all()


def run(processes: Processes, name: str, *command: str) -> int:
    processes.start(name, command or FOREVER, environ=os.environ, cwd=Path.cwd())
    pid = processes.pid(name)
    assert pid is not None
    return pid


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not gone(pid):
        assert time.monotonic() < deadline, f"{pid} is still there"
        time.sleep(0.02)


def test_a_process_that_ended_runs_no_more(processes: Processes) -> None:
    pid = run(processes, "one")
    processes.end("one")
    assert gone(pid)
    assert processes.pid("one") is None


def test_one_that_will_not_end_is_killed(processes: Processes) -> None:
    pid = run(processes, "one", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    processes.end("one", grace_s=0.2)
    assert gone(pid)


def test_one_that_is_paused_ends(processes: Processes) -> None:
    pid = run(processes, "one")
    processes.send("one", signal.SIGSTOP)
    processes.end("one", grace_s=DEADLINE_S)
    assert gone(pid)


def test_a_name_is_taken_while_its_process_runs(processes: Processes) -> None:
    run(processes, "one")
    with pytest.raises(CantStart, match="one runs already"):
        run(processes, "one")
    processes.end("one", signal.SIGKILL)
    run(processes, "one")


def test_what_it_said_last_is_told(processes: Processes) -> None:
    # It may be gone before anyone asks for its pid.
    processes.start("one", ("sh", "-c", "echo no room >&2; exit 3"), environ=os.environ, cwd=Path.cwd())
    with pytest.raises(CantStart, match=r"one ended with 3(?s:.*)no room"):
        processes.wait_until_healthy("one", lambda: False, DEADLINE_S)


def test_a_crash_is_told_from_an_error_and_its_cause_from_what_all_threads_did(processes: Processes) -> None:
    script = "echo 'fatal error: no thread'; seq 100; kill -ABRT $$"
    processes.start("one", ("sh", "-c", script), environ=os.environ, cwd=Path.cwd())
    with pytest.raises(Crashed, match=r"one ended with -6(?s:.*)\nfatal error: no thread\n86\n"):
        processes.wait_until_healthy("one", lambda: False, DEADLINE_S)


def test_one_that_never_is_healthy_is_given_up(processes: Processes) -> None:
    run(processes, "one")
    with pytest.raises(CantStart, match="one wasn't healthy within 0 s"):
        processes.wait_until_healthy("one", lambda: False, 0.1)


def test_all_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = f"""
        import os, pathlib, time
        from scripts.processes import Processes
        processes = Processes(pathlib.Path({str(tmp_path)!r}))
        processes.start("one", {FOREVER!r}, environ=os.environ, cwd=pathlib.Path.cwd())
        print(processes.pid("one"), flush=True)
        time.sleep(1000)
    """
    command = [sys.executable, "-c", textwrap.dedent(parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        # Until then it is `setpriv`, which may not have asked for its end yet.
        while not Path(f"/proc/{pid}/cmdline").read_text().startswith(FOREVER[0]):
            time.sleep(0.02)
        process.kill()
    wait_until_gone(pid)
