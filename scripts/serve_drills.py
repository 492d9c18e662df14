"""Kill replicas and nodes of the service while shoppers search, and count what they see.

The models are stand-ins that sleep. A Ray head that holds no work and two workers, each with a replica of every stage
and a HAProxy, with a cluster's settings and a real Milvus server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import httpx

from scripts.load_schedule import Schedule
from scripts.measuring import Goal, Report, percentile, replica_pids, wait_until
from scripts.ray_nodes import HEAD, HERE, SERVE_PORT, RayNodes
from scripts.servers import MILVUS_PORT, MilvusStandalone
from scripts.stand_in_service import Times, fill, is_ready, photo
from serve_app.config import Config

TIMES = Times(photo_s=0.01, crop_s=0.01)
WORKERS = 2
CAPACITY = WORKERS / (4 * TIMES.crop_s)
"""Searches a second that the embedders answer: a photo is four crops."""
SECONDS, QUICK_SECONDS = 60.0, 30.0
HARM_PART = 0.2
"""Part of a drill after which the harm is done."""
DEADLINE_S = 5.0
HEAD_AWAY_S = 25.0
STAGES = ("Detector", "Embedder", "Searcher", "Ingress")
BROKEN = ("broken_connection", "not_ours")
"""What a shopper's app tries once more."""

