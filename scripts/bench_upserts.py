"""Write a million made-up images by the last stage of an import into a real Milvus server, while it is searched.

It starts the server by itself, in a network namespace of its own. A tenth is there before; searches come at a steady
rate before the import, during it and after it. An image is one row, looked for among those that show the same picture
and written as an import does it: in portions, some at once, by a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException
from rich.console import Console

from scripts.indexed import wait_until_indexed
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, descendants, memory_mib, percentile
from scripts.milvus_binary import unpack_milvus
from scripts.namespace import go_inside
from scripts.processes import CantStart
from scripts.servers import MilvusStandalone
from scripts.synthetic import clustered, exact, queries_near
from serve_app.catalogue.embedding import Embedded
from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.plan import EmbeddedView, Planned
from serve_app.catalogue.recording import Recorder
from serve_app.collection import alias
from serve_app.config import ImportConfig, MilvusConfig
from serve_app.domain import WHOLE_BOX, Detection, Embeddings, View
from serve_app.errors import ShoplensError
from serve_app.milvus import indexing
from serve_app.milvus.client import connect
from serve_app.milvus.searcher import MilvusSearcher
from serve_app.milvus.writer import MilvusWriter

SEED = 20_261_125
CATALOGUE, FINGERPRINT = "bench", "0123456789ab"
ROWS, QUICK_ROWS = 1_000_000, 30_000
BEFORE = 0.1
"""Part of the rows that is there before the import."""
K = 10
QUERIES = 500
RATE = 10.0
"""Searches a second."""
ALONE_S = 30.0
DEADLINE_S = 5.0
SAMPLE_S = 5.0
REPORT_EACH = 64
"""Portions after which the writing process tells how far it is."""
RECALL_GOAL = 0.95
CONFIG = MilvusConfig(num_partitions=1, num_shards=2, search_deadline_s=DEADLINE_S - 0.2)


def main() -> int:
    arguments = _arguments()
    if arguments.write:
        uri, vectors, *numbers = arguments.write
        _write(uri, Path(vectors), *map(int, numbers))
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if not arguments.inside:
            unpack_milvus()
            go_inside("scripts.bench_upserts")
        with tempfile.TemporaryDirectory(prefix="shoplens-upserts-") as scratch:
            report = asyncio.run(run(arguments, Path(scratch), console))
    except (CantStart, ShoplensError, MilvusException, TimeoutError, OSError, subprocess.SubprocessError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    except KeyboardInterrupt:
        return 130
    return report.finish(console, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROWS:,} rows instead of {ROWS:,}")
    parser.add_argument("--rows", type=int, help="so many rows instead")
    parser.add_argument("--images-at-once", type=int, default=64, help="as in import.images_at_once (default: 64)")
    parser.add_argument("--writes-at-once", type=int, default=16, help="as in import.writes_at_once (default: 16)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=6, help=argparse.SUPPRESS)
    return parser.parse_args()


@dataclass
class Seen:
    """Hold what became of searches: milliseconds of those that were answered, and the errors of others."""

    taken_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    flagged: int = 0


@dataclass
class Written:
    """Hold how an import went: images by seconds, and the memory of the server and of the writer by seconds, MiB."""

    at_s: list[tuple[float, int]] = field(default_factory=list)
    memory: list[tuple[float, float, float]] = field(default_factory=list)

    def rate(self, first: float, last: float) -> float:
        """Return the images a second between two parts (0…1) of the import."""
        (start_s, start), (end_s, end) = (self.at_s[round(part * (len(self.at_s) - 1))] for part in (first, last))
        return (end - start) / (end_s - start_s)


async def run(arguments: argparse.Namespace, workdir: Path, console: Console) -> Report:
    """Measure; raises CantStart, ShoplensError, CalledProcessError and TimeoutError."""
    rows = arguments.rows or (QUICK_ROWS if arguments.quick else ROWS)
    before = int(BEFORE * rows)
    rng = np.random.default_rng(SEED)
    vectors = clustered(rng, rows)
    queries = queries_near(rng, vectors, QUERIES)
    nearest = [set(best.tolist()) for best in exact(vectors, queries, K)]
    file = workdir / "vectors.npy"
    np.save(file, vectors)
    del vectors
    options = ImportConfig(images_at_once=arguments.images_at_once, writes_at_once=arguments.writes_at_once)
    settings = {"rows": rows, "before": before, "searches/s": RATE, "deadline_s": DEADLINE_S, "seed": SEED}
    settings |= {"images_at_once": options.images_at_once, "writes_at_once": options.writes_at_once}
    report = Report("bench_upserts", settings)
    with console.status("starting Milvus …") as status, MilvusStandalone(workdir / "milvus") as server:
        status.update(f"writing the first {before:,} rows …")
        client = connect(CONFIG, server.uri)
        indexing.ensure(client, CONFIG, CATALOGUE, FINGERPRINT, datetime.now(UTC))
        await _import(server, options, file, 0, before)
        await asyncio.to_thread(_settle, client, before)
        searcher = MilvusSearcher([server.uri], CONFIG, alias(CATALOGUE, FINGERPRINT))
        status.update("searching before …")
        seen = {"before": await _search(searcher, queries, asyncio.create_task(asyncio.sleep(ALONE_S)))}
        status.update(f"writing {rows - before:,} rows more …")
        importing = asyncio.create_task(_import(server, options, file, before, rows))
        seen["during"] = await _search(searcher, queries, importing)
        status.update("waiting for the index …")
        started_s = time.monotonic()
        await asyncio.to_thread(_settle, client, rows)
        indexed_s = time.monotonic() - started_s
        status.update("searching after …")
        seen["after"] = await _search(searcher, queries, asyncio.create_task(asyncio.sleep(ALONE_S)))
        recall = await _recall(searcher, queries, nearest)
        count = await asyncio.to_thread(MilvusWriter(client, alias(CATALOGUE, FINGERPRINT), CONFIG).count)
        server_mib = memory_mib(server.pid or 0)
        await searcher.close()
    _report(report, importing.result(), seen)
    report.rows.append({
        "index": "at the end", "rows": count, "recall@10": recall, "indexed after s": indexed_s,
        "server, MiB": server_mib, "server, bytes a row": server_mib * 2**20 / rows,
    })  # fmt: skip
    report.goals += [
        Goal("rows in the index", count, rows, "higher"),
        Goal("recall@10", recall, RECALL_GOAL, "higher"),
        Goal("searches failed", sum(len(each.errors) for each in seen.values()), 0, "lower"),
        Goal("searches flagged as partial", sum(each.flagged for each in seen.values()), 0, "lower"),
    ]
    return report


def _report(report: Report, written: Written, seen: dict[str, Seen]) -> None:
    for first in range(4):
        start_s, end_s = (
            written.at_s[round(part * (len(written.at_s) - 1))][0] for part in (first / 4, (first + 1) / 4)
        )
        memory = [sample[1:] for sample in written.memory if start_s <= sample[0] <= end_s] or [(0.0, 0.0)]
        server, writer = (statistics.mean(column) for column in zip(*memory, strict=True))
        rate = written.rate(first / 4, (first + 1) / 4)
        report.rows.append(
            {"quarter of the import": first + 1, "images/s": rate, "server, MiB": server, "writer, MiB": writer}
        )
    report.rows.append(
        {"import": "the whole", "images/s": written.rate(0, 1), "min per million": 1e6 / written.rate(0, 1) / 60}
    )
    for when, each in seen.items():
        report.rows.append({
            "searches": when, "count": len(each.taken_ms) + len(each.errors), "failed": len(each.errors),
            "p50 ms": percentile(each.taken_ms, 0.5), "p99 ms": percentile(each.taken_ms, 0.99),
            "p50 to before": percentile(each.taken_ms, 0.5) / percentile(seen["before"].taken_ms, 0.5),
        })  # fmt: skip
        report.rows += [{"failed search": when, "error": error} for error in sorted(set(each.errors))]


async def _search(searcher: MilvusSearcher, queries: Embeddings, until: asyncio.Task[object]) -> Seen:
    """Search at RATE, however long answers take, until a task is done; raises what the task raises."""
    seen = Seen()

    async def ask(number: int, due_s: float) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                found = await searcher.search(queries[number % len(queries)][None], K)
        except TimeoutError:
            seen.errors.append(f"no answer within {DEADLINE_S:g} s")
        except ShoplensError as error:
            seen.errors.append(f"{error.code}: {error.message[:120]}")
        else:
            seen.taken_ms.append((time.monotonic() - due_s) * 1e3)
            seen.flagged += bool(found.degraded)

    started_s = time.monotonic()
    number = 0
    async with asyncio.TaskGroup() as tasks:
        while not until.done():
            due_s = started_s + number / RATE
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            tasks.create_task(ask(number, due_s))
            number += 1
    until.result()
    return seen


async def _import(server: MilvusStandalone, options: ImportConfig, file: Path, first: int, last: int) -> Written:
    """Write rows in a process of its own, and watch; raises CalledProcessError."""
    numbers = map(str, (first, last, options.images_at_once, options.writes_at_once))
    command = [sys.executable, "-m", "scripts.bench_upserts", "--write", server.uri, str(file), *numbers]
    written = Written()
    started_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None

    async def sample() -> None:
        while True:
            with_children = [server.pid or 0, *descendants(server.pid or 0)]
            memory = sum(memory_mib(pid) for pid in with_children), memory_mib(process.pid)
            written.memory.append((time.monotonic() - started_s, *memory))
            await asyncio.sleep(SAMPLE_S)

    sampling = asyncio.create_task(sample())
    async for line in process.stdout:
        written.at_s.append((time.monotonic() - started_s, json.loads(line)))
    sampling.cancel()
    if await process.wait():
        raise subprocess.CalledProcessError(process.returncode or 1, command)
    return written


def _write(uri: str, file: Path, first: int, last: int, images_at_once: int, writes_at_once: int) -> None:
    """Write rows as the writers of an import do, and print how many were acknowledged, again and again."""
    vectors = np.load(file, mmap_mode="r")
    recorder = Recorder(MilvusWriter(connect(CONFIG, uri), alias(CATALOGUE, FINGERPRINT), CONFIG))

    def portion(start: int) -> int:
        numbers = range(start, min(start + images_at_once, last))
        outcomes, _ = recorder.record([_image(number, np.array(vectors[number])) for number in numbers])
        return len(outcomes)

    done = 0
    print(done, flush=True)
    starts = range(first, last, images_at_once)
    with ThreadPoolExecutor(writes_at_once) as threads:
        for begin in range(0, len(starts), REPORT_EACH):
            done += sum(threads.map(portion, starts[begin : begin + REPORT_EACH]))
            print(done, flush=True)


def _image(number: int, vector: Embeddings) -> Embedded:
    """Return one image that shows what no other does, as the models hand it on."""
    entry = Entry(number, f"{number}.jpg", f"p{number}", str(number))
    phash = np.random.default_rng(number).bytes(8).hex()
    planned = Planned(entry, "0" * 64, "0" * 12, updated_at=0, phash=phash)
    return Embedded(planned, {View.WHOLE: EmbeddedView(Detection(WHOLE_BOX), vector)}, frozenset())


def _settle(client: MilvusClient, rows: int) -> None:
    """Wait until what was written is sealed, indexed and loaded; raises TimeoutError."""
    name = alias(CATALOGUE, FINGERPRINT)
    MilvusWriter(client, name, CONFIG).flush()
    wait_until_indexed(client, name, rows)


async def _recall(searcher: MilvusSearcher, queries: Embeddings, nearest: Sequence[set[int]]) -> float:
    shares = []
    for query, best in zip(queries, nearest, strict=True):
        found = await searcher.search(query[None], K)
        shares.append(len({int(hit.image_id) for hit in found.hits[0]} & best) / K)
    return statistics.mean(shares)


if __name__ == "__main__":
    raise SystemExit(main())
