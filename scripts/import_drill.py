"""Kill an import again and again, and compare what it leaves in a real Milvus server with an undisturbed one.

Each kill comes after a number of acknowledged images that a printed seed decides, and hits in turn the driver with all
its workers, one worker, or Milvus; who is killed is started again, until the import ends. Whatever is acknowledged has
to stay, and nothing is to be embedded twice or to be there twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from scripts import import_side
from scripts.measuring import Goal, Report, descendants
from scripts.milvus_binary import unpack_milvus
from scripts.servers import MilvusStandalone
from serve_app.collection import FIELDS, alias
from serve_app.config import MilvusConfig
from serve_app.milvus.client import connect
from serve_app.milvus.scanning import SETTLED_S, scan
from serve_app.weights.loader import embedder_files, fingerprint

KILLS, QUICK_KILLS = 20, 3
QUICK_IMAGES = 96
REACHED = 0.6
"""Part of the images that kills are dealt out over. Not all are ever acknowledged, since some are stored before a kill
and unchanged after it, and a kill that is due while its victim is away comes later."""
MOST_STARTS = 100
"""An import that is not done after so many is given up."""
AWAY_S = 2.0
SAME = 1e-3
"""Largest difference of a number of an embedding: how many images a batch holds changes its last digits."""
NOT_COMPARED = {"updated_at", "duplicate_of", "vector"}
UNDISTURBED, KILLED = "undisturbed", "killed"


@dataclass
class _Shop:
    """Hold a catalogue that is imported into an index of its own, and what was acknowledged of it."""

    name: str
    folder: Path
    manifest: Path
    uri: str
    acknowledged: Counter[int] = field(default_factory=Counter)
    started: int = 0

    def start(self) -> subprocess.Popen[str]:
        self.started += 1
        environ = {**os.environ, "SHOPLENS_MILVUS__URI": self.uri, "SHOPLENS_CATALOGUE": self.name}
        return import_side.start(self.folder, self.manifest, environ)

    def follow(self, process: subprocess.Popen[str]) -> Iterator[int]:
        """Yield how many images were acknowledged in all, whenever that grows."""
        assert process.stdout is not None
        for line in process.stdout:
            try:
                rows = json.loads(line)["embedded"]
            except ValueError:
                continue  # Cut off by a kill, or Ray's word about a worker that was killed.
            self.acknowledged.update(rows)
            if rows:
                yield self.acknowledged.total()

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return all rows of the index by key, and fail where one is there twice."""
        time.sleep(SETTLED_S)
        model = fingerprint(embedder_files(None))
        found: dict[str, dict[str, Any]] = {}
        with closing(connect(MilvusConfig(), self.uri)) as client:
            for rows in scan(client, alias(self.name, model), [each.name for each in FIELDS]):
                for row in rows:
                    if row["row_id"] in found:
                        raise LookupError(f"{row['row_id']} is there twice")
                    found[row["row_id"]] = row
        return found


SUMMARY = "an import into a Milvus server"
HAS_NAMESPACE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=Path, action="append", help="folder of images; default: the demo's photos")


def prepare(arguments: argparse.Namespace, console: Console) -> None:
    """Fetch what can't be fetched from inside."""
    unpack_milvus()
    import_side.images_below(arguments.images)


