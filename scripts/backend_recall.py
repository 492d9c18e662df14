"""What other numbers cost in recall: products found by each backend's embeddings, against those found by PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from scripts.training_augment import plain
from scripts.training_photos import Luma, Photos, Radios
from scripts.training_protocol import Floats, Ranks, luma_ranks, radio_ranks
from serve_app.embedder import ResNetEmbedder

BATCH = 16


def recall_rows(
    embedders: Mapping[str, ResNetEmbedder], luma: Luma | None, radios: Radios | None
) -> list[dict[str, Any]]:
    """Return recall by set and backend, and what each gains over the first, with intervals.

    Whole photos; gallery and queries by the same backend. The head was fitted with Luma, so its recall flatters; what
    is compared does not.
    """
    sets: list[tuple[Photos, Callable[[Floats], Ranks]]] = []
    if luma:
        sets.append((luma.photos, lambda embeddings: luma_ranks(luma, embeddings, luma.queries)))
    if radios:
        sets.append((radios.photos, lambda embeddings: radio_ranks(radios, embeddings)))
    rows = []
    for photos, ranked in sets:
        found = {name: ranked(embedded(embedder, photos)) for name, embedder in embedders.items()}
        reference = next(iter(found.values()))
        for name, ranks in found.items():
            more = ranks.better_than(reference)
            recall = {figure: str(value) for figure, value in ranks.figures().items()}
            gained = f"{more.value:+.3f} [{more.low:+.3f}, {more.high:+.3f}]"
            rows.append({"photos": photos.name, "embedder": name} | recall | {"R@1 gained": gained})
    return rows


def embedded(embedder: ResNetEmbedder, photos: Photos) -> Floats:
    """Return the embeddings of whole photos."""
    batches = [photos.files[first : first + BATCH] for first in range(0, len(photos), BATCH)]
    return np.concatenate([embedder.embed(np.stack([plain(path) for path in batch])) for batch in batches])
