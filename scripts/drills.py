"""Do harm to what Shoplens runs on, while it is searched and written to, and count what its users would see.

It starts what it harms by itself, in a network namespace of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from httpx import HTTPError
from pymilvus.exceptions import MilvusException
from rich.console import Console

from scripts import import_drill, serve_drills, zero_drill
from scripts.demo_catalogue import CantFetch
from scripts.demo_shop import default_folder, prepare
from scripts.drill_field import Field
from scripts.drill_load import Shop
from scripts.import_side import images_below
from scripts.kafka_broker import fetch_kafka, kafka_is_here
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report
from scripts.milvus_binary import unpack_milvus
from scripts.milvus_cluster import MilvusCluster
from scripts.milvus_harms import Drill, drills
from scripts.namespace import go_inside
from scripts.processes import CantStart
from serve_app.errors import ShoplensError

COULD_NOT_RUN = (
    CantStart, CantFetch, ShoplensError, MilvusException, HTTPError, TimeoutError, LookupError, OSError,
    subprocess.CalledProcessError,
)  # fmt: skip
SEED = 20_261_123
FILE_COLUMNS = 160


def main() -> int:
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not arguments.inside:
            if arguments.what == "milvus":
                _prepare(console)
            elif arguments.what == "zero":
                prepare(default_folder())
            elif arguments.what == "import":
                unpack_milvus()
                images_below(arguments.images)
            go_inside("scripts.drills")
        if arguments.what == "serve":
            report = serve_drills.run(quick=arguments.quick, only=arguments.only)
        elif arguments.what == "zero":
            report = zero_drill.run(quick=arguments.quick)
        elif arguments.what == "import":
            with tempfile.TemporaryDirectory(prefix="shoplens-drills-") as scratch:
                images = images_below(arguments.images)
                report = import_drill.run(images, arguments.workdir or Path(scratch), quick=arguments.quick)
        else:
            with tempfile.TemporaryDirectory(prefix="shoplens-drills-") as scratch:
                report = asyncio.run(run(arguments, arguments.workdir or Path(scratch), console))
    except (
        CantStart,
        CantFetch,
        ShoplensError,
        MilvusException,
        HTTPError,
        TimeoutError,
        LookupError,
        OSError,
    ) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    except KeyboardInterrupt:
        return 130
    report.show(console)
    for drill, errors in report.settings.get("errors", {}).items():
        console.print(f"{drill}: {'; '.join(errors)}", markup=False, highlight=False)
    if arguments.json:
        report.write(arguments.json)
    return report.exit_code()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what",
        choices=["milvus", "serve", "zero", "import"],
        help="what is harmed: a Milvus cluster of 3 query nodes and 2 proxies, the service with stand-in models, by "
        "being left alone the demo's service, or an import into a Milvus server",
    )
    parser.add_argument(
        "--quick", action="store_true", help="milvus: the main drills alone, with fewer rows; else: less long"
    )
    parser.add_argument("--images", type=Path, action="append", help="import: folder of images (default: the demo's)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--only", nargs="+", metavar="WORDS", help="drills whose names contain one of these")
    parser.add_argument("--rows", type=int, help="rows of the index (default: 20,000; quick: 5,000)")
    parser.add_argument("--lease-s", type=int, default=10, help="lease of Milvus's roles (default: %(default)s)")
    parser.add_argument("--deadline-s", type=float, default=5, help="deadline of a search (default: %(default)s)")
    parser.add_argument("--workdir", type=Path, help="keep data and logs here")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _prepare(console: Console) -> None:
    """Fetch what can't be fetched from inside."""
    unpack_milvus()
    try:
        fetch_kafka()
    except CantStart as error:
        console.print(f"no Apache Kafka, so librdkafka's mock is the broker: {error}", markup=False)


# --- the drills


async def run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
    """Do the drills; raises CantStart, ShoplensError, TimeoutError."""
    rows = arguments.rows or (5_000 if arguments.quick else 20_000)
    broker = "kafka" if kafka_is_here() else "mock"
    todo, left_out = _chosen(arguments, broker)
    settings = {
        "rows": rows,
        "lease_s": arguments.lease_s,
        "broker": broker,
        "seed": SEED,
        "not_run": left_out,
        "errors": {},
    }
    report = Report("drills milvus", settings)
    for name in left_out:
        console.print(f"not run, for want of a real Kafka (java and mvn): {name}", markup=False)
    with (
        console.status("starting the cluster …") as status,
        MilvusCluster(
            workdir,
            query_nodes=3,
            proxies=2,
            standby=True,
            lease_s=arguments.lease_s,
            broker="kafka" if broker == "kafka" else "mock",
        ) as cluster,
    ):
        field = Field(cluster, Shop(rows, SEED), arguments.quick, lambda text: status.update(f"{text} …"))
        try:
            await field.open()
            report.settings = {**report.settings, "searches_per_s": field.rate, "config": field.described}
            for drill in todo:
                await field.drill(drill, report)
                console.print(f"done: {drill.name}", markup=False)
        except TimeoutError as error:
            if not report.rows:
                raise
            # What was counted before stands; the goal that the index settles is missed.
            report.goals.append(Goal(f"the index is as before: {error}", 0, 1, "higher"))
        finally:
            await field.close()
    report.rows.sort(key=lambda row: "writes" in row)  # the table of searches, then that of writes
    return report


def _chosen(arguments: argparse.Namespace, broker: str) -> tuple[list[Drill], list[str]]:
    found = drills(arguments.lease_s, arguments.deadline_s)
    if arguments.only:
        found = [drill for drill in found if any(words in drill.name for words in arguments.only)]
    elif arguments.quick:
        found = [drill for drill in found if drill.quick]
    todo = [drill for drill in found if broker == "kafka" or not drill.needs_kafka]
    return todo, [drill.name for drill in found if drill not in todo]


if __name__ == "__main__":
    raise SystemExit(main())
