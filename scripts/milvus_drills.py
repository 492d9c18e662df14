"""Do harm to a Milvus cluster of 3 query nodes and 2 proxies while it is searched and written to."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from rich.console import Console

from scripts.drill_field import Field
from scripts.drill_load import Shop
from scripts.kafka_broker import fetch_kafka, kafka_is_here
from scripts.measuring import Goal, Report
from scripts.milvus_binary import unpack_milvus
from scripts.milvus_cluster import MilvusCluster
from scripts.milvus_harms import Drill, drills
from scripts.processes import CantStart

SUMMARY = "a Milvus cluster of 3 query nodes and 2 proxies"
HAS_NAMESPACE = True
SEED = 20_261_123


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="WORDS", help="drills whose names contain one of these")
    parser.add_argument("--rows", type=int, help="rows of the index (default: 20,000; quick: 5,000)")
    parser.add_argument("--lease-s", type=int, default=10, help="lease of Milvus's roles (default: %(default)s)")
    parser.add_argument("--deadline-s", type=float, default=5, help="deadline of a search (default: %(default)s)")


def prepare(_: argparse.Namespace, console: Console) -> None:
    """Fetch what can't be fetched from inside."""
    unpack_milvus()
    try:
        fetch_kafka()
    except CantStart as error:
        console.print(f"no Apache Kafka, so librdkafka's mock is the broker: {error}", markup=False)


def run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
    """Do the drills; raises CantStart, ShoplensError, TimeoutError."""
    report = asyncio.run(_run(arguments, workdir, console))
    for drill, errors in report.settings["errors"].items():
        console.print(f"{drill}: {'; '.join(errors)}", markup=False, highlight=False)
    return report


async def _run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
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