def run(arguments: argparse.Namespace, folder: Path, console: Console) -> Report:
    """Do the drill; raises CantStart, ShoplensError, LookupError and TimeoutError."""
    quick = arguments.quick
    images = import_side.images_below(arguments.images)
    seed = random.SystemRandom().randrange(10**6)
    kills = QUICK_KILLS if quick else KILLS
    if quick:
        images = images[:: max(1, len(images) // QUICK_IMAGES)][:QUICK_IMAGES]
    draw = random.Random(seed)
    moments = sorted(draw.sample(range(1, int(REACHED * len(images))), kills))
    report = Report("drills import", {"images": len(images), "kills": kills, "seed": seed})
    print(f"seed {seed}: kills after {', '.join(map(str, moments))} acknowledged images", flush=True)
    manifest = folder / "catalogue.csv"
    import_side.write_catalogue(manifest, images)
    with MilvusStandalone(folder / "milvus") as server:
        shops = []
        for name in (UNDISTURBED, KILLED):
            import_side.make_data_dir(folder / name)
            shops.append(_Shop(name, folder / name, manifest, server.uri))
        undisturbed, killed = shops
        start_s = time.monotonic()
        process = undisturbed.start()
        for _ in undisturbed.follow(process):
            pass
        _ended(process, "the undisturbed import")
        undisturbed_s = time.monotonic() - start_s
        start_s = time.monotonic()
        harmed = _import_and_kill(killed, moments, server)
        report.rows.append({
            "images": len(images), "undisturbed s": undisturbed_s, "killed s": time.monotonic() - start_s,
            "starts": killed.started, **{f"killed: {name}": number for name, number in harmed.items()},
        })  # fmt: skip
        _compare(report, undisturbed, killed)
        report.goals.append(Goal("kills", harmed.total(), kills, "higher"))
    return report


def _import_and_kill(shop: _Shop, moments: Sequence[int], server: MilvusStandalone) -> Counter[str]:
    """Import until it ends, killing at each of the moments; return how often what was killed."""
    harms: list[tuple[str, Callable[[int], bool]]] = [
        ("driver", _kill_driver),
        ("worker", _kill_worker),
        ("Milvus", lambda pid: _restart(server)),
    ]
    left = list(moments)
    done: Counter[str] = Counter()
    while shop.started < MOST_STARTS:
        process = shop.start()
        is_there = True
        for total in shop.follow(process):
            # What a killed driver had said before is still to be read; whose turn it is comes when there is one again.
            if not left or total < left[0] or not is_there:
                continue
            name, harm = harms[done.total() % len(harms)]
            if harm(process.pid):
                del left[0]
                done[name] += 1
                is_there = name != "driver"
                print(f"{total} acknowledged: kill -9 of {name}", flush=True)
        code = process.wait()
        _kill_driver(process.pid)
        if code == 0:
            return done
    raise TimeoutError(f"the import did not end within {MOST_STARTS} starts")


def _kill_driver(pid: int) -> bool:
    for each in (*descendants(pid), pid):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    return True


def _kill_worker(pid: int) -> bool:
    """Kill one of the pools' workers, whichever comes first; tell whether there was one."""
    for each in descendants(pid):
        with suppress(OSError):
            if Path(f"/proc/{each}/cmdline").read_bytes().startswith(b"ray::MapWorker"):
                os.kill(each, signal.SIGKILL)
                return True
    return False


def _restart(server: MilvusStandalone) -> bool:
    server.kill()
    time.sleep(AWAY_S)
    server.start()
    return True


def _ended(process: subprocess.Popen[str], what: str) -> None:
    if process.wait():
        raise LookupError(f"{what} ended with {process.returncode}")


def _compare(report: Report, undisturbed: _Shop, killed: _Shop) -> None:
    expected, found = undisturbed.rows(), killed.rows()
    both = expected.keys() & found.keys()
    differ = sum(_is_other(expected[key], found[key]) for key in both)
    pictures = _pictures(expected.values()) ^ _pictures(found.values())
    for group in sorted(map(sorted, pictures)):
        print(f"marked otherwise: {', '.join(group)}", flush=True)
    report.rows.append({"index": "undisturbed", "rows": len(expected)})
    report.rows.append({"index": "killed", "rows": len(found)})
    report.goals += [
        Goal("rows lost", len(expected.keys() - found.keys()), 0, "lower"),
        Goal("rows that should not be there", len(found.keys() - expected.keys()), 0, "lower"),
        Goal("rows that differ", differ, 0, "lower"),
        Goal("pictures that are marked otherwise", len(pictures), 0, "lower"),
        Goal(
            "images acknowledged as embedded twice",
            sum(number > 1 for number in killed.acknowledged.values()),
            0,
            "lower",
        ),
    ]


def _is_other(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if any(row[name] != other[name] for name in row.keys() - NOT_COMPARED):
        return True
    return float(np.abs(np.asarray(row["vector"]) - np.asarray(other["vector"])).max()) > SAME


def _pictures(rows: Any) -> set[frozenset[str]]:
    """Return the images that show the same picture; which of them came first, chance decides."""
    groups: dict[str, set[str]] = {}
    for row in rows:
        if row["duplicate_of"]:
            groups.setdefault(row["duplicate_of"], {row["duplicate_of"]}).add(row["image_id"])
    return {frozenset(each) for each in groups.values()}
