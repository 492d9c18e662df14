"""Send searches to a service as shoppers do, and tell whether it kept up.

Without --url it starts a service of its own on this machine, with the demo's catalogue. Rates are multiples of what
the service can answer, measured first, unless given as searches per second.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from scripts import load_log, load_photos, load_report
from scripts.demo_catalogue import CantFetch
from scripts.demo_shop import default_folder, prepare, serving
from scripts.load_log import BadLog
from scripts.load_report import Run
from scripts.load_schedule import SHAPES, Schedule
from scripts.load_sending import Load, send
from scripts.load_summary import Asked, sum_up
from scripts.measuring import EXIT_COULD_NOT_RUN, Report, key_headers
from serve_app.errors import ShoplensError

SECONDS = {"steady": 120.0, "step": 240.0, "ramp": 240.0, "spike": 240.0, "diurnal": 600.0, "soak": 3_600.0}
QUICK_S = 60.0
PEAKS = {"step": 1.5, "ramp": 1.5, "spike": 3.0, "diurnal": 1.0}
"""Peak rate as a multiple of the capacity."""
BASE = 0.5
PROBE_S, LONGEST_PROBE_S, PROBE_CONNECTIONS = 10.0, 40.0, 16
PROBE_ANSWERS = 150
"""Answers come in bursts: of few, the first and last say too much."""
SETTINGS_OF_ITS_OWN = {
    # What a stage wants and has is to be seen every second.
    "RAY_metrics_report_interval_ms": "1000",
}


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        if arguments.from_log:
            run = told(arguments.from_log)
        else:
            with _target(arguments, console) as target:
                run = test(target, arguments, console)
    except (ShoplensError, CantFetch, BadLog, subprocess.SubprocessError, httpx.HTTPError, OSError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    run.report.show(console)
    load_report.write(run, arguments.html)
    console.print(f"The report is in {arguments.html}", soft_wrap=True)
    if arguments.json:
        run.report.write(arguments.json)
    return run.report.exit_code()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="step", help="how the load goes (default: %(default)s)")
    parser.add_argument(
        "--url", help="test this service, with SHOPLENS_KEY, of role admin for its metrics; default: one of its own"
    )
    parser.add_argument(
        "--from-log",
        type=Path,
        help="make the report of the load test whose log this is, as of the chart's Job; - reads it",
    )
    parser.add_argument("--photos", type=Path, help="folder of JPEG photos to send; default: the demo's")
    parser.add_argument("--data-dir", type=Path, default=default_folder(), help="folder of the demo")
    parser.add_argument("--seconds", type=float, help="how long; default: by shape")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_S:.0f} seconds")
    parser.add_argument("--base", type=float, default=BASE, help="base rate, of the capacity (default: %(default)s)")
    parser.add_argument("--peak", type=float, help="peak rate, of the capacity; default: by shape")
    parser.add_argument("--rate", type=float, help="base rate in searches per second; nothing is measured first")
    parser.add_argument("--peak-rate", type=float, help="peak rate in searches per second, with --rate")
    parser.add_argument(
        "--replicas",
        type=int,
        default=1,
        help="most replicas of each model, one thread each, in a service of its own; rates are multiples of one's",
    )
    parser.add_argument("--seed", type=int, default=1, help="draws the moments of the searches (default: %(default)s)")
    parser.add_argument("--goal-p99-ms", type=float, default=2_000, help="99 %% of the accepted are to be faster")
    parser.add_argument("--goal-refused", type=float, default=0.0, help="part that may be refused (default: none)")
    parser.add_argument("--html", type=Path, default=Path("load-test.html"), help="the report (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Target:
    """Say what is tested: a service, what it can answer, and the photos to send."""

    url: str
    photos: Sequence[Path]
    capacity: float
    """Searches per second; NaN where nobody needs to know."""
    pid: int | None = None
    """The process that started it, where it runs here."""


@contextmanager
def _target(arguments: argparse.Namespace, console: Console) -> Iterator[Target]:
    photos = load_photos.found(arguments.photos) if arguments.photos else prepare(arguments.data_dir)

    def capacity(url: str) -> float:
        if arguments.rate is not None:
            return math.nan
        with console.status("measuring what the service can answer …"):
            return asyncio.run(probe(url, photos))

    if arguments.url:
        url = arguments.url.rstrip("/")
        yield Target(url, photos, capacity(url))
        return
    if arguments.replicas == 1:
        with serving(arguments.data_dir, SETTINGS_OF_ITS_OWN) as (process, url):
            yield Target(url, photos, capacity(url), process.pid)
        return
    # To measure a service is to make it grow, so the one that is measured can't.
    with serving(arguments.data_dir, SETTINGS_OF_ITS_OWN | _replicas(1)) as (_, url):
        of_one = capacity(url)
    with serving(arguments.data_dir, SETTINGS_OF_ITS_OWN | _replicas(arguments.replicas)) as (process, url):
        yield Target(url, photos, of_one, process.pid)


def _replicas(most: int) -> dict[str, str]:
    """Return the settings under which each model stage has replicas of one thread, and at most so many."""
    return {
        f"SHOPLENS_{stage}__{name}": value
        for stage in ("DETECTOR", "EMBEDDER")
        for name, value in (("THREADS", "1"), ("SCALING__MAX_REPLICAS", str(most)))
    }


def test(target: Target, arguments: argparse.Namespace, console: Console) -> Run:
    """Send the load and sum up; raises HTTPError where the service does not answer at all."""
    schedule = _schedule(arguments, target.capacity)
    with console.status(
        f"{schedule.shape}: {schedule.seconds:.0f} s of up to {schedule.highest_rate:.1f} searches/s …"
    ):
        answers, samples = send(Load(target.url, target.photos, schedule, arguments.seed), target.pid)
    settings = {
        "shape": schedule.shape,
        "seconds": round(schedule.seconds),
        "base searches/s": round(schedule.base_rate, 2),
        "peak searches/s": round(schedule.highest_rate, 2),
        "capacity searches/s": round(target.capacity, 2),
        "photos": len(target.photos),
        "most replicas": "as served" if arguments.url else arguments.replicas,
    }
    report = Report("load_test", settings)
    sum_up(report, schedule, answers, samples, Asked(arguments.goal_p99_ms, arguments.goal_refused, target.capacity))
    return Run(report, schedule, answers, samples, arguments.goal_p99_ms / 1e3)


def told(log: Path) -> Run:
    """Return the run that a log tells of; raises BadLog."""
    ran, answers = load_log.read(sys.stdin.read() if str(log) == "-" else log.read_text(encoding="utf-8"))
    report = Report("load_test", ran.settings, when=ran.when, where=ran.where)
    sum_up(report, ran.schedule, answers, [], ran.asked)
    return Run(report, ran.schedule, answers, [], ran.asked.p99_ms / 1e3)


def _schedule(arguments: argparse.Namespace, capacity: float) -> Schedule:
    shape = arguments.shape
    seconds = arguments.seconds or (QUICK_S if arguments.quick else SECONDS[shape])
    if arguments.rate is not None:
        return Schedule(shape, arguments.rate, arguments.peak_rate or arguments.rate, seconds)
    peak = arguments.peak if arguments.peak is not None else PEAKS.get(shape, arguments.base)
    return Schedule(shape, arguments.base * capacity, peak * capacity, seconds)


async def probe(url: str, photos: Sequence[Path], connections: int = PROBE_CONNECTIONS) -> float:
    """Return the searches per second that are answered while so many connections ask one after the other."""
    bodies = itertools.cycle([path.read_bytes() for path in photos])
    done: list[float] = []
    start_s = time.monotonic()
    limits = httpx.Limits(max_connections=connections)

    def is_over() -> bool:
        past_s = time.monotonic() - start_s
        return past_s > LONGEST_PROBE_S or (past_s > PROBE_S and len(done) >= PROBE_ANSWERS)

    async with httpx.AsyncClient(base_url=url, headers=key_headers(), timeout=60, limits=limits) as client:

        async def ask() -> None:
            while not is_over():
                answer = await client.post("/v1/search", files={"photo": next(bodies)})
                if answer.is_success:
                    done.append(time.monotonic())
                else:
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(ask() for _ in range(connections)))
    if len(done) < 2:
        raise httpx.HTTPError(f"{url} answers no search")
    return (len(done) - 1) / (done[-1] - done[0])


if __name__ == "__main__":
    raise SystemExit(main())