Harm = Callable[[RayNodes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Drill:
    """Name a harm, and what it may cost: failures below the searches that were under way, or none."""

    name: str
    harm: Harm
    may_break: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold one search as a shopper saw it: the first answer's code, and the last one's."""

    due_s: float
    ended_s: float
    first: str
    last: str
    degraded: bool


def drills() -> list[Drill]:
    return [
        *(
            Drill(f"kill -9 of one {stage} of {WORKERS}", _kill(stage), may_break=stage == "Ingress")
            for stage in STAGES
        ),
        Drill(f"kill -9 of one worker node of {WORKERS}", _lose_worker, may_break=True),
        Drill(f"kill -9 of the head, back after {HEAD_AWAY_S:.0f} s", _lose_head),
    ]


def run(*, quick: bool, only: list[str] | None) -> Report:
    """Do the drills; raises CantStart, ShoplensError, HTTPError, TimeoutError."""
    seconds = QUICK_SECONDS if quick else SECONDS
    schedule = Schedule("steady", CAPACITY / 2, CAPACITY / 2, seconds)
    settings = {"seconds": seconds, "searches_per_s": schedule.base_rate, "deadline_s": DEADLINE_S}
    report = Report("drills serve", settings | {"workers": WORKERS})
    with tempfile.TemporaryDirectory(prefix="shoplens-drills-") as folder, _service(Path(folder)) as nodes:
        body = photo(Path(folder)).read_bytes()
        for drill in drills():
            if only and not any(words in drill.name for words in only):
                continue
            report.rows.append({"drill": drill.name, **asyncio.run(_drill(nodes, body, schedule, drill, report))})
            print(f"done: {drill.name}", flush=True)
            wait_until(lambda: _is_whole(nodes), timeout_s=120, what=f"recovery from {drill.name}")
    return report


@contextmanager
def _service(folder: Path) -> Iterator[RayNodes]:
    with MilvusStandalone(folder / "milvus") as server:
        config = Config(
            data_dir=folder,
            milvus={"uri": f"http://{HERE}:{MILVUS_PORT}"},
            http={"host": "0.0.0.0", "port": SERVE_PORT},  # noqa: S104 - in a network namespace of its own
        )
        fill(config, server.uri)
        with RayNodes(folder / "ray", WORKERS) as nodes:
            nodes.deploy(_document(config))
            wait_until(lambda: _is_whole(nodes), timeout_s=120, what="readiness")
            yield nodes


def _document(config: Config) -> dict[str, Any]:
    from serve_app.app import APPLICATION, arguments

    stage = {"scaling": {"min_replicas": WORKERS, "max_replicas": WORKERS}, "health_check_period_s": 2.0}
    changed = {name.lower(): stage for name in STAGES} | {"limits": {"deadline_s": DEADLINE_S}}
    args = {"settings": arguments(config) | changed, **asdict(TIMES), "max_replicas_per_node": 1}
    application = {
        "name": APPLICATION,
        "route_prefix": "/",
        "import_path": "scripts.stand_ins:build_app",
        "args": args,
    }
    http = {"host": config.http.host, "port": config.http.port}
    return {"proxy_location": "EveryNode", "http_options": http, "applications": [application]}


def _is_whole(nodes: RayNodes) -> bool:
    """Tell whether every stage has all its replicas, and both workers answer."""
    replicas = all(len(replica_pids(os.getpid(), stage)) == WORKERS for stage in STAGES)
    return replicas and all(is_ready(url) for url in nodes.urls)


def _kill(stage: str) -> Harm:
    async def harm(_: RayNodes) -> None:
        os.kill(replica_pids(os.getpid(), stage)[0], signal.SIGKILL)

    return harm


async def _lose_worker(nodes: RayNodes) -> None:
    nodes.kill(nodes.workers[-1])
    # As a cluster's autoscaler brings another machine.
    await asyncio.sleep(10)
    await asyncio.to_thread(nodes.start, nodes.workers[-1])


async def _lose_head(nodes: RayNodes) -> None:
    nodes.kill(HEAD)
    await asyncio.sleep(HEAD_AWAY_S)
    await asyncio.to_thread(nodes.start, HEAD)


async def _drill(nodes: RayNodes, body: bytes, schedule: Schedule, drill: Drill, report: Report) -> dict[str, Any]:
    under_way = 0
    seen: list[Seen] = []
    loop = asyncio.get_running_loop()
    turns = cycle(nodes.urls)
    async with httpx.AsyncClient(timeout=DEADLINE_S + 1) as client:
        start_s = loop.time()

        async def search(due_s: float) -> None:
            nonlocal under_way
            await asyncio.sleep(max(0.0, start_s + due_s - loop.time()))
            under_way += 1
            first = last = await _ask(client, next(turns), body)
            if first[0] in BROKEN:
                last = await _ask(client, next(turns), body)
            under_way -= 1
            seen.append(Seen(due_s, loop.time() - start_s, first[0], last[0], last[1]))

        searches = [asyncio.create_task(search(due_s)) for due_s in schedule.arrivals(seed=1)]
        await asyncio.sleep(HARM_PART * schedule.seconds)
        in_flight = under_way
        await drill.harm(nodes)
        await asyncio.gather(*searches)
    raw = sum(each.first != "ok" for each in seen)
    after_retry = sum(each.last != "ok" for each in seen)
    report.goals += [
        Goal(f"{drill.name}: failed, raw", raw, in_flight if drill.may_break else 0, "lower"),
        Goal(f"{drill.name}: failed after one retry of a broken connection", after_retry, 0, "lower"),
    ]
    latencies = [each.ended_s - each.due_s for each in seen]
    moments = sorted(each.ended_s for each in seen if each.first == "ok")
    return {
        "searches": len(seen), "failed raw": raw, "failed after retry": after_retry, "in flight": in_flight,
        "degraded": sum(each.degraded for each in seen), "p50 ms": 1e3 * percentile(latencies, 0.5),
        "p99 ms": 1e3 * percentile(latencies, 0.99),
        "longest gap s": max((after - before for before, after in pairwise(moments)), default=schedule.seconds),
        "codes": ", ".join(sorted({each.first for each in seen} - {"ok"})) or "-",
    }  # fmt: skip


async def _ask(client: httpx.AsyncClient, url: str, body: bytes) -> tuple[str, bool]:
    """Return the answer's code, and whether it was degraded."""
    try:
        answer = await client.post(f"{url}/v1/search", files={"photo": body})
    except httpx.ReadTimeout:
        return "timeout", False
    except httpx.TransportError:
        return "broken_connection", False
    if answer.is_success:
        return "ok", bool(set(answer.json()["degraded"]) - {"no_object"})
    if answer.headers.get("content-type") != "application/problem+json":
        return "not_ours", False
    return str(answer.json()["code"]), False
