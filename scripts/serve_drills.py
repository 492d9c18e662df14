"""Kill replicas and nodes of the service, and roll it over, while shoppers search; count what they see.

The models are stand-ins that sleep. A Ray head that holds no work and two workers, each with a replica of every stage
and a HAProxy, with a cluster's settings and a real Milvus server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from scripts.load_schedule import Schedule
from scripts.measuring import Goal, Report, percentile, replica_pids, wait_until
from scripts.ray_nodes import HEAD, HERE, SERVE_PORT, RayNodes
from scripts.servers import MILVUS_PORT, MilvusStandalone
from scripts.stand_in_service import FINGERPRINT, Times, fill, is_ready, photo
from serve_app.config import Config

TIMES = Times(photo_s=0.02, crop_s=0.02)
WORKERS = 2
CAPACITY = WORKERS / (4 * TIMES.crop_s)
"""Searches a second that the embedders answer: a photo is four crops."""
SECONDS, QUICK_SECONDS = 60.0, 30.0
HARM_PART = 0.2
"""Part of a drill after which the harm is done."""
DEADLINE_S = 5.0
HEAD_AWAY_S = 25.0
ROLL_OUT_S = 180.0
STAGES = ("Detector", "Embedder", "Searcher", "Ingress")
BROKEN = ("broken_connection", "not_ours")
"""What a shopper's app tries once more."""
RETRY_AFTER_S = 0.5
"""At once would be too soon: for a moment the other node's proxy still sends to replicas that went with this one."""
PROBE_S = 0.5
"""How often the balancer looks for proxies that are back."""
OTHER_MODEL = "ba9876543210"

Strike = Callable[[RayNodes], None]
Mend = Callable[[RayNodes], Awaitable[None]]


async def _nothing(_: RayNodes) -> None:
    """Mend nothing: the service does by itself."""


@dataclass(frozen=True, slots=True)
class Drill:
    """Name a harm, and what it may cost: failures among the searches that were under way, or none."""

    name: str
    strike: Strike
    mend: Mend = _nothing
    may_break: bool = False
    lasts: float = 1.0
    """How much longer it takes than others: what is mended is to be searched too."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold one search as a shopper saw it: the first answer's code, and the last one's."""

    due_s: float
    ended_s: float
    first: str
    last: str
    degraded: bool
    wrong: bool
    """It was searched in another model's index than its own."""


