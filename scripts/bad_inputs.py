"""Send a corpus of bad inputs to a service: each is answered as it should be, and nothing falls over.

Without --url it starts `shoplens serve` on a folder of its own, with a few products that it makes itself; only then it
sees memory and replicas. With --minutes it goes on with good and bad ones, mixed, and looks whether memory stays flat.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from rich.console import Console

from scripts.bad_corpus import bad_requests
from scripts.bad_photos import encoded, picture
from scripts.bad_requests import PRODUCTS, RAW, SEARCH, Answer, BadRequest, good_photo
from scripts.bad_urls import NAMED_HOSTS
from scripts.bad_wire import WEB_HOST, attacks, hostile_server, hostile_urls
from scripts.measuring import (
    EXIT_COULD_NOT_RUN,
    Goal,
    Report,
    descendants,
    free_port,
    key_headers,
    memory_mib,
    percentile,
    process_name,
    replica_pids,
    wait_until,
)
from serve_app.config import load_config
from serve_app.errors import ShoplensError
from serve_app.weights.fetching import fetch_detector

STAGES = ("Ingress", "Detector", "Embedder", "Searcher")
START_S = 240.0
TIMEOUT_S = 90.0
MOST_S = 45.0
"""What the slowest input may take: a fetch of a silent server is tried as often as the settings say."""
GROWTH_MIB = 400.0
"""What the whole corpus may leave behind: allocators keep what a photo of 49 megapixels took."""
DRIFT_MIB = 64.0
"""How far memory may have risen over the last two thirds of the mixed run, by its line of best fit."""
SAMPLE_S = 5.0


@dataclass
class Kind:
    """Count what became of the inputs of one kind."""

    took_ms: dict[Answer, list[float]] = field(default_factory=lambda: defaultdict(list))
    amiss: list[str] = field(default_factory=list)

    @property
    def slowest_ms(self) -> float:
        return max(each for took_ms in self.took_ms.values() for each in took_ms)


class Target:
    """Be the service that is sent to; `pid` is that of a service which was started here."""

    def __init__(self, url: str, pid: int | None = None) -> None:
        self.url, self.pid = url, pid
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=key_headers())

    def send(self, bad: BadRequest) -> Answer:
        """Return status and code of the answer; 0 and the error's name where there is none."""
        try:
            response = self._client.request(bad.method, bad.path, content=bad.body, headers=bad.headers)
        except httpx.HTTPError as error:
            return 0, type(error).__name__
        if response.is_success:
            return response.status_code, "ok"
        try:
            return response.status_code, str(response.json()["code"])
        except (ValueError, KeyError):
            return response.status_code, ""

    def is_well(self) -> bool:
        """Tell whether a good photo is searched with."""
        return self.send(BadRequest("good", "good", (), "POST", SEARCH, good_photo(), RAW)) == (200, "ok")

    def memory_mib(self) -> float:
        """Return what the service's processes hold, 0 where they can't be seen."""
        return sum(self.memory().values())

    def memory(self) -> dict[str, float]:
        """Return the MiB that the service's processes hold, by what they are."""
        held: dict[str, float] = defaultdict(float)
        for pid in descendants(self.pid) if self.pid else []:
            try:
                held[process_name(pid)] += memory_mib(pid)
            except (OSError, ValueError):
                continue  # It has ended.
        return held

    def replicas(self) -> dict[str, list[int]]:
        return {stage: sorted(replica_pids(self.pid, stage)) for stage in STAGES} if self.pid else {}


def main() -> int:
    arguments = _arguments()
    console = Console(highlight=False)
    report = Report("bad_inputs", {name: str(value) for name, value in vars(arguments).items()})
    try:
        with _target(arguments.url, arguments.weights) as target:
            if not target.is_well():
                console.print("a good photo is not searched with; the service has to be ready, with an index")
                return EXIT_COULD_NOT_RUN
            _run(target, arguments, report, console)
    except (ShoplensError, TimeoutError, OSError) as error:
        console.print(str(error))
        return EXIT_COULD_NOT_RUN
    return report.finish(console, arguments.json)


