"""What a crop that a phone cut and compressed finds, against the same box of the photo cut by the service."""

from __future__ import annotations

import asyncio
import hashlib
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageOps

from serve_app.config import Config
from serve_app.domain import PATIENT, WHOLE_BOX, Box, Crops, Embedding, Source, Terms
from serve_app.errors import BadInput, BadManifest
from serve_app.evaluation.gallery import Gallery, read_gallery
from serve_app.evaluation.memory_index import MemoryIndex
from serve_app.evaluation.models import Models
from serve_app.evaluation.offline import shelve
from serve_app.evaluation.photos import Photos
from serve_app.images import decode
from serve_app.objects import Focus, choose_objects
from serve_app.pipeline import Embedded, Pipeline, Query, SearcherStage
from serve_app.stages import BatchedEmbedder, WholePhoto

QUALITY = 90
TOP_K = 10
FEW_PRODUCTS = 100
"""A set that names fewer is searched image by image: ten of fewer than so many would be shared by chance."""
MIDDLE = Box(0.2, 0.2, 0.8, 0.8)
"""What a phone cuts of a photo that nothing was found in."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Hold how alike two ways of sending one thing are."""

    cosine: float
    shared: int
    crop_bytes: int


def phone_crop(photo: bytes, box: Box) -> bytes:
    """Return what a phone sends: its own photo, upright, cut to the box at full size, as JPEG."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(photo))).convert("RGB")
    width, height = image.size
    left, top = round(box.x0 * width), round(box.y0 * height)
    right, bottom = max(left + 1, round(box.x1 * width)), max(top + 1, round(box.y1 * height))
    buffer = io.BytesIO()
    image.crop((left, top, right, bottom)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def sampled(gallery: Gallery, images: int) -> Gallery:
    """Return so many images of a set, the same ones each time, each a product of its own where there are few."""
    drawn = sorted(gallery.entries, key=lambda entry: hashlib.sha256(entry.image_id.encode()).digest())[:images]
    if len(gallery.products) < FEW_PRODUCTS:
        drawn = [replace(entry, product_id=entry.image_id) for entry in drawn]
    return Gallery(drawn, gallery.base)


def compare(path: Path, images: int, photos: int, models: Models, config: Config) -> list[Likeness]:
    """Search a set's images with crops of some of its photos, each sent both ways; raises BadManifest."""
    gallery = sampled(read_gallery(path)[0], images)
    index, _ = shelve(gallery, models, config, lambda _: None)
    if not len(index):
        raise BadManifest("none of the set's images could be indexed; the log says why")
    with Photos(config) as files:
        return asyncio.run(_compare(gallery, index, photos, models, config, files))


async def _compare(
    gallery: Gallery, index: MemoryIndex, photos: int, models: Models, config: Config, files: Photos
) -> list[Likeness]:
    embedder = BatchedEmbedder(models.embedder, config.embedder)
    whole = WholePhoto(config.limits.max_pixels)
    rows = config.searcher.candidates_per_product
    likenesses = []
    try:
        for entry in gallery.entries[:photos]:
            try:
                photo = files.file(entry.image, gallery.base)
                box = _box(photo, models)
            except BadInput:
                continue
            # A photo would find itself, whatever is done to it.
            both = BothWays(whole, embedder, index.without([entry.image_id]), rows)
            likenesses.append(await both.likeness(photo, box))
    finally:
        await embedder.close()
    if not likenesses:
        raise BadManifest("none of the set's photos could be read")
    return likenesses


def _box(photo: bytes, models: Models) -> Box:
    (found,) = models.detector.find([decode(photo)])
    best = choose_objects(found, 1)
    return best[0].box if best else MIDDLE


class BothWays:
    """Search with a box of a photo, and with that box as a phone sends it, as the service does."""

    def __init__(self, whole: WholePhoto, embedder: BatchedEmbedder, searcher: SearcherStage, rows: int) -> None:
        self._embedder = embedder
        self._last: Embedded | None = None
        self._pipeline = Pipeline(whole, self, searcher, rows_per_product=rows)

    async def embed(self, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        """Embed, and keep it: an answer does not hold what was searched with."""
        self._last = await self._embedder.embed(crops, terms)
        return self._last

    async def likeness(self, photo: bytes, box: Box) -> Likeness:
        crop = phone_crop(photo, box)
        cut, products = await self._search(photo, Focus(boxes=(box,)))
        sent, same = await self._search(crop, Focus(boxes=(WHOLE_BOX,), source=Source.DEVICE))
        return Likeness(float(cut @ sent), len(set(products) & set(same)), len(crop))

    async def _search(self, photo: bytes, focus: Focus) -> tuple[Embedding, list[str]]:
        answer = await self._pipeline.run(photo, Query(top_k=TOP_K, focus=focus))
        assert self._last is not None
        return self._last.embeddings[0], [hit.product_id for hit in answer.lists[0].products or ()]


def row(name: str, likenesses: Sequence[Likeness]) -> dict[str, object]:
    """Return the figures of one set."""
    cosines = [each.cosine for each in likenesses]
    return {
        "set": name,
        "crops": len(likenesses),
        "cosine, median": statistics.median(cosines),
        "cosine, least": min(cosines),
        "of 10 products shared, median": statistics.median(each.shared for each in likenesses),
        "least": min(each.shared for each in likenesses),
        "kB a crop": statistics.median(each.crop_bytes for each in likenesses) / 1e3,
    }
