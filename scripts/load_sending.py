"""Let Locust send the searches of a schedule, from one process or from many that one leads."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts import load_outcome
from scripts.load_outcome import Answered
from scripts.load_schedule import Schedule, Share
from scripts.load_watch import Sample, Watch

TIMEOUT_S = 35.0
"""Longer than the longest deadline of the service."""
LOCUST_S = 60.0
"""For its start and its end."""
MOST_SHOPPERS = 4_000
"""Of one process."""
SHOPPERS_PER_RATE = 6
"""Shoppers per search a second: so many seconds may a search take before others are sent late."""
PORT = 5557
"""Where the one that leads is found: Locust's own."""


class SenderLost(RuntimeError):
    """Say that of some searches nobody knows what became."""


@dataclass(frozen=True, slots=True)
class Load:
    """Say what is sent where."""

    url: str
    photos: Sequence[Path]
    schedule: Schedule
    seed: int
    path: str = "/v1/search"


@dataclass(frozen=True, slots=True)
class _Job:
    """Name the files by which Locust's process is told what to do, and tells what it did."""

    order: Path
    answers: Path
    started: Path
    starts: Path


def send(load: Load, pid: int | None = None) -> tuple[list[Answered], list[Sample]]:
    """Send from a process of its own, and watch the service, of which `pid` is the process if it runs here."""
    with _job(load, Share()) as job:
        with Watch(load.url, pid) as watch:
            _locust(job, _shoppers(load), load, wait_s=0)
        return load_outcome.read(job.answers), watch.samples(float(job.started.read_text(encoding="utf-8")))


def lead(load: Load, senders: int, wait_s: float) -> tuple[list[Answered], float]:
    """Wait so long for the senders, let them send; return what they tell, and how far apart they started, in seconds.

    The seconds apart are by the clocks of their machines. Raises CalledProcessError where not all came, SenderLost.
    """
    roles = ["--master", "--master-bind-port", str(PORT), "--expect-workers", str(senders)]
    roles += ["--expect-workers-max-wait", str(math.ceil(wait_s))]
    with _job(load, Share()) as job:
        _locust(job, [*roles, *_shoppers(load, senders)], load, wait_s)
        answers = load_outcome.read(job.answers)
        starts = [float(line) for line in job.starts.read_text(encoding="utf-8").splitlines()]
    check(len(answers), sum(1 for _ in load.schedule.arrivals(load.seed)), len(starts), senders)
    return answers, max(starts) - min(starts)


def check(told: int, due: int, ended: int, senders: int) -> None:
    """Raise SenderLost where not all senders told of all searches."""
    if told != due or ended != senders:
        raise SenderLost(f"{ended} of {senders} senders came to the end, and told of {told} of {due} searches")


def follow(load: Load, share: Share, leader: str, wait_s: float) -> None:
    """Send a share of the searches when the one at the host `leader` says so; raises CalledProcessError."""
    with _job(load, share) as job:
        _locust(job, ["--worker", "--master-host", leader, "--master-port", str(PORT)], load, wait_s)


@contextmanager
def _job(load: Load, share: Share) -> Iterator[_Job]:
    with tempfile.TemporaryDirectory(prefix="shoplens-load-") as name:
        folder = Path(name)
        job = _Job(folder / "job.json", folder / "answers.jsonl", folder / "started", folder / "starts")
        order = {
            "schedule": asdict(load.schedule),
            "share": asdict(share),
            "seed": load.seed,
            "photos": [str(path.resolve()) for path in load.photos],
            "path": load.path,
            "timeout_s": TIMEOUT_S,
            **{name: str(getattr(job, name)) for name in ("answers", "started", "starts")},
        }
        job.order.write_text(json.dumps(order), encoding="utf-8")
        yield job


def _shoppers(load: Load, senders: int = 1) -> list[str]:
    wanted = math.ceil(SHOPPERS_PER_RATE * load.schedule.highest_rate) + 10 * senders
    shoppers = str(min(MOST_SHOPPERS * senders, wanted))
    return ["-u", shoppers, "-r", shoppers]


def _locust(job: _Job, arguments: Sequence[str], load: Load, wait_s: float) -> None:
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("load_shopper.py")), "--headless"]
    # Its own summary goes to stdout as JSON, which nobody reads.
    command += ["--host", load.url, *arguments, "--loglevel", "WARNING", "--only-summary", "--json"]
    environ = {**os.environ, "SHOPLENS_LOAD_JOB": str(job.order), "PYTHONPATH": str(Path(__file__).parents[1])}
    longest_s = wait_s + load.schedule.seconds + TIMEOUT_S + LOCUST_S
    subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL, timeout=longest_s)