def _run(target: Target, arguments: argparse.Namespace, report: Report, console: Console) -> None:
    before, replicas = target.memory_mib(), target.replicas()
    corpus = bad_requests(arguments.seed)
    kinds, ill = send_all(target, corpus, report, local=arguments.url is None)
    amiss = [f"{kind}: {each}" for kind, found in kinds.items() for each in found.amiss]
    for each in amiss:
        console.print(f"amiss  {each}", soft_wrap=True, markup=False)
    report.goals += [
        Goal("inputs answered otherwise than they should be", len(amiss), 0, "lower"),
        Goal("kinds after which a good photo was not searched with", ill, 0, "lower"),
        Goal("slowest answer, s", max(found.slowest_ms for found in kinds.values()) / 1e3, MOST_S, "lower"),
    ]
    if target.pid:
        report.goals.append(Goal("memory that the corpus left, MiB", target.memory_mib() - before, GROWTH_MIB, "lower"))
    if arguments.minutes:
        _mixed(target, corpus, arguments, report)
    if target.pid:
        restarted = sum(target.replicas()[stage] != pids for stage, pids in replicas.items())
        report.goals.append(Goal("stages of which a replica was restarted", restarted, 0, "lower"))


def send_all(
    target: Target, corpus: Sequence[BadRequest], report: Report, *, local: bool
) -> tuple[dict[str, Kind], int]:
    """Send everything, kind by kind; returns what became of the kinds, and after how many the service was not well."""
    kinds: dict[str, Kind] = {}
    ill = 0
    with hostile_server() as address:
        inputs = list(_inputs(target, corpus, address if local else None))
        for kind in dict.fromkeys(each.kind for each in inputs):
            held, found = target.memory_mib(), kinds.setdefault(kind, Kind())
            for each in inputs:
                if each.kind == kind:
                    _send(each, found)
            ill += not target.is_well()
            report.rows += _rows(kind, found, target.memory_mib() - held)
    return kinds, ill


@dataclass(frozen=True, slots=True)
class _Input:
    kind: str
    name: str
    answers: tuple[Answer, ...]
    send: Callable[[], Answer]


def _inputs(target: Target, corpus: Sequence[BadRequest], hostile: str | None) -> Iterator[_Input]:
    address = urlsplit(target.url)
    for bad in [*corpus, *(hostile_urls(hostile) if hostile else ())]:
        yield _Input(bad.kind, bad.name, bad.answers, partial(target.send, bad))
    for attack in attacks():
        run = partial(attack.run, address.hostname or "", address.port or 80)
        yield _Input(attack.kind, attack.name, attack.answers, run)


def _send(each: _Input, found: Kind) -> None:
    began = time.perf_counter()
    try:
        answer = each.send()
    except OSError as error:
        answer = (0, type(error).__name__)
    found.took_ms[answer].append((time.perf_counter() - began) * 1e3)
    if not is_expected(answer, each.answers):
        found.amiss.append(f"{each.name}: {answer}, expected {each.answers}")


def is_expected(answer: Answer, answers: Sequence[Answer]) -> bool:
    """Tell whether an answer may be; a proxy's own have a status alone."""
    return answer in answers or any(status == answer[0] and not code for status, code in answers)


def _rows(kind: str, found: Kind, growth_mib: float) -> Iterator[dict[str, Any]]:
    """Yield a row for each answer; what memory grew by is of the kind as a whole."""
    for (status, code), took_ms in sorted(found.took_ms.items()):
        yield {
            "kind": kind,
            "status": status,
            "code": code,
            "inputs": len(took_ms),
            "median ms": percentile(took_ms, 0.5),
            "slowest ms": max(took_ms),
            "memory growth of the kind, MiB": growth_mib,
        }


