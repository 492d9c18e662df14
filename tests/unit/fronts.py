"""The service behind the API in one process, with the real batchers, decoder and store, and models that see nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.changes import Changed, Result
from serve_app.collection import IndexState
from serve_app.config import Config
from serve_app.domain import EMBEDDING_DIM, PATIENT, Box, Detection
from serve_app.front import Front
from serve_app.index_watch import IndexWatch, Replicas
from serve_app.keeping import Bounds, ShelfStore
from serve_app.pipeline import Embedded, Found, Stored
from serve_app.stages import BatchedDetector, BatchedEmbedder
from serve_app.writes import Writes
from tests.unit.builders import hit

MODEL = "0123456789ab"
CHAIR = Detection(Box(0.1, 0.1, 0.4, 0.4), "chair", 0.8)


class FindingModel:
    """Find the same chair in each photo."""

    def find(self, photos):
        return [(CHAIR,) for _ in photos]


class MeanModel:
    """Embed a crop by the mean of each of its colours."""

    def __init__(self, fingerprint: str = MODEL) -> None:
        self.fingerprint = fingerprint

    def embed(self, crops):
        rows = np.zeros((len(crops), EMBEDDING_DIM), np.float32)
        rows[:, :3] = crops.reshape(len(crops), -1, 3).mean(axis=1) + 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class StagesHere:
    """Be all stages: detector and embedder as a replica has them, and a searcher of canned rows."""

    def __init__(self, config: Config) -> None:
        limits = config.limits
        self.from_zero: tuple[str, ...] = ()
        self.detector = BatchedDetector(
            FindingModel(), config.detector, max_pixels=limits.max_pixels, max_objects=limits.max_objects
        )
        self.embedder = BatchedEmbedder(MeanModel(), config.embedder)
        self.rows = [hit(f"p{number}", 0.9 - number / 1000) for number in range(300)]
        self.degraded: tuple[str, ...] = ()
        self.asked: list[str] = []
        self.before_search: Callable[[], None] = lambda: None

    async def detect(self, photo, focus, terms=PATIENT):
        self.asked.append("detect")
        return await self.detector.detect(photo, focus, terms)

    async def views(self, image, terms=PATIENT):
        return await self.detector.views(image, terms)

    async def embed(self, crops, terms=PATIENT):
        self.asked.append("embed")
        return await self.embedder.embed(crops, terms)

    async def embed_as(self, model, crops, terms=PATIENT):
        return Embedded((await self.embedder.embed(crops, terms)).embeddings, model)

    async def embed_in_shadow(self, model, crops, terms=PATIENT):
        self.asked.append("shadow")
        return Embedded((await self.embedder.embed(crops, terms)).embeddings, model)

    async def search(self, embedded, k, wanted=None, strong=False, terms=PATIENT):
        self.asked.append("search")
        self.before_search()
        return Found([self.rows[:k] for _ in embedded.embeddings], 1_000, f"products_{embedded.model}", self.degraded)

    async def refresh(self, model, ranked, terms=PATIENT):
        known = {each.product_id: each for each in self.rows}
        return Found([[known[each.product_id] for each in ranked]], 1_000, f"products_{model}")

    async def product(self, model, product_id, vectors=False, strong=False, terms=PATIENT):
        return Stored((), 1_000)

    async def image(self, model, image_id, terms=PATIENT):
        return None

    def is_waking(self) -> bool:
        return False

    async def close(self) -> None:
        await self.detector.close()
        await self.embedder.close()


class Tally:
    """Keep what a front counts."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.known: list[bool] = []
        self.codes_in_shadow: list[str] = []

    def ended(self, code, timings_ms, degraded):
        self.codes.append(code)

    def looked_up(self, known):
        self.known.append(known)

    def repeated(self, outcome):
        self.codes_in_shadow.append(outcome.code)

    def not_repeated(self):
        self.codes_in_shadow.append("dropped")

    def stands(self, in_work, capacity):
        pass


class Index:
    """Be what the alias stands for."""

    collection: str | None = "products_a"

    async def state(self) -> IndexState:
        return IndexState(self.collection, loaded=True)


class HereFront(Front):
    """A front with the parts that it was made of."""

    stages: StagesHere
    tally: Tally
    seen_index: Index

    async def metrics(self) -> str:
        return ""


class Storing:
    """Store every change, and say so."""

    def apply(self, changes):
        return [Changed(change.product_id, change.at_ms or 0, Result.STORED) for change in changes]


@contextlib.contextmanager
def _storing() -> Iterator[Storing]:
    yield Storing()


class NoTurns:
    """Let nobody wait for products."""

    @contextlib.asynccontextmanager
    async def held(self, products):
        yield


def settings(folder: Path, **sections: Any) -> Config:
    """Return settings of a service that has no Milvus: sections replace the defaults."""
    return Config(**{"data_dir": folder, "milvus": {"uri": "http://127.0.0.1:1"}, **sections})


@contextlib.asynccontextmanager
async def front(config: Config) -> AsyncIterator[HereFront]:
    """Have a front that has seen its index; use it in the event loop that it is made in."""
    index, tally, stages = Index(), Tally(), StagesHere(config)
    watch = IndexWatch("products_x", index.state, lambda: {"Detector": Replicas(1)}, ingress="Ingress")
    bounds = Bounds(config.store.max_bytes, config.store.max_bytes_per_key, config.store.expiry_s)
    made = HereFront(
        config,
        MODEL,
        stages,
        ShelfStore(bounds, time.monotonic),
        signing_key=b"key",
        writes=Writes(_storing, NoTurns(), 5),
        curve=None,
        watch=watch,
        counts=tally,
    )
    made.stages, made.tally, made.seen_index = stages, tally, index
    await watch.look()
    try:
        yield made
    finally:
        await made.close()
        await stages.close()
