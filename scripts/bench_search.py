"""Compare our searcher with bare pymilvus on the same server, and with FAISS in this process.

It starts a Milvus server by itself, in a network namespace of its own. Sides take turns, so that what else the
machine does meets all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from pymilvus import AsyncMilvusClient, MilvusClient
from pymilvus.exceptions import MilvusException
from rich.console import Console

from scripts.drill_load import make_row
from scripts.indexed import wait_until_indexed
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, median_and_spread, percentile
from scripts.milvus_binary import unpack_milvus
from scripts.namespace import go_inside
from scripts.processes import CantStart
from scripts.servers import MilvusStandalone
from scripts.synthetic import clustered, exact, queries_near
from serve_app.collection import HIT_FIELDS, Row, alias
from serve_app.config import MilvusConfig, SearchParams
from serve_app.domain import EMBEDDING_DIM, Embeddings
from serve_app.errors import ShoplensError
from serve_app.milvus import indexing, lifecycle
from serve_app.milvus.backfill import backfill
from serve_app.milvus.client import async_client, connect
from serve_app.milvus.export import export, restore
from serve_app.milvus.searcher import MilvusSearcher
from serve_app.milvus.writer import MilvusWriter

SEED = 20_261_123
CATALOGUE, FINGERPRINT = "bench", "0123456789ab"
K = 10
QUERIES = 500
CONCURRENCY = (1, 8, 32)
WRITE_ROWS = 10_000

OVERHEAD_GOAL_MS = 0.3
RATIO_GOAL = 0.9

Ask = Callable[[Any], Awaitable[list[str]]]
"""Return the row ids nearest to one query."""


def main() -> int:
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 140)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not arguments.inside:
            unpack_milvus()
            go_inside("scripts.bench_search")
        with tempfile.TemporaryDirectory(prefix="shoplens-bench-") as scratch:
            report = asyncio.run(run(arguments, Path(scratch), console))
    except (CantStart, ShoplensError, MilvusException, TimeoutError, OSError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    except KeyboardInterrupt:
        return 130
    return report.finish(console, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 rows and two rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--rows", type=int, help="rows of the index (default: 100,000; quick: 20,000)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


async def run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
    """Measure; raises CantStart, ShoplensError, TimeoutError."""
    rows = arguments.rows or (20_000 if arguments.quick else 100_000)
    rounds, seconds = (2, 2.0) if arguments.quick else (5, 4.0)
    config, params = MilvusConfig(num_partitions=1, num_shards=2), SearchParams()
    rng = np.random.default_rng(SEED)
    vectors = clustered(rng, rows)
    queries = queries_near(rng, vectors, QUERIES)
    nearest = [set(best.tolist()) for best in exact(vectors, queries, K)]
    report = Report(
        "bench_search",
        {"rows": rows, "k": K, "queries": QUERIES, "rounds": rounds, "seconds": seconds, "seed": SEED}
        | {"hnsw_m": config.hnsw_m, "hnsw_ef_construction": config.hnsw_ef_construction, "ef": params.ef},
    )
    with console.status("starting Milvus …") as status, MilvusStandalone(workdir) as server:
        status.update(f"filling {rows:,} rows …")
        await asyncio.to_thread(fill, connect(config, server.uri), config, vectors)
        status.update("building FAISS's index …")
        index = await asyncio.to_thread(_faiss, vectors, config, params)
        searcher = MilvusSearcher([server.uri], config, alias(CATALOGUE, FINGERPRINT), params)
        async with async_client(config, server.uri) as client:
            sides = {
                "bare pymilvus": _bare(client, params),
                "Shoplens": by_searcher(searcher),
                "FAISS HNSW": _in_process(index),
            }
            status.update("measuring …")
            for name, ask in sides.items():
                report.rows.append({"side": name, "recall@10": await measured_recall(ask, queries, nearest)})
            overhead_ms = await _overhead(sides, queries, 500 if arguments.quick else 3_000, report)
            await _throughput(sides, queries, rounds, seconds, report)
        await searcher.close()
        status.update("copying, exporting and restoring the index …")
        await asyncio.to_thread(_replace, server.uri, config, workdir / "export", report)
    recalls = {row["side"]: row["recall@10"] for row in report.rows if "recall@10" in row}
    report.goals.append(Goal("overhead per search, ms", overhead_ms, OVERHEAD_GOAL_MS, "lower"))
    report.goals.append(Goal("recall@10 to bare", recalls["Shoplens"] / recalls["bare pymilvus"], 1.0, "higher"))
    return report


def _replace(uri: str, config: MilvusConfig, folder: Path, report: Report) -> None:
    """Time what makes another index of the same rows: from the first one, to files, from files."""
    client = connect(config, uri)
    name = indexing.resolve(client, alias(CATALOGUE, FINGERPRINT))
    assert name is not None
    rows = indexing.count(client, name)
    copy = lifecycle.create(client, config, CATALOGUE, FINGERPRINT, datetime.now(UTC))
    work: dict[str, Callable[[], Any]] = {
        "backfill": lambda: backfill(client, uri, config, CATALOGUE, copy),
        "export": lambda: export(client, CATALOGUE, name, folder),
        "restore": lambda: restore(client, config, CATALOGUE, folder, datetime.now(UTC) + timedelta(minutes=1)),
    }
    for what, run in work.items():
        started_s = time.monotonic()
        run()
        seconds = time.monotonic() - started_s
        report.rows.append(
            {"work": what, "rows": rows, "seconds": seconds, "min per million": seconds / rows * 1e6 / 60}
        )
    client.close()


def _rows(vectors: Embeddings) -> Iterator[Row]:
    for number, vector in enumerate(vectors):
        yield make_row(str(number), vector, number)


def fill(client: MilvusClient, config: MilvusConfig, vectors: Embeddings, first: int = 0) -> None:
    """Write all rows from the first on, wait until they are indexed, and close the client; raises TimeoutError."""
    indexing.ensure(client, config, CATALOGUE, FINGERPRINT, datetime.now(UTC))
    name = alias(CATALOGUE, FINGERPRINT)
    writer = MilvusWriter(client, name, config)
    rows = itertools.islice(_rows(vectors), first, None)
    while chunk := list(itertools.islice(rows, WRITE_ROWS)):
        writer.write(chunk)
    writer.flush()
    wait_until_indexed(client, name, len(vectors))
    client.close()


def _faiss(vectors: Embeddings, config: MilvusConfig, params: SearchParams) -> Any:
    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(EMBEDDING_DIM, config.hnsw_m, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = config.hnsw_ef_construction
    index.hnsw.efSearch = params.ef
    index.add(vectors)
    return index


def _bare(client: AsyncMilvusClient, params: SearchParams) -> Ask:
    async def ask(query: Any) -> list[str]:
        (hits,) = await client.search(
            alias(CATALOGUE, FINGERPRINT),
            data=[query],
            anns_field="vector",
            limit=K,
            output_fields=list(HIT_FIELDS),
            search_params={"metric_type": "COSINE", "params": {"ef": params.ef}},
        )
        return [hit["entity"]["image_id"] for hit in hits]

    return ask


def by_searcher(searcher: MilvusSearcher) -> Ask:
    async def ask(query: Any) -> list[str]:
        return [hit.image_id for hit in (await searcher.search(query[None], K)).hits[0]]

    return ask


def _in_process(index: Any) -> Ask:
    async def ask(query: Any) -> list[str]:
        return [str(number) for number in index.search(query[None], K)[1][0]]

    return ask


async def measured_recall(ask: Ask, queries: Embeddings, nearest: Sequence[set[int]]) -> float:
    shares = [
        len({int(found) for found in await ask(query)} & best) / K for query, best in zip(queries, nearest, strict=True)
    ]
    return statistics.mean(shares)


async def _overhead(sides: dict[str, Ask], queries: Embeddings, count: int, report: Report) -> float:
    """Time single searches, one side after the other on each query; return what ours takes more than bare, ms."""
    times_ms: dict[str, list[float]] = {name: [] for name in sides}
    more_ms = []
    orders = itertools.cycle(itertools.permutations(sides))
    for number in range(count):
        query = queries[number % QUERIES]
        # Each comes after each other as often: a processor that FAISS has just heated answers Milvus's callers later.
        for name in next(orders):
            started_s = time.perf_counter()
            await sides[name](query)
            times_ms[name].append((time.perf_counter() - started_s) * 1e3)
        more_ms.append(times_ms["Shoplens"][-1] - times_ms["bare pymilvus"][-1])
    for name, taken in times_ms.items():
        report.rows.append({"alone": name, "p50 ms": percentile(taken, 0.5), "p99 ms": percentile(taken, 0.99)})
    return statistics.median(more_ms)


async def _throughput(sides: dict[str, Ask], queries: Embeddings, rounds: int, seconds: float, report: Report) -> None:
    for at_once in CONCURRENCY:
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(rounds):
            for name in list(sides) if turn % 2 else list(sides)[::-1]:
                rates[name].append(await measured_rate(sides[name], queries, at_once, seconds))
        for name, found in rates.items():
            median, spread = median_and_spread(found)
            report.rows.append({"throughput": name, "in flight": at_once, "searches/s": median, "spread": spread})
        ratios = [ours / bare for ours, bare in zip(rates["Shoplens"], rates["bare pymilvus"], strict=True)]
        report.goals.append(
            Goal(f"throughput to bare, {at_once} in flight", statistics.median(ratios), RATIO_GOAL, "higher")
        )


async def measured_rate(ask: Ask, queries: Embeddings, at_once: int, seconds: float) -> float:
    started_s = time.monotonic()
    answered = 0

    async def client(first: int) -> None:
        nonlocal answered
        for number in itertools.count(first, at_once):
            if time.monotonic() - started_s >= seconds:
                return
            await ask(queries[number % QUERIES])
            answered += 1

    await asyncio.gather(*(client(first) for first in range(at_once)))
    return answered / (time.monotonic() - started_s)


if __name__ == "__main__":
    raise SystemExit(main())
