"""Compare our scaling policy with Ray Serve's on the same curves of load, one replica with eight, and overload two.

The models are stand-ins that sleep, so that two cores are enough for eight replicas: on several Ray nodes of this
machine, each with a GPU that is only a number. HTTP, ingress, batcher, searcher and Milvus are the service's own,
with a cluster's settings.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import httpx
from rich.console import Console

from scripts.load_goals import overload_goals
from scripts.load_outcome import Answered, answered_rate, between, late_share, latency_s
from scripts.load_schedule import Schedule
from scripts.load_sending import Load, send
from scripts.load_test import probe
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, descendants, free_port
from scripts.namespace import go_inside
from scripts.processes import CantStart
from scripts.stand_in_service import Times, fill, photo, serving_stand_ins
from serve_app.cli.local import set_ray_environment
from serve_app.config import Config
from serve_app.errors import ShoplensError
from serve_app.ray_environment import CLUSTER

TIMES = Times(photo_s=0.1, crop_s=0.15)
"""Slow enough that two cores carry all that eight replicas need besides."""
RATE_OF_ONE = 1 / (4 * TIMES.crop_s)
"""A photo is four crops, so less than two photos a second."""
MOST_REPLICAS = 8
NODES = 4
GPUS = 2 * MOST_REPLICAS
GOAL_S = 2.0
"""Three times what an answer takes that waits for nothing."""
FAST_SHARE = 0.95
CURVES = ("step", "ramp", "spike")
BASE, PEAK = 0.6, 5.0
"""Load as a multiple of what one embedder answers."""
LINEAR_GOAL = 0.85
OVERLOADED_REPLICAS = 4
OVERLOAD_BASE, OVERLOAD_PEAK = 0.85, 10.0
"""Load as a multiple of what those replicas answer."""
OVERLOAD_S, QUICK_OVERLOAD_S = 600.0, 80.0
ANSWERING = (b":Ingress", b":Searcher", b"ray::ShelfStore", b"ray::ServeController", b"ray::ProxyActor", b"haproxy")
"""Begins or is part of the names of the processes that take part in an answer, or decide on replicas."""
STARTING = (b"raylet", b"ray::")
"""The same of what starts replicas, which inherit its cores, and of what it has started."""
SERVE_DEFAULT = {"min_replicas": 1, "max_replicas": MOST_REPLICAS}
SERVE_TUNED = SERVE_DEFAULT | {
    "target_ongoing_requests": 2,
    "upscale_delay_s": 3.0,
    "downscale_delay_s": 60.0,
    "metrics_interval_s": 1.0,
    "look_back_period_s": 6.0,
}
POLICIES: Mapping[str, Mapping[str, Any] | None] = {
    "ours": None,
    "Serve, default": SERVE_DEFAULT,
    "Serve, tuned": SERVE_TUNED,
}
PARTS = ("linear", "overload", "curves")


def main() -> int:
    arguments = _arguments()
    console = Console()
    if not arguments.inside:
        try:
            go_inside("scripts.bench_scaling")
        except CantStart as error:
            console.print(f"could not run: {error}", markup=False)
            return EXIT_COULD_NOT_RUN
    seconds = arguments.seconds or (60.0 if arguments.quick else 180.0)
    settings = {
        "seconds": seconds,
        **asdict(TIMES),
        "nodes": NODES,
        "most_replicas": MOST_REPLICAS,
    }
    report = Report("bench_scaling", settings)
    try:
        with tempfile.TemporaryDirectory(prefix="shoplens-scaling-") as folder, _cluster(Path(folder)) as config:
            photos = [photo(Path(folder))]
            if "linear" in arguments.only:
                _linear(report, config, photos, console)
            if "overload" in arguments.only:
                _overload(report, config, photos, QUICK_OVERLOAD_S if arguments.quick else OVERLOAD_S, console)
            if "curves" in arguments.only:
                _compare(report, config, photos, seconds, ("step",) if arguments.quick else CURVES, console)
    except (ShoplensError, httpx.HTTPError, OSError, TimeoutError, RuntimeError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    return report.finish(console, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure; default: all")
    parser.add_argument("--quick", action="store_true", help="one minute of one curve, and a short overload")
    parser.add_argument("--seconds", type=float, help="of each curve; default: 180")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


@contextmanager
def _cluster(folder: Path) -> Iterator[Config]:
    """Yield the settings of a service on several Ray nodes, with a small index."""
    os.environ["PYTHONPATH"] = str(Path.cwd())
    # Ray's logs stay in its files: here a person reads the table.
    os.environ.update({**CLUSTER, "RAY_LOG_TO_STDERR": "0", "RAY_SERVE_LOG_TO_STDERR": "0"})
    set_ray_environment()
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    from serve_app.milvus.local import LocalMilvus

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "object_store_memory": 2**28})
    with LocalMilvus(folder / "milvus") as uri:
        try:
            for _ in range(NODES):
                cluster.add_node(num_cpus=4, num_gpus=GPUS // NODES, object_store_memory=2**27)
            ray.init(address=cluster.address, log_to_driver=False)
            config = Config(milvus={"uri": uri}, http={"port": free_port(), "metrics_port": free_port()})
            fill(config, uri)
            serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": config.http.port})
            yield config
            serve.shutdown()  # type: ignore[no-untyped-call]
        finally:
            ray.shutdown()
            cluster.shutdown()  # type: ignore[no-untyped-call]


def _stages(min_replicas: int, max_replicas: int = MOST_REPLICAS) -> dict[str, Any]:
    scaling = {"min_replicas": min_replicas, "max_replicas": max_replicas}
    stage = {"num_gpus": 1.0, "device": "cuda", "num_cpus": 0.1, "scaling": scaling}
    return {
        "detector": stage,
        "embedder": stage,
        "limits": {"deadline_s": 10.0},
        "ingress": {"max_in_flight": 200, "num_cpus": 0.1, "latency_goal_s": GOAL_S},
    }


def _linear(report: Report, config: Config, photos: Sequence[Path], console: Console) -> None:
    rates: dict[int, float] = {}
    for replicas in (1, MOST_REPLICAS):
        with (
            console.status(f"{replicas} replicas …"),
            serving_stand_ins(config, TIMES, _stages(min_replicas=replicas)) as url,
        ):
            rates[replicas] = asyncio.run(probe(url, photos, connections=8 * replicas))
            report.rows.append({"replicas": str(replicas), "searches/s": rates[replicas]})
    gained = rates[MOST_REPLICAS] / (MOST_REPLICAS * rates[1])
    report.goals.append(Goal(f"throughput of {MOST_REPLICAS} replicas, of linear", gained, LINEAR_GOAL, "higher"))


def _overload(report: Report, config: Config, photos: Sequence[Path], seconds: float, console: Console) -> None:
    with (
        console.status(f"overload: {seconds:.0f} s …"),
        serving_stand_ins(config, TIMES, _stages(OVERLOADED_REPLICAS, OVERLOADED_REPLICAS)) as url,
    ):
        capacity = asyncio.run(probe(url, photos, connections=8 * OVERLOADED_REPLICAS))
        schedule = Schedule("step", OVERLOAD_BASE * capacity, OVERLOAD_PEAK * capacity, seconds)
        answers, samples = send(Load(url, photos, schedule, seed=1), pid=os.getpid())
    peak = schedule.peak() or (0.0, 0.0)
    for part, span in {"before": (0.0, peak[0]), "overload": peak, "after": (peak[1], seconds)}.items():
        due = between(answers, *span)
        report.rows.append({
            "overload": part, "due": len(due), "refused": sum(each.is_refused for each in due),
            "failed": sum(each.is_failed for each in due), "searches/s": answered_rate(answers, *span),
            "p50 ms": 1e3 * latency_s(due, 0.5), "p99 ms": 1e3 * latency_s(due, 0.99),
        })  # fmt: skip
    report.goals.append(Goal("overload: failed", sum(each.is_failed for each in answers), 0, "lower"))
    report.goals += overload_goals(schedule, answers, samples)


class _Replicas:
    """Add up the model stages' replicas over time, and keep the cores of their nodes apart from the service's.

    A replica's start takes a core for four seconds. On a cluster that is its own node's; here it must not be one that
    searches need.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        _part_cores(os.getpid())
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        from ray import serve

        from serve_app.app import APPLICATION

        before_s = time.monotonic()
        while not self._stop.wait(0.5):
            _part_cores(os.getpid())
            stages = serve.status().applications[APPLICATION].deployments
            # A replica costs its GPU from the moment it starts.
            now = sum(sum(stages[name].replica_states.values()) for name in ("Detector", "Embedder"))
            self.seconds += now * (time.monotonic() - before_s)
            self.most = max(self.most, now)
            before_s = time.monotonic()


