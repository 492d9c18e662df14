"""Compare the HTTP service with its bare pipeline: the same models, photos and Milvus, with and without Ray Serve.

Both sides stand at once on this machine and take turns, so that its noise meets both. The bare side is one
process without Ray; its model threads are tried at all cores and at half of them, and the faster is the
reference. The service's detector gets a third of the cores and its embedder two, as their work is divided.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from scripts.demo_catalogue import CantFetch
from scripts.demo_shop import default_folder, prepare, queries, serving
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
from serve_app.config import load_config
from serve_app.errors import ShoplensError
from serve_app.inprocess import searching
from serve_app.milvus.local import LocalMilvus
from serve_app.pipeline import Query
from serve_app.ray_environment import CLUSTER
from serve_app.telemetry import STAGES

CONCURRENCY = (1, 4, 16)
GOALS = {False: (0.8, 1.5), True: (0.9, 1.15)}
"""Throughput at 16 searches in flight and median latency at one, as multiples of the bare pipeline's: on a laptop, and
with a cluster's settings."""
SEARCHES = {1: 24, 4: 48, 16: 96}

Search = Callable[[bytes], Awaitable[dict[str, float]]]
"""Searches with one photo and returns its milliseconds per stage."""
Outcome = dict[str, Any]
"""`seconds` of a round, `latencies_ms` of its searches, `stages` of each."""
Side = Callable[[int], Outcome]
"""Runs one round with so many searches in flight."""


def main() -> int:
    arguments = _arguments()
    if arguments.bare:
        asyncio.run(serve_bare(arguments.data_dir, arguments.bare))
        return 0
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
    parser.add_argument("--bare", type=int, metavar="THREADS", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(arguments: argparse.Namespace, *, rounds: int, console: Console) -> Report:
    """Measure both sides; raises ShoplensError, CantFetch, CalledProcessError and TimeoutError."""
    data_dir: Path = arguments.data_dir
    photos = [path.read_bytes() for path in prepare(data_dir)]
    threads = dict(zip(("detector", "embedder"), arguments.threads, strict=True))
    settings = {"rounds": rounds, "searches": SEARCHES, "photos": len(photos), "threads": threads}
    report = Report("bench_query", settings | {"cluster_settings": arguments.cluster_settings})
    ray = CLUSTER if arguments.cluster_settings else {}
    with (
        LocalMilvus(data_dir) as uri,
        _bare_process(data_dir, uri, cores()) as wide,
        _bare_process(data_dir, uri, max(1, cores() // 2)) as narrow,
        serving(data_dir, {**ray, **_settings(uri, threads)}) as (service, url),
    ):
        with console.status("warming up …"):
            best = min((wide, narrow), key=lambda side: min(side.round(16)["seconds"] for _ in range(3)))
            asyncio.run(_over_http(url, photos, 16))
        report.settings = {**report.settings, "bare_threads": cores() if best is wide else max(1, cores() // 2)}
        turns: dict[str, Side] = {
            "bare": best.round,
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


class Bare:
    """Talk to a process that runs the bare pipeline: one JSON line asks for a round, one answers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def round(self, concurrency: int) -> Outcome:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{concurrency}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise subprocess.SubprocessError("the bare pipeline ended; its reason stands above")
        outcome: Outcome = json.loads(line)
        return outcome


@contextmanager
def _bare_process(data_dir: Path, uri: str, threads: int) -> Iterator[Bare]:
    command = [sys.executable, "-m", "scripts.bench_query", "--data-dir", str(data_dir), "--bare", str(threads)]
    environment = {**os.environ, "SHOPLENS_MILVUS__URI": uri}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Bare(process)
    finally:
        process.terminate()
        process.wait()


async def serve_bare(data_dir: Path, threads: int) -> None:
    """Run rounds as standard input asks for them."""
    config = load_config(data_dir=data_dir)
    config = config.model_copy(
        update={
            "detector": config.detector.model_copy(update={"threads": threads}),
            "embedder": config.embedder.model_copy(update={"threads": threads}),
        }
    )
    photos = [path.read_bytes() for path in queries(data_dir)]
    assert config.milvus.uri
    async with searching(config, config.milvus.uri) as local:

        async def search(photo: bytes) -> dict[str, float]:
            return (await local.pipeline.run(photo, Query())).timings_ms

        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await _drive(search, photos, int(line))), flush=True)


def _settings(uri: str, threads: Mapping[str, int]) -> dict[str, str]:
    # Throughput is measured: no search is to end at its deadline, or to be refused because 16 at once wait.
    settings = {
        "SHOPLENS_MILVUS__URI": uri,
        "SHOPLENS_LIMITS__DEADLINE_S": "60",
        "SHOPLENS_INGRESS__LATENCY_GOAL_S": "60",
    }
    return settings | {f"SHOPLENS_{stage.upper()}__THREADS": str(number) for stage, number in threads.items()}


async def _over_http(url: str, photos: list[bytes], concurrency: int) -> Outcome:
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

        async def search(photo: bytes) -> dict[str, float]:
            answer = await client.post("/v1/search", files={"photo": photo})
            answer.raise_for_status()
            timings: dict[str, float] = answer.json()["timings_ms"]
            return timings

        return await _drive(search, photos, concurrency)


async def _drive(search: Search, photos: list[bytes], concurrency: int) -> Outcome:
    """Keep `concurrency` searches in flight until the round's number is done."""
    waiting = iter(itertools.islice(itertools.cycle(photos), SEARCHES[concurrency]))
    latencies_ms: list[float] = []
    stages: list[dict[str, float]] = []

    async def client() -> None:
        for photo in waiting:
            started = time.perf_counter()
            stages.append(await search(photo))
            latencies_ms.append((time.perf_counter() - started) * 1e3)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(concurrency)))
    return {"seconds": time.perf_counter() - started, "latencies_ms": latencies_ms, "stages": stages}


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
    rows: list[dict[str, Any]] = [{"process": "bare pipeline", "MiB": memory_mib(bare.process.pid)}]
    for pid in [service.pid, *descendants(service.pid)]:
        try:
            rows.append({"process": process_name(pid), "MiB": memory_mib(pid)})
        except OSError:
            continue
    rows.append({"process": "service, all", "MiB": sum(row["MiB"] for row in rows[1:])})
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