class Balancer:
    """Send to the proxies in turns, as what stands before them in a cluster does.

    One that a connection breaks at gets nothing until it is healthy again.
    """

    def __init__(self, urls: Sequence[str], client: httpx.AsyncClient) -> None:
        self._client = client
        self._away: set[str] = set()
        self._urls = urls
        self._turn = 0

    def next(self) -> str:
        here = [url for url in self._urls if url not in self._away]
        self._turn += 1
        return (here or self._urls)[self._turn % len(here or self._urls)]

    def broke(self, url: str) -> None:
        self._away.add(url)

    async def probe(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            for url in list(self._away):
                with suppress(httpx.HTTPError):
                    if (await self._client.get(f"{url}/-/healthz")).is_success:
                        self._away.discard(url)


def drills(document: dict[str, Any]) -> list[Drill]:
    """Return all; `document` is what was deployed."""
    (application,) = document["applications"]
    goal_s = {**application["args"]["settings"]["ingress"], "latency_goal_s": 2.0}
    return [
        *(
            Drill(f"kill -9 of one {stage} of {WORKERS}", _kill(stage), may_break=stage == "Ingress")
            for stage in STAGES
        ),
        Drill(f"kill -9 of one worker node of {WORKERS}", _kill_worker, _replace_worker, may_break=True, lasts=2),
        Drill(f"kill -9 of the head, back after {HEAD_AWAY_S:.0f} s", _kill_head, _restart_head, lasts=2),
        Drill("roll-out of other settings", _deploy(document, settings={"ingress": goal_s}), _roll_over, lasts=3),
        Drill("roll-out of another embedder", _deploy(document, model=OTHER_MODEL), _roll_over, lasts=3),
    ]


def run(*, quick: bool, only: list[str] | None) -> Report:
    """Do the drills; raises CantStart, ShoplensError, HTTPError, TimeoutError."""
    seconds = QUICK_SECONDS if quick else SECONDS
    rate = CAPACITY / 2
    settings = {"seconds": seconds, "searches_per_s": rate, "deadline_s": DEADLINE_S}
    report = Report("drills serve", settings | {"workers": WORKERS})
    with tempfile.TemporaryDirectory(prefix="shoplens-drills-") as folder, _service(Path(folder)) as (nodes, document):
        body = photo(Path(folder)).read_bytes()
        for drill in drills(document):
            if only and not any(words in drill.name for words in only):
                continue
            schedule = Schedule("steady", rate, rate, drill.lasts * seconds)
            report.rows.append({"drill": drill.name, **asyncio.run(_drill(nodes, body, schedule, drill, report))})
            print(f"done: {drill.name}", flush=True)
            wait_until(lambda: _is_whole(nodes), timeout_s=120, what=f"recovery from {drill.name}")
    return report


@contextmanager
def _service(folder: Path) -> Iterator[tuple[RayNodes, dict[str, Any]]]:
    with MilvusStandalone(folder / "milvus") as server:
        config = Config(
            data_dir=folder,
            milvus={"uri": f"http://{HERE}:{MILVUS_PORT}"},
            http={"host": "0.0.0.0", "port": SERVE_PORT},  # noqa: S104 - in a network namespace of its own
        )
        for model in (FINGERPRINT, OTHER_MODEL):
            fill(config, server.uri, model)
        document = _document(config)
        with RayNodes(folder / "ray", WORKERS) as nodes:
            nodes.deploy(document)
            wait_until(lambda: _is_whole(nodes), timeout_s=120, what="readiness")
            yield nodes, document


def _document(config: Config) -> dict[str, Any]:
    from serve_app.app import APPLICATION, arguments

    stage = {"scaling": {"min_replicas": WORKERS, "max_replicas": WORKERS}, "health_check_period_s": 2.0}
    settings = arguments(config)
    for name in STAGES:
        settings[name.lower()] |= stage
    settings["limits"] |= {"deadline_s": DEADLINE_S}
    application = {
        "name": APPLICATION,
        "route_prefix": "/",
        "import_path": "scripts.stand_ins:build_app",
        "args": {"settings": settings, **asdict(TIMES), "max_replicas_per_node": 1},
    }
    http = {"host": config.http.host, "port": config.http.port}
    return {"proxy_location": "EveryNode", "http_options": http, "applications": [application]}


def _is_whole(nodes: RayNodes) -> bool:
    """Tell whether every stage has all its replicas, and both workers answer."""
    replicas = all(len(replica_pids(os.getpid(), stage)) == WORKERS for stage in STAGES)
    return replicas and all(is_ready(url) for url in nodes.urls)


def _kill(stage: str) -> Strike:
    return lambda _: os.kill(replica_pids(os.getpid(), stage)[0], signal.SIGKILL)


def _kill_worker(nodes: RayNodes) -> None:
    nodes.kill(nodes.workers[-1])


async def _replace_worker(nodes: RayNodes) -> None:
    # As a cluster's autoscaler brings another machine.
    await asyncio.sleep(10)
    await asyncio.to_thread(nodes.start, nodes.workers[-1])


def _kill_head(nodes: RayNodes) -> None:
    nodes.kill(HEAD)


async def _restart_head(nodes: RayNodes) -> None:
    await asyncio.sleep(HEAD_AWAY_S)
    await asyncio.to_thread(nodes.start, HEAD)


def _deploy(document: dict[str, Any], settings: dict[str, Any] | None = None, model: str = FINGERPRINT) -> Strike:
    (application,) = document["applications"]
    args = {**application["args"], "model": model, "settings": application["args"]["settings"] | (settings or {})}
    return lambda nodes: nodes.put({**document, "applications": [{**application, "args": args}]})


async def _roll_over(nodes: RayNodes) -> None:
    """Wait until no replica is left that was there before."""
    before = _replicas()
    await asyncio.to_thread(
        wait_until, lambda: not before & _replicas(), timeout_s=ROLL_OUT_S, what="end of the roll-out"
    )


def _replicas() -> set[int]:
    return {pid for stage in STAGES for pid in replica_pids(os.getpid(), stage)}


async def _drill(nodes: RayNodes, body: bytes, schedule: Schedule, drill: Drill, report: Report) -> dict[str, Any]:
    seen: list[Seen] = []
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(timeout=DEADLINE_S + 1) as client:
        balancer = Balancer(nodes.urls, client)
        probing = asyncio.create_task(balancer.probe())
        start_s = loop.time()

        async def search(due_s: float) -> None:
            await asyncio.sleep(max(0.0, start_s + due_s - loop.time()))
            first = last = await _ask(client, balancer, body)
            if first[0] in BROKEN:
                await asyncio.sleep(RETRY_AFTER_S)
                last = await _ask(client, balancer, body)
            seen.append(Seen(due_s, loop.time() - start_s, first[0], *last))

        searches = [asyncio.create_task(search(due_s)) for due_s in schedule.arrivals(seed=1)]
        await asyncio.sleep(HARM_PART * schedule.seconds / drill.lasts)
        before_s = loop.time() - start_s
        await asyncio.to_thread(drill.strike, nodes)
        after_s = loop.time() - start_s
        await drill.mend(nodes)
        mended_s = loop.time() - start_s
        await asyncio.gather(*searches)
        probing.cancel()
    in_flight = sum(each.due_s <= after_s and each.ended_s >= before_s for each in seen)
    raw = sum(each.first != "ok" for each in seen)
    after_retry = sum(each.last != "ok" for each in seen)
    wrong = sum(each.wrong for each in seen)
    report.goals += [
        Goal(f"{drill.name}: failed, raw", raw, in_flight if drill.may_break else 0, "lower"),
        Goal(f"{drill.name}: failed after one retry of a broken connection", after_retry, 0, "lower"),
        Goal(f"{drill.name}: searched in another model's index", wrong, 0, "lower"),
        Goal(f"{drill.name}: seconds until it was mended, of those searched", mended_s, schedule.seconds, "lower"),
    ]
    latencies = [each.ended_s - each.due_s for each in seen]
    moments = sorted(each.ended_s for each in seen if each.first == "ok")
    return {
        "searches": len(seen), "failed raw": raw, "failed after retry": after_retry, "in flight": in_flight,
        "wrong": wrong, "mended after s": mended_s - after_s, "degraded": sum(each.degraded for each in seen),
        "p50 ms": 1e3 * percentile(latencies, 0.5),
        "p99 ms": 1e3 * percentile(latencies, 0.99),
        "longest gap s": max((after - before for before, after in pairwise(moments)), default=schedule.seconds),
        "codes": ", ".join(sorted({each.first for each in seen} - {"ok"})) or "-",
        "failed, s after the harm": _span([each.due_s - after_s for each in seen if each.last != "ok"]),
    }  # fmt: skip


def _span(moments: Sequence[float]) -> str:
    return f"{min(moments):.1f} to {max(moments):.1f}" if moments else "-"


async def _ask(client: httpx.AsyncClient, balancer: Balancer, body: bytes) -> tuple[str, bool, bool]:
    """Return the answer's code, whether it was degraded, and whether it is of another model's index."""
    url = balancer.next()
    try:
        answer = await client.post(f"{url}/v1/search", files={"photo": body})
    except httpx.ReadTimeout:
        return "timeout", False, False
    except httpx.TransportError:
        balancer.broke(url)
        return "broken_connection", False, False
    if answer.is_success:
        said = answer.json()
        wrong = said["model"] not in said["index"]["collection"]
        return "ok", bool(set(said["degraded"]) - {"no_object"}), wrong
    if answer.headers.get("content-type") != "application/problem+json":
        return "not_ours", False, False
    return str(answer.json()["code"]), False, False
