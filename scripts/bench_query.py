"""Compare the HTTP service with its bare pipeline: the same models, photos and Milvus, with and without Ray Serve.

Both sides stand at once on this machine and take turns, so that its noise meets both. The bare side is one
process without Ray; its model threads are tried at all cores and at half of them, and the faster is the
reference. The service's detector gets a third of the cores and its embedder two, as their work is divided.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from scripts.bare_side import Bare, bare_process
from scripts.closed_loop import Outcome, over_http
from scripts.demo_catalogue import CantFetch
from scripts.demo_shop import default_folder, prepare, serving
from scripts.measuring import (
    EXIT_COULD_NOT_RUN,
    Goal,
    Report,
    cores,
    descendants,
    median_and_spread,
    memory_mib,
    percentile,
    process_name,
)
from scripts.namespace import go_inside
from scripts.processes import CantStart
from serve_app.errors import ShoplensError
from serve_app.milvus.local import LocalMilvus
from serve_app.ray_environment import CLUSTER
from serve_app.telemetry import STAGES

CONCURRENCY = (1, 4, 16)
GOALS = {False: (0.8, 1.5), True: (0.9, 1.15)}
"""Throughput at 16 searches in flight and median latency at one, as multiples of the bare pipeline's: on a laptop, and
with a cluster's settings."""
SEARCHES = {1: 24, 4: 48, 16: 96}

