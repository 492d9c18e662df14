"""A service with stand-in models on the Ray that runs, for benchmarks and drills of what is around the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from scripts.measuring import wait_until
from serve_app.collection import Row, alias
from serve_app.config import Config
from serve_app.domain import EMBEDDING_DIM, View

STAGES = ("Detector", "Embedder")
FINGERPRINT = "0123456789ab"
"""Of the stand-in embedder, unless it is given another."""
PRODUCTS = 200


@dataclass(frozen=True, slots=True)
class Times:
    """Say how long the models sleep: seconds for a photo in the detector, and for a crop in the embedder."""

    photo_s: float
    crop_s: float


def fill(config: Config, uri: str, model: str = FINGERPRINT) -> None:
    """Make the index that a stand-in model's embeddings are searched in."""
    from serve_app.milvus import indexing
    from serve_app.milvus.client import connect
    from serve_app.milvus.writer import MilvusWriter

    draw = np.random.default_rng(1)
    vectors = draw.standard_normal((PRODUCTS, EMBEDDING_DIM)).astype(np.float32)
    client = connect(config.milvus, uri)
    indexing.ensure(client, config.milvus, config.catalogue, model, datetime.now(UTC))
    MilvusWriter(client, alias(config.catalogue, model), config.milvus).write(
        [
            Row(f"image-{number}", View.WHOLE, vector / np.linalg.norm(vector), f"product-{number}", "", "", 1)
            for number, vector in enumerate(vectors)
        ]
    )


def photo(folder: Path) -> Path:
    """Make a photo as large as those that phones send; what it shows is nothing to the stand-ins."""
    path = folder / "photo.jpg"
    noise = np.random.default_rng(1).integers(0, 256, (360, 480, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=80)
    return path


@contextmanager
def serving_stand_ins(
    config: Config, times: Times, changed: Mapping[str, Any], autoscaling: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Yield the service's address; it ends with the block.

    `changed` are settings over those of `config`, `autoscaling` is Ray Serve's for the model stages in place of ours.
    """
    from ray import serve

    from scripts.stand_ins import build_app
    from serve_app.app import APPLICATION, arguments

    args: dict[str, Any] = {"settings": {**arguments(config), **changed}, **asdict(times)}
    if autoscaling is not None:
        args["autoscaling"] = {name: dict(autoscaling) for name in STAGES}
    serve.run(build_app(args), name=APPLICATION, route_prefix="/")
    url = f"http://127.0.0.1:{config.http.port}"
    wait_until(lambda: is_ready(url), timeout_s=120, what="readiness")
    try:
        yield url
    finally:
        serve.delete(APPLICATION)


def is_ready(url: str) -> bool:
    """Ask a service whether it can search."""
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=2).is_success
    except httpx.HTTPError:
        return False
