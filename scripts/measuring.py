"""What every benchmark and drill shares: the machine, the statistics, the table, the JSON file."""

from __future__ import annotations

import itertools
import json
import os
import platform
import socket
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

EXIT_GOAL_MISSED = 1
EXIT_COULD_NOT_RUN = 2
PACKAGES = ("shoplens", "ray", "torch", "ultralytics", "pymilvus", "milvus-lite", "faiss-cpu")


@dataclass(frozen=True, slots=True)
class Goal:
    """Compare a measured value with what it should be."""

    name: str
    value: float
    goal: float
    better: Literal["higher", "lower"]

    @property
    def ok(self) -> bool:
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


@dataclass
class Report:
    """Collect rows and goals of one run; neighbouring rows of the same columns make one table."""

    name: str
    settings: Mapping[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    where: Mapping[str, Any] | None = None
    """The machine it ran on, where that is not this one."""

    def show(self, console: Console) -> None:
        """Print rows and goals for a person."""
        for _, rows in itertools.groupby(self.rows, key=list):
            console.print(_table(list(rows)))
        for goal in self.goals:
            sign = "≥" if goal.better == "higher" else "≤"
            console.print(
                f"{'ok    ' if goal.ok else 'MISSED'} {goal.name}: {goal.value:.3g} (goal {sign} {goal.goal:g})"
            )

    def write(self, path: Path) -> None:
        """Write the run as JSON."""
        document = {
            "name": self.name,
            "when": self.when,
            "machine": machine() if self.where is None else self.where,
            "versions": {name: metadata.version(name) for name in PACKAGES},
            "settings": dict(self.settings),
            "rows": self.rows,
            "goals": [{**asdict(goal), "ok": goal.ok} for goal in self.goals],
        }
        path.write_text(json.dumps(document, indent=2, default=str) + "\n", encoding="utf-8")

    def finish(self, console: Console, path: Path | None) -> int:
        """Print the run, write it where a path is given, and return the exit code."""
        self.show(console)
        if path is not None:
            self.write(path)
        return self.exit_code()

    def exit_code(self) -> int:
        return 0 if all(goal.ok for goal in self.goals) else EXIT_GOAL_MISSED


def machine() -> dict[str, Any]:
    """Describe this machine in words that say how fast it is, not where."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": cores(),
        "memory_gib": round(memory_bytes / 2**30, 1),
        "python": platform.python_version(),
    }


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` (0…1) of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def median_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the distance between the extremes."""
    return statistics.median(values), max(values) - min(values)


def key_headers() -> dict[str, str]:
    """Return the headers of a service that asks for an API key: that of SHOPLENS_KEY, if it is set."""
    key = os.environ.get("SHOPLENS_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}


def wait_until(condition: Any, *, timeout_s: float, what: str) -> Any:
    """Return the first true value of `condition()`; raises TimeoutError, naming what was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise TimeoutError(f"{what} did not happen within {timeout_s:g} s")


def memory_mib(pid: int) -> float:
    """Return a process's share of memory, pages shared with others counted in part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} shows no memory")


def process_name(pid: int) -> str:
    """Return what a process is: a replica, a program of Ray, a script; raises OSError once it has ended."""
    words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    if words[0].startswith("ray::"):
        return words[0].split("#")[0]
    scripts = [Path(word).name for word in words if word.endswith(".py") or word == "serve_app.cli"]
    return scripts[0] if scripts else Path(words[0]).name


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def descendants(pid: int) -> list[int]:
    """Return the process's children, theirs, and so on."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def replica_pids(root: int, deployment: str) -> list[int]:
    """Return the processes of a deployment's replicas below the process `root`."""
    found = []
    for pid in descendants(root):
        try:
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(f"ray::ServeReplica:shoplens:{deployment}".encode()):
            found.append(pid)
    return found


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table()
    for column, value in rows[0].items():
        table.add_column(column, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