def _part_cores(root: int) -> None:
    """Keep what starts on the nodes to the last core, so that what answers searches and is no model has another one.

    Priorities would not do: Linux may share time among sessions first, whatever the priorities of their processes.
    """
    everywhere = os.sched_getaffinity(0)
    for pid in descendants(root):
        with suppress(FileNotFoundError, ProcessLookupError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            answers = any(name in command for name in ANSWERING)
            if answers or any(name in command for name in STARTING):
                _bind(pid, everywhere if answers else {max(everywhere)})


def _bind(pid: int, to: set[int]) -> None:
    """Let each thread of a process run on these cores: a replica's event loop is not its first."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), to)


def _compare(
    report: Report, config: Config, photos: Sequence[Path], seconds: float, curves: Sequence[str], console: Console
) -> None:
    over: dict[tuple[str, str], float] = {}
    for curve in curves:
        schedule = Schedule(curve, BASE * RATE_OF_ONE, PEAK * RATE_OF_ONE, seconds)
        for name, autoscaling in POLICIES.items():
            with (
                console.status(f"{curve}: {name} …"),
                serving_stand_ins(config, TIMES, _stages(min_replicas=1), autoscaling) as url,
                _Replicas() as replicas,
            ):
                answers, _ = send(Load(url, photos, schedule, seed=1))
            over[curve, name] = _seconds_over(answers, seconds)
            failed = [answer for answer in answers if answer.is_failed]
            report.rows.append({
                "curve": curve, "policy": name, "seconds over the goal": over[curve, name],
                "replica-seconds": replicas.seconds, "most": replicas.most,
                "refused": sum(answer.is_refused for answer in answers),
                "failed": len(failed), "how": _how(failed), "late": late_share(answers),
                "p99 ms": 1e3 * latency_s(answers, 0.99),
            })  # fmt: skip
            if name == "ours":
                report.goals.append(Goal(f"{curve}: failed, ours", len(failed), 0, "lower"))
        best = min(over[curve, name] for name in POLICIES if name != "ours")
        report.goals.append(Goal(f"{curve}: seconds over the goal, ours", over[curve, "ours"], max(best, 5), "lower"))


def _how(failed: Sequence[Answered]) -> str:
    """Tell the codes of what failed, and when the first and the last of each was due."""
    due: dict[str, list[float]] = {}
    for answer in failed:
        due.setdefault(answer.code, []).append(answer.due_s)
    return ", ".join(f"{len(at)} {code} at {min(at):.0f}–{max(at):.0f} s" for code, at in due.items())


def _seconds_over(answers: Sequence[Answered], seconds: float) -> int:
    """Count the seconds in which fewer than 95 % of the searches due then were answered within the goal."""
    due = (between(answers, second, second + 1) for second in range(int(seconds)))
    fast = (
        sum(each.status == HTTPStatus.OK and each.latency_s <= GOAL_S for each in found) / len(found)
        for found in due
        if found
    )
    return sum(share < FAST_SHARE for share in fast)


if __name__ == "__main__":
    raise SystemExit(main())
