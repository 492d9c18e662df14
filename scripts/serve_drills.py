"""Kill replicas and nodes of the service, and roll it over, while shoppers search; count what they see.

The models are stand-ins that sleep. A Ray head that holds no work and two workers, each with a replica of every stage
and a HAProxy, with a cluster's settings and a real Milvus server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from scripts import shoppers
from scripts.load_schedule import Schedule
from scripts.measuring import Report, replica_pids, wait_until
from scripts.milvus_binary import unpack_milvus
from scripts.ray_nodes import HEAD, HERE, SERVE_PORT, RayNodes
from scripts.servers import MILVUS_PORT, MilvusStandalone
from scripts.shoppers import DEADLINE_S
from scripts.stand_in_service import FINGERPRINT, Times, fill, is_ready, photo
from serve_app.config import Config

TIMES = Times(photo_s=0.02, crop_s=0.02)
WORKERS = 2
CAPACITY = WORKERS / (4 * TIMES.crop_s)
"""Searches a second that the embedders answer: a photo is four crops."""
SECONDS, QUICK_SECONDS = 60.0, 30.0
HARM_PART = 0.2
"""Part of a drill after which the harm is done."""
HEAD_AWAY_S = 25.0
ROLL_OUT_S = 180.0
STAGES = ("Detector", "Embedder", "Searcher", "Ingress")
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


SUMMARY = "the service with stand-in models, on Ray nodes in network namespaces"
HAS_NAMESPACE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="WORDS", help="drills whose names contain one of these")


def prepare(arguments: argparse.Namespace, console: Console) -> None:
    """Fetch what can't be fetched from inside."""
    unpack_milvus()


def run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
    """Do the drills; raises CantStart, ShoplensError, HTTPError, TimeoutError."""
    seconds = QUICK_SECONDS if arguments.quick else SECONDS
    settings = {"seconds": seconds, "searches_per_s": CAPACITY / 2, "deadline_s": DEADLINE_S}
    report = Report("drills serve", settings | {"workers": WORKERS})
    with tempfile.TemporaryDirectory(prefix="shoplens-drills-") as folder, _service(Path(folder)) as (nodes, document):
        body = photo(Path(folder)).read_bytes()
        for drill in drills(document):
            if arguments.only and not any(words in drill.name for words in arguments.only):
                continue
            _search(nodes, body, seconds, drill, report)
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
            auth={"anonymous_search": True},
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


def _search(nodes: RayNodes, body: bytes, seconds: float, drill: Drill, report: Report) -> None:
    schedule = Schedule("steady", CAPACITY / 2, CAPACITY / 2, drill.lasts * seconds)
    seen, moments = asyncio.run(
        shoppers.search(
            nodes.urls, body, schedule, HARM_PART * seconds, lambda: drill.strike(nodes), lambda: drill.mend(nodes)
        )
    )
    shoppers.judge(report, drill.name, seen, moments, schedule.seconds, may_break=drill.may_break)
