"""Rows for the index."""

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.collection import Row
from serve_app.domain import EMBEDDING_DIM, Embeddings, Hit, Ranked, View


def embeddings(count: int, seed: int) -> Embeddings:
    """Return embeddings that can't be written to, like those that come from Ray."""
    drawn = np.random.default_rng(seed).normal(size=(count, EMBEDDING_DIM))
    found: Embeddings = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    found.setflags(write=False)
    return found


def embedding(name: str) -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = embeddings(1, seed=zlib.crc32(name.encode()))[0]
    return found


def ranked(hit: Hit) -> Ranked:
    return Ranked(hit.product_id, hit.row_id, hit.score)


def row(image_id: str, view: View = View.WHOLE, **values: Any) -> Row:
    standard = Row(
        image_id=image_id,
        view=view,
        vector=embedding(f"{image_id}#{view}"),
        product_id=f"product of {image_id}",
        image_sha256="1" * 64,
        row_sha256="1" * 64,
        updated_at=1_000,
        category_root="Men",
        category="Men/Tops",
        price=1990,
        currency="EUR",
        data={"title": {"en": image_id}},
    )
    return replace(standard, **values)
