"""Compare Shoplens with what others would serve the same search with: LitServe, BentoML, Ray Serve, Milvus' bootcamp.

Two tables. `same models`: each of the others wraps the models and the search of Shoplens, with the same Milvus and
threads, and its best batch setting of those tried; what is compared is what serves. `as in the tutorials`: each is
written as its own tutorial says, with Ultralytics, torchvision's ResNet-50 and all defaults. The bootcamp's flow of the
second searches by the whole photo alone, and is compared with Shoplens and the bare pipeline doing that.

Everything is a share of the bare pipeline, one process without HTTP. All sides of a table stand at once and take turns;
those that are not measured are stopped, but for Ray's. A closed loop keeps 1, 4, 16 or 64 searches in flight, an open
one sends them when they are due, as parts of what the bare pipeline can. LitServe and BentoML come from the package
index into environments of their own; Ray Serve, FastAPI, pymilvus and torch are the very builds that Shoplens runs
with, for all. One that can't be installed or started is said to be missing, and the exit code is 2.

All but the installing happens in a network namespace of its own, since Milvus and Ray listen on every interface.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console

from scripts import load_photos, peer_environments, peer_plot
from scripts.measuring import EXIT_COULD_NOT_RUN, Report, cores
from scripts.namespace import go_inside
from scripts.peer_environments import CantInstall
from scripts.peer_list import AIMS, BARE, ENVIRONMENTS, SAME, SHOPLENS, TUTORIAL, Work, divided, peers, titled
from scripts.peer_outcome import Sides, closed_rows, goals, open_rows
from scripts.peer_rig import Rig, agreements
from scripts.peer_rounds import Photos, Side, in_the_open, take_turns
from scripts.processes import CantStart
from serve_app.config import default_data_dir
from serve_app.errors import ShoplensError

SEARCHES = {1: 24, 4: 48, 16: 96, 64: 192}
"""Of a round, by connections."""
QUICK = {1: 4, 4: 8, 16: 32, 64: 64}
QUICK_CONNECTIONS = (1, 4)
QUICK_PHOTOS, QUICK_CATALOGUE = 8, 32
OPEN_PARTS = (0.5, 0.8)
"""Rates of the open loop, of the bare pipeline's throughput at the most connections."""
MOST_BYTES = 2**20
"""Of a photo: LitServe takes no larger upload (scripts/peers/lit_same.py)."""
TABLES = {"same": SAME, "tutorials": TUTORIAL}


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        if not arguments.inside:
            for environment in ENVIRONMENTS:
                with console.status(f"installing {', '.join(environment.requirements)} …"):
                    peer_environments.install(environment, arguments.environments)
            go_inside("scripts.bench_peers")
        with tempfile.TemporaryDirectory(prefix="shoplens-peers-") as scratch:
            bench = Bench(arguments, Path(scratch), console)
            report = bench.run()
    except (ShoplensError, CantStart, subprocess.SubprocessError, OSError, httpx.HTTPError, TimeoutError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    except psutil.NoSuchProcess as error:
        console.print(f"could not run: a service ended while it was measured: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    return finish(report, bench.missing, arguments, console)


def finish(report: Report, missing: Mapping[str, str], arguments: argparse.Namespace, console: Console) -> int:
    """Show and write the run, and return the exit code: that of a run that could not be where someone is missing."""
    report.settings = {**report.settings, "missing": dict(missing)}
    if arguments.plot and report.rows:
        peer_plot.draw(_closed(report.rows), arguments.plot)
    code = report.finish(console, arguments.json)
    for name, why in missing.items():
        console.print(f"MISSING {name}: {why}", markup=False)
    return EXIT_COULD_NOT_RUN if missing else code


def _closed(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        title = next(iter(row))
        if title.endswith("closed loop"):
            tables.setdefault(title, []).append(row)
    return tables


class Bench:
    """Measure table by table."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path, console: Console) -> None:
        """Read the photos; raises FileNotFoundError where there is none to send."""
        self.missing: dict[str, str] = {}
        """Why a peer is not in a table."""
        self._arguments, self._console = arguments, console
        found = [path.resolve() for path in load_photos.found(arguments.photos)]
        self._catalogue = found[:QUICK_CATALOGUE] if arguments.quick else found
        small = [path for path in self._catalogue if path.stat().st_size < MOST_BYTES]
        sent = small[:QUICK_PHOTOS] if arguments.quick else small
        if not sent:
            raise FileNotFoundError(f"{arguments.photos} has no photo below {MOST_BYTES} bytes")
        self._photos = Photos(sent, [path.read_bytes() for path in sent])
        self._too_large = len(self._catalogue) - len(small)
        self._searches = {n: (QUICK if arguments.quick else SEARCHES)[n] for n in arguments.connections}
        data_dir = arguments.data_dir.resolve() if arguments.data_dir else scratch / "data"
        self._rig = Rig(self._photos, arguments.weights.resolve(), data_dir, arguments.environments.resolve(), scratch)

    def run(self) -> Report:
        """Return what was measured; raises what a run can't be for."""
        arguments, rig, most = self._arguments, self._rig, max(self._searches)
        with ExitStack() as stack, self._console.status("indexing the photos …") as status:
            rig.index(self._catalogue, stack)
            status.update("starting the bare pipeline and Shoplens …")
            bare, threads = rig.bare(self._searches[most], most, stack)
            ours = bare | rig.shoplens(stack)
            report = Report("bench_peers", self._settings(threads))
            for table in arguments.tables:
                with ExitStack() as services:
                    self._compare(TABLES[table], ours, report, services, status.update)
        report.settings = {**report.settings, "installed": rig.versions, "chosen": rig.chosen}
        for name, versions in rig.versions.items():
            self._console.print(f"{name} is run with {', '.join(versions)}", markup=False, soft_wrap=True)
        return report

    def _settings(self, bare_threads: int) -> dict[str, Any]:
        return {
            "rounds": self._arguments.rounds,
            "searches": self._searches,
            "photos": len(self._photos.paths),
            "too large to be sent": self._too_large,
            "catalogue": len(self._catalogue),
            "threads": dict(zip(("detector", "embedder"), divided(cores()), strict=True)),
            "bare_threads": bare_threads,
        }

    def _compare(
        self,
        table: str,
        ours: Mapping[str, Side],
        report: Report,
        services: ExitStack,
        tell: Callable[[str], None],
    ) -> None:
        others, works = self._others(table, services, tell)
        own: dict[str, Work] = {
            titled(name, work): work for work in dict.fromkeys(works.values()) for name in (BARE, SHOPLENS)
        }
        sides, taking_part = Sides(table, own | works), {name: ours[name] for name in own} | others
        if table == SAME and others:
            same = agreements(ours[SHOPLENS], others, self._photos.data[:QUICK_PHOTOS])
            report.settings = {**report.settings, "same first products": same}
        measured = take_turns(taking_part, self._arguments.rounds, self._searches, tell)
        report.rows += closed_rows(sides, measured)
        report.goals += goals(sides, measured, AIMS[table])
        if not self._arguments.open_seconds or not own:
            return
        for part in OPEN_PARTS[:1] if self._arguments.quick else OPEN_PARTS:
            rate = part * max(each.photos_per_s for each in measured[max(measured)][next(iter(own))])
            opened = in_the_open(taking_part, rate, self._arguments.open_seconds, tell)
            report.rows += open_rows(sides, rate, part, opened)

    def _others(
        self, table: str, services: ExitStack, tell: Callable[[str], None]
    ) -> tuple[dict[str, Side], dict[str, Work]]:
        others: dict[str, Side] = {}
        works: dict[str, Work] = {}
        for peer in peers(cores())[table]:
            tell(f"{table}: starting {peer.name} …")
            try:
                others[peer.name] = self._rig.peer(table, peer, services, try_settings=not self._arguments.quick)
            except (CantInstall, CantStart) as error:
                self.missing[f"{peer.name}, {table}"] = str(error)
            else:
                works[peer.name] = peer.work
        return others, works


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--photos", type=Path, required=True, help="folder of JPEG photos: the catalogue, and what is sent"
    )
    parser.add_argument("--weights", type=Path, required=True, help="the detector's weights, yolo26n.pt")
    parser.add_argument(
        "--environments",
        type=Path,
        default=default_data_dir(os.environ).with_name("shoplens-peers"),
        help="keeps the peers' environments (default: %(default)s)",
    )
    parser.add_argument("--data-dir", type=Path, help="keeps the index, for other runs; default: a temporary folder")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), help="what is compared")
    parser.add_argument(
        "--connections", type=int, nargs="+", choices=SEARCHES, help=f"default: {', '.join(map(str, SEARCHES))}"
    )
    parser.add_argument("--rounds", type=int, help="rounds of the closed loop (default: 5)")
    parser.add_argument("--open-seconds", type=float, help="of each open loop, 0: none (default: 30)")
    parser.add_argument(
        "--quick", action="store_true", help="few photos, 1 and 4 connections, 2 rounds, one open loop of 5 s"
    )
    parser.add_argument("--plot", type=Path, help="write a plot to this file (.png or .svg)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    usual: dict[str, Any] = (
        {"connections": list(QUICK_CONNECTIONS), "rounds": 2, "open_seconds": 5.0}
        if arguments.quick
        else {"connections": list(SEARCHES), "rounds": 5, "open_seconds": 30.0}
    )
    for name, value in usual.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