Side = Callable[[int], Outcome]
"""Runs one round with so many searches in flight."""


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        if arguments.cluster_settings and not arguments.inside:
            prepare(arguments.data_dir)
            go_inside("scripts.bench_query")
        report = run(arguments, rounds=2 if arguments.quick else 5, console=console)
    except (ShoplensError, CantFetch, CantStart, subprocess.SubprocessError, httpx.HTTPError, TimeoutError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    return report.finish(console, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds instead of five")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_folder(),
        help="the demo's folder; filled where it is empty (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        nargs=2,
        metavar=("DETECTOR", "EMBEDDER"),
        default=[max(1, cores() // 3), math.ceil(cores() * 2 / 3)],
        help="threads of the service's stages (default: %(default)s)",
    )
    parser.add_argument(
        "--cluster-settings",
        action="store_true",
        help="run the service with HAProxy and the rest of a cluster's settings, in a network namespace of its own",
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(arguments: argparse.Namespace, *, rounds: int, console: Console) -> Report:
    """Measure both sides; raises ShoplensError, CantFetch, CalledProcessError and TimeoutError."""
    data_dir: Path = arguments.data_dir
    paths = prepare(data_dir)
    photos = [path.read_bytes() for path in paths]
    threads = dict(zip(("detector", "embedder"), arguments.threads, strict=True))
    settings = {"rounds": rounds, "searches": SEARCHES, "photos": len(photos), "threads": threads}
    report = Report("bench_query", settings | {"cluster_settings": arguments.cluster_settings})
    ray = CLUSTER if arguments.cluster_settings else {}
    with (
        LocalMilvus(data_dir) as uri,
        bare_process(data_dir, paths, cores(), _milvus(uri)) as wide,
        bare_process(data_dir, paths, max(1, cores() // 2), _milvus(uri)) as narrow,
        serving(data_dir, {**ray, **_settings(uri, threads)}) as (service, url),
    ):
        with console.status("warming up …"):
            best = min((wide, narrow), key=lambda side: min(_bare_round(side, 16)["seconds"] for _ in range(3)))
            asyncio.run(_over_http(url, photos, 16))
        report.settings = {**report.settings, "bare_threads": best.threads}
        turns: dict[str, Side] = {
            "bare": lambda concurrency: _bare_round(best, concurrency),
            "service": lambda concurrency: asyncio.run(_over_http(url, photos, concurrency)),
        }
        measured = _take_turns(turns, rounds, console)
        _summarise(report, measured, GOALS[arguments.cluster_settings])
        report.rows += _memory(best, service)
    return report


def _take_turns(sides: Mapping[str, Side], rounds: int, console: Console) -> dict[int, dict[str, list[Outcome]]]:
    measured: dict[int, dict[str, list[Outcome]]] = {n: {name: [] for name in sides} for n in CONCURRENCY}
    with console.status("measuring …") as status:
        for number, concurrency in itertools.product(range(rounds), CONCURRENCY):
            status.update(f"round {number + 1} of {rounds}, {concurrency} searches at once …")
            order = list(sides) if number % 2 == 0 else list(sides)[::-1]
            for name in order:
                measured[concurrency][name].append(sides[name](concurrency))
    return measured


# --- the two sides


def _bare_round(bare: Bare, concurrency: int) -> Outcome:
    return bare.round(SEARCHES[concurrency], concurrency)


def _milvus(uri: str) -> dict[str, str]:
    return {"SHOPLENS_MILVUS__URI": uri}


def _settings(uri: str, threads: Mapping[str, int]) -> dict[str, str]:
    # Throughput is measured: no search is to end at its deadline, or to be refused because 16 at once wait.
    settings = {
        **_milvus(uri),
        "SHOPLENS_LIMITS__DEADLINE_S": "60",
        "SHOPLENS_INGRESS__LATENCY_GOAL_S": "60",
    }
    return settings | {f"SHOPLENS_{stage.upper()}__THREADS": str(number) for stage, number in threads.items()}


async def _over_http(url: str, photos: Sequence[bytes], in_flight: int) -> Outcome:
    outcome = await over_http(url, photos, SEARCHES[in_flight], in_flight)
    if outcome["failed"]:
        raise httpx.HTTPError(outcome["failed"][0])
    return outcome


# --- what it says


def _summarise(report: Report, measured: Mapping[int, Mapping[str, list[Outcome]]], goals: tuple[float, float]) -> None:
    for concurrency, sides in measured.items():
        row: dict[str, Any] = {"in flight": concurrency}
        for name, outcomes in sides.items():
            row[f"{name} searches/s"] = statistics.median(_throughputs(concurrency, outcomes))
        ratios = [
            service / bare
            for bare, service in zip(*(_throughputs(concurrency, outcomes) for outcomes in sides.values()), strict=True)
        ]
        row["ratio"], row["spread"] = median_and_spread(ratios)
        for share in (0.5, 0.99):
            bare, service = (percentile(_latencies(outcomes), share) for outcomes in sides.values())
            name = f"p{share * 100:.0f}"
            row |= {f"bare {name} ms": bare, f"service {name} ms": service, f"{name} ratio": service / bare}
        report.rows.append(row)
    at_16, at_1 = goals
    report.goals.append(Goal("throughput at 16, service to bare", report.rows[-1]["ratio"], at_16, "higher"))
    report.goals.append(Goal("p50 at 1, service to bare", report.rows[0]["p50 ratio"], at_1, "lower"))
    for concurrency, name in itertools.product(measured, ("bare", "service")):
        stages = [stage for outcome in measured[concurrency][name] for stage in outcome["stages"]]
        medians = {f"{stage} ms": statistics.median(each[stage] for each in stages) for stage in STAGES}
        report.rows.append({"side": name, "in flight": str(concurrency), **medians})


def _throughputs(concurrency: int, outcomes: list[Outcome]) -> list[float]:
    return [SEARCHES[concurrency] / outcome["seconds"] for outcome in outcomes]


def _latencies(outcomes: list[Outcome]) -> list[float]:
    return [latency for outcome in outcomes for latency in outcome["latencies_ms"]]


def _memory(bare: Bare, service: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"process": "bare pipeline", "MiB": memory_mib(bare.pid)}]
    for pid in [service.pid, *descendants(service.pid)]:
        try:
            rows.append({"process": process_name(pid), "MiB": memory_mib(pid)})
        except OSError:
            continue
    rows.append({"process": "service, all", "MiB": sum(row["MiB"] for row in rows[1:])})
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
