"""A service whose model stages may go to zero, left alone but for a readiness probe, and then searched by many at once.

With the real models, on the demo's catalogue.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from rich.console import Console

from scripts import demo_shop
from scripts.demo_shop import default_folder, queries, serving
from scripts.measuring import Goal, Report, replica_pids

STAGES = ("Detector", "Embedder", "Searcher")
IDLE_S, QUICK_IDLE_S = 600.0, 60.0
DELAY_S = 30.0
"""`downscale_to_zero_delay_s` of each stage."""
ZERO_BY_S = 3 * DELAY_S
AT_ONCE = 30
COLD_DEADLINE_S = 60.0
PROBE_EVERY_S = 1.0

SETTINGS = {
    f"SHOPLENS_{stage.upper()}__SCALING__{name}": value
    for stage in STAGES
    for name, value in (("MIN_REPLICAS", "0"), ("DOWNSCALE_TO_ZERO_DELAY_S", f"{DELAY_S:g}"))
} | {"SHOPLENS_LIMITS__COLD_DEADLINE_S": f"{COLD_DEADLINE_S:g}", "SHOPLENS_INGRESS__MAX_IN_FLIGHT": "64"}


SUMMARY = "the demo's service, by being left alone"
HAS_NAMESPACE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take none of its own."""


def prepare(arguments: argparse.Namespace, console: Console) -> None:
    """Fetch and import the demo."""
    demo_shop.prepare(default_folder())


def run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
    """Do the drill on the demo that is prepared; raises CalledProcessError, TimeoutError and HTTPError."""
    idle_s = QUICK_IDLE_S + DELAY_S if arguments.quick else IDLE_S
    report = Report("drills zero", {"idle_s": idle_s, "downscale_to_zero_delay_s": DELAY_S, "at_once": AT_ONCE})
    folder = default_folder()
    photos = queries(folder)
    with serving(folder, SETTINGS) as (process, url), httpx.Client(base_url=url, timeout=2 * COLD_DEADLINE_S) as client:
        _search(client, photos[0])
        zero_s, woken, unready = _idle(client, process.pid, idle_s)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda i: _search(client, photos[i % len(photos)]), range(AT_ONCE)))
    waits_s = sorted(seconds for status, seconds in answers if status == httpx.codes.OK)
    report.rows.append({
        "idle s": idle_s, "at zero after s": zero_s, "looks with a replica after that": woken,
        "probes not ready": unready, "searches": AT_ONCE, "answered": len(waits_s),
        "fastest s": waits_s[0] if waits_s else 0.0, "slowest s": waits_s[-1] if waits_s else 0.0,
    })  # fmt: skip
    report.goals += [
        Goal("seconds until no stage had a replica", zero_s, ZERO_BY_S, "lower"),
        Goal("looks at which a probed stage had a replica again", woken, 0, "lower"),
        Goal("readiness probes that failed", unready, 0, "lower"),
        Goal("searches answered, of 30 at once at zero", len(waits_s), AT_ONCE, "higher"),
    ]
    return report


def _idle(client: httpx.Client, pid: int, seconds: float) -> tuple[float, int, int]:
    """Probe each second; return when the last replica was gone, how often one was there later, and failed probes."""
    start_s = time.monotonic()
    zero_s, woken, unready = float("inf"), 0, 0
    while (at_s := time.monotonic() - start_s) < seconds:
        unready += not client.get("/v2/health/ready").is_success
        replicas = sum(len(replica_pids(pid, stage)) for stage in STAGES)
        if replicas == 0:
            zero_s = min(zero_s, at_s)
        woken += replicas > 0 and at_s > zero_s
        time.sleep(PROBE_EVERY_S)
    return zero_s, woken, unready


def _search(client: httpx.Client, photo: Path) -> tuple[int, float]:
    start_s = time.monotonic()
    answer = client.post("/v1/search", files={"photo": photo.read_bytes()})
    return answer.status_code, time.monotonic() - start_s