def _mixed(target: Target, corpus: Sequence[BadRequest], arguments: argparse.Namespace, report: Report) -> None:
    """Send good and bad ones in turn, for as long as asked, and look at the memory meanwhile."""
    chance = random.Random(arguments.seed)
    good = BadRequest("good", "good", ((200, "ok"),), "POST", SEARCH, good_photo(), RAW)
    end = time.monotonic() + arguments.minutes * 60
    samples: list[tuple[float, float]] = []
    third: dict[str, float] = {}
    sent, amiss, bad_good = 0, 0, 0
    while time.monotonic() < end:
        bad = chance.choice(corpus)
        amiss += not is_expected(target.send(bad), bad.answers)
        bad_good += target.send(good) != (200, "ok")
        sent += 2
        if not samples or time.monotonic() - samples[-1][0] >= SAMPLE_S:
            samples.append((time.monotonic(), target.memory_mib()))
        if not third and end - time.monotonic() < arguments.minutes * 40:
            third = target.memory()
    drift, held = _drift_mib(samples), [mib for _, mib in samples]
    report.rows.append(
        {"mixed minutes": arguments.minutes, "sent": sent, "first MiB": held[0], "last MiB": held[-1], "drift": drift}
    )
    report.rows += [
        {"process": name, "after a third, MiB": third.get(name, 0.0), "at the end, MiB": mib}
        for name, mib in sorted(target.memory().items())
    ]
    report.goals += [
        Goal("good photos of the mixed run that were not searched with", bad_good, 0, "lower"),
        Goal("bad inputs of the mixed run answered otherwise than they should be", amiss, 0, "lower"),
    ]
    if target.pid:
        report.goals.append(Goal("memory's drift over the last two thirds, MiB", drift, DRIFT_MIB, "lower"))


def _drift_mib(samples: Sequence[tuple[float, float]]) -> float:
    """Return how far the line of best fit rises over the last two thirds."""
    late = samples[len(samples) // 3 :]
    if len(late) < 2:
        return 0.0
    at_s = np.array([at for at, _ in late])
    slope = np.polyfit(at_s - at_s[0], [mib for _, mib in late], 1)[0]
    return float(slope * (at_s[-1] - at_s[0]))


@contextmanager
def _target(url: str | None, weights: Path | None) -> Iterator[Target]:
    if url is not None:
        yield Target(url.rstrip("/"))
        return
    with tempfile.TemporaryDirectory(prefix="shoplens-bad-inputs-") as folder:
        data_dir = Path(folder)
        chosen = weights or load_config(data_dir=data_dir).detector_weights
        fetch_detector(chosen, lambda _: None)
        with _service(data_dir, chosen) as target:
            _fill(target.url)
            wait_until(target.is_well, timeout_s=START_S, what="a search")
            yield target


@contextmanager
def _service(data_dir: Path, weights: Path) -> Iterator[Target]:
    port = free_port()
    environ = os.environ | {
        "SHOPLENS_DATA_DIR": str(data_dir),
        "SHOPLENS_DETECTOR__WEIGHTS": str(weights),
        "SHOPLENS_HTTP__METRICS_PORT": str(free_port()),
        "SHOPLENS_FETCH__ALLOW_PRIVATE": json.dumps([f"{WEB_HOST}/32"]),
        "SHOPLENS_FETCH__SEARCH_HOSTS": json.dumps([WEB_HOST, *NAMED_HOSTS]),
        "SHOPLENS_FETCH__TIMEOUT_S": "5",
    }
    with (data_dir / "serve.out").open("wb") as output:
        command = [sys.executable, "-m", "serve_app.cli", "serve", "--port", str(port)]
        process = subprocess.Popen(command, env=environ, stdout=output, stderr=subprocess.STDOUT)
    try:
        target = Target(f"http://127.0.0.1:{port}", process.pid)
        live = BadRequest("live", "live", (), "GET", "/v2/health/live")
        wait_until(lambda: target.send(live)[0] == httpx.codes.OK, timeout_s=START_S, what="the start of the service")
        yield target
    finally:
        process.terminate()
        process.wait(START_S)


def _fill(url: str) -> None:
    """Put some products, which makes the index."""
    for number in range(12):
        file = base64.b64encode(encoded(picture(64 + 8 * number), "PNG")).decode()
        answer = httpx.put(f"{url}{PRODUCTS}/{number}", json={"images": [{"image": file}]}, timeout=TIMEOUT_S)
        answer.raise_for_status()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.bad_inputs", description=__doc__)
    parser.add_argument("--url", help="a service with an index; default: one that is started for this")
    parser.add_argument("--weights", type=Path, help="the detector's weights; default: they are fetched")
    parser.add_argument("--minutes", type=float, default=0, help="how long good and bad ones are mixed (default: 0)")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
