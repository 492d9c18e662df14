"""The bare pipeline in a process of its own, without Ray or HTTP: what services are compared with.

`python -m scripts.bare_side --data-dir DIR --threads N` takes orders as lines of JSON on its standard input, the
photos' paths first, and answers each of the others with one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.closed_loop import Outcome, Search, drive
from serve_app.config import Config, load_config
from serve_app.objects import Focus
from serve_app.pipeline import Query

OBJECTS = 3
"""What a search with default settings looks for; 0 is the whole photo alone."""


class Bare:
    """Talk to such a process."""

    def __init__(self, process: subprocess.Popen[str], threads: int) -> None:
        self.process = process
        self.threads = threads

    @property
    def pid(self) -> int:
        return self.process.pid

    def round(self, searches: int, in_flight: int, objects: int = OBJECTS) -> Outcome:
        """Keep so many searches in flight; raises SubprocessError where the process has ended."""
        return self._ask({"searches": searches, "in_flight": in_flight, "objects": objects})

    def when_due(self, due_s: Sequence[float], objects: int = OBJECTS) -> Outcome:
        """Begin a search at each of these seconds; latencies count from them. Raises SubprocessError."""
        return self._ask({"due_s": list(due_s), "objects": objects})

    def tell(self, order: Mapping[str, Any]) -> None:
        """Send a line."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def _ask(self, order: Mapping[str, Any]) -> Outcome:
        assert self.process.stdout
        self.tell(order)
        line = self.process.stdout.readline()
        if not line:
            raise subprocess.SubprocessError("the bare pipeline ended; its reason stands above")
        outcome: Outcome = json.loads(line)
        return outcome


@contextmanager
def bare_process(data_dir: Path, photos: Sequence[Path], threads: int, settings: Mapping[str, str]) -> Iterator[Bare]:
    """Yield the bare pipeline with so many threads for each model; `settings` are environment variables."""
    command = [sys.executable, "-m", "scripts.bare_side", "--data-dir", str(data_dir), "--threads", str(threads)]
    process = subprocess.Popen(
        command, env={**os.environ, **settings}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        bare = Bare(process, threads)
        bare.tell({"photos": [str(path) for path in photos]})
        yield bare
    finally:
        process.terminate()
        process.wait()


def with_threads(config: Config, threads: int) -> Config:
    """Return the settings with so many threads for each model."""
    return config.model_copy(
        update={
            stage: getattr(config, stage).model_copy(update={"threads": threads}) for stage in ("detector", "embedder")
        }
    )


async def serve(config: Config, photos: Sequence[bytes]) -> None:
    """Do what standard input asks for."""
    from serve_app.inprocess import searching

    assert config.milvus.uri
    async with searching(config, config.milvus.uri) as local:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            query = Query(focus=Focus(objects=order["objects"]))

            async def search(photo: bytes, query: Query = query) -> dict[str, float]:
                return (await local.pipeline.run(photo, query)).timings_ms

            if "due_s" in order:
                outcome = await when_due(search, photos, order["due_s"])
            else:
                outcome = await drive(search, photos, order["searches"], order["in_flight"])
            print(json.dumps(outcome), flush=True)


async def when_due(search: Search, photos: Sequence[bytes], due_s: Sequence[float]) -> Outcome:
    """Begin each search when it is due, whatever became of those before it."""
    started = time.perf_counter()

    async def one(due: float, photo: bytes) -> tuple[dict[str, float], float]:
        await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
        stages = await search(photo)
        return stages, (time.perf_counter() - started - due) * 1e3

    done = await asyncio.gather(*(one(due, photo) for due, photo in zip(due_s, itertools.cycle(photos), strict=False)))
    return {
        "seconds": time.perf_counter() - started,
        "latencies_ms": [latency for _, latency in done],
        "stages": [stages for stages, _ in done],
        "failed": [],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True, help="threads of each model")
    arguments = parser.parse_args()
    photos = [Path(path).read_bytes() for path in json.loads(sys.stdin.readline())["photos"]]
    asyncio.run(serve(with_threads(load_config(data_dir=arguments.data_dir), arguments.threads), photos))


if __name__ == "__main__":
    main()
