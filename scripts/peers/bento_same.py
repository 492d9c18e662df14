"""BentoML around the models and the search of Shoplens: `bentoml serve scripts.peers.bento_same:Search`.

Each model is a service with a batchable API, in a process of its own, and a third one composes them:
https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html.
"""

# Without `from __future__ import annotations`: BentoML reads the types of an API's arguments.

import asyncio
import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np

from scripts.peers import pure

BATCH = int(os.environ["PEER_BATCH"])
CROPS_PER_PHOTO = 4
"""Three objects and the whole, as a batch counts crops where the embedder is asked."""


@bentoml.service
class Detector:
    def __init__(self) -> None:
        self.config = pure.settings()
        self.model = pure.load_detector(self.config)

    @bentoml.api(batchable=True, max_batch_size=BATCH)  # type: ignore[untyped-decorator]
    def see(self, photos: list[bytes]) -> list[Any]:
        return pure.see(self.model, photos, self.config)


@bentoml.service
class Embedder:
    def __init__(self) -> None:
        self.model = pure.load_embedder(pure.settings())

    # A request's crops are never divided, so that a batch has room for those of one photo at least.
    @bentoml.api(batchable=True, max_batch_size=BATCH * CROPS_PER_PHOTO)  # type: ignore[untyped-decorator]
    def embed(self, crops: np.ndarray) -> np.ndarray:
        return self.model.embed(crops)


@bentoml.service
class Search:
    detector = bentoml.depends(Detector)
    embedder = bentoml.depends(Embedder)

    def __init__(self) -> None:
        self.search: pure.Search | None = None

    @bentoml.api(route="/v1/search")  # type: ignore[untyped-decorator]
    async def predict(self, photo: Path) -> dict[str, Any]:
        if self.search is None:
            # In the loop that searches.
            self.search = pure.Search(pure.settings())
        data = await asyncio.to_thread(photo.read_bytes)
        (seen,) = await self.detector.to_async.see([data])
        embeddings = await self.embedder.to_async.embed(seen["crops"])
        # Between services, dataclasses become dictionaries.
        return await self.search.products(pure.detections(seen["detections"]), embeddings)
