"""Search an index of a real Milvus server while it is small, larger and large: what a search takes, finds and costs.

The server starts by itself, in a network namespace of its own, and the index grows in it. The queries lie near rows
that are there from the start, and are held against exact search over what is there by then.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pymilvus.exceptions import MilvusException
from rich.console import Console

from scripts.bench_search import (
    CATALOGUE,
    FINGERPRINT,
    QUERIES,
    SEED,
    Ask,
    K,
    by_searcher,
    fill,
    measured_rate,
    measured_recall,
)
from scripts.measuring import EXIT_COULD_NOT_RUN, Report, descendants, memory_mib, percentile
from scripts.milvus_binary import unpack_milvus
from scripts.namespace import go_inside
from scripts.processes import CantStart
from scripts.servers import MilvusStandalone
from scripts.synthetic import clustered, exact, queries_near
from serve_app.collection import alias
from serve_app.config import MilvusConfig, SearchParams
from serve_app.domain import Embeddings
from serve_app.errors import ShoplensError
from serve_app.milvus.client import connect
from serve_app.milvus.searcher import MilvusSearcher

SIZES, QUICK_SIZES = (10_000, 100_000, 1_000_000), (2_000, 10_000)
AT_ONCE = 8


def main() -> int:
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 140)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not arguments.inside:
            unpack_milvus()
            go_inside("scripts.bench_sizes")
        with tempfile.TemporaryDirectory(prefix="shoplens-bench-") as scratch:
            report = asyncio.run(run(arguments, Path(scratch), console))
    except (CantStart, ShoplensError, MilvusException, TimeoutError, OSError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    except KeyboardInterrupt:
        return 130
    if arguments.plot:
        _plot(report, arguments.plot)
    return report.finish(console, arguments.json)


async def run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
    """Measure; raises CantStart, ShoplensError, TimeoutError."""
    sizes = sorted(arguments.sizes or (QUICK_SIZES if arguments.quick else SIZES))
    searches, seconds = (500, 2.0) if arguments.quick else (3_000, 10.0)
    config, params = MilvusConfig(num_partitions=1, num_shards=2), SearchParams()
    rng = np.random.default_rng(SEED)
    vectors = clustered(rng, sizes[-1])
    queries = queries_near(rng, vectors[: sizes[0]], QUERIES)
    settings = {"k": K, "queries": QUERIES, "searches": searches, "seed": SEED, "ef": params.ef}
    report = Report("bench_sizes", settings)
    with console.status("starting Milvus …") as status, MilvusStandalone(workdir) as server:
        first = 0
        for rows in sizes:
            status.update(f"filling {rows:,} rows …")
            await asyncio.to_thread(fill, connect(config, server.uri), config, vectors[:rows], first)
            status.update(f"searching {rows:,} rows …")
            searcher = MilvusSearcher([server.uri], config, alias(CATALOGUE, FINGERPRINT), params)
            ask, nearest = by_searcher(searcher), [set(best.tolist()) for best in exact(vectors[:rows], queries, K)]
            recall = await measured_recall(ask, queries, nearest)
            alone_ms = await _alone(ask, queries, searches)
            rate = await measured_rate(ask, queries, AT_ONCE, seconds)
            await searcher.close()
            memory = sum(memory_mib(pid) for pid in (server.pid or 0, *descendants(server.pid or 0)))
            report.rows.append(
                {"rows": rows, "p50 ms": percentile(alone_ms, 0.5), "p99 ms": percentile(alone_ms, 0.99)}
                | {f"searches/s, {AT_ONCE} in flight": rate, "recall@10": recall, "Milvus, GiB": memory / 1024}
            )
            first = rows
    return report


async def _alone(ask: Ask, queries: Embeddings, count: int) -> list[float]:
    taken_ms = []
    for number in range(count):
        started_s = time.perf_counter()
        await ask(queries[number % QUERIES])
        taken_ms.append((time.perf_counter() - started_s) * 1e3)
    return taken_ms


def _plot(report: Report, path: Path) -> None:
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    sizes = [row["rows"] for row in report.rows]
    for name in ("p50 ms", "p99 ms"):
        axes.plot(sizes, [row[name] for row in report.rows], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rows of the index")
    axes.set_ylabel("one search at a time, ms")
    axes.legend()
    figure.savefig(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 and 10,000 rows, fewer searches")
    parser.add_argument("--sizes", type=int, nargs="+", help="rows (default: 10,000, 100,000 and a million)")
    parser.add_argument("--plot", type=Path, help="write a plot to this file (.png or .svg)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
