"""Ray Serve around the models and the search of Shoplens, as its documentation composes models and batches requests.

https://docs.ray.io/en/latest/serve/model_composition.html, …/serve/advanced-guides/dyn-req-batch.html.
"""

# Without `from __future__ import annotations`: FastAPI reads the types of a route in a process that did not import it.

import os
from typing import Any

import ray
from fastapi import FastAPI, UploadFile
from ray import serve

from scripts.peers import pure

BATCH = int(os.environ["PEER_BATCH"])
WAIT_S = float(os.environ["PEER_WAIT_MS"]) / 1e3
ONGOING = int(os.environ["PEER_ONGOING"])
"""Requests that a replica works on at once: by Ray Serve's default, five, so that no batch is larger."""

app = FastAPI()


@serve.deployment(max_ongoing_requests=ONGOING)
class Detector:
    def __init__(self) -> None:
        self.config = pure.settings()
        self.model = pure.load_detector(self.config)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_S)
    async def see(self, photos: list[bytes]) -> list[Any]:
        return pure.see(self.model, photos, self.config)


@serve.deployment(max_ongoing_requests=ONGOING)
class Embedder:
    def __init__(self) -> None:
        self.model = pure.load_embedder(pure.settings())

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=WAIT_S)
    async def embed(self, crops: list[Any]) -> list[Any]:
        return pure.embed(self.model, crops)


@serve.deployment(max_ongoing_requests=ONGOING)
@serve.ingress(app)
class Ingress:
    def __init__(self, detector: Any, embedder: Any) -> None:
        self.detector, self.embedder = detector, embedder
        self.search: pure.Search | None = None

    @app.post("/v1/search")
    async def predict(self, photo: UploadFile) -> dict[str, Any]:
        if self.search is None:
            # In the loop that searches.
            self.search = pure.Search(pure.settings())
        seen = await self.detector.see.remote(await photo.read())
        embeddings = await self.embedder.embed.remote(seen.crops)
        return await self.search.products(seen.detections, embeddings)


if __name__ == "__main__":
    # Each deployment asks for one CPU, and there may be fewer than three here.
    ray.init("local", num_cpus=4, include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    serve.run(Ingress.bind(Detector.bind(), Embedder.bind()), name="peer", blocking=True)  # type: ignore[attr-defined]
