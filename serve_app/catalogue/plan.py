"""What an import has to do for one image, decided by what the index holds of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.reading import Origin
from serve_app.collection import IMAGE_FILE, KnownImage, Row, category_root, check
from serve_app.domain import EMBEDDING_DIM, WHOLE_BOX, Box, Detection, View
from serve_app.fetching import Validators

StoredRow = Mapping[str, Any]
"""`vector`, `image_sha256`, `phash`, `duplicate_of` and `data` of a row, as Milvus gives them."""

RECIPE = "recipe"
"""Key in `data` of the recipe that a row's view was chosen by."""
ORIGIN = "origin"
"""Key in `data` of what asks an image's server whether it still is the same."""
NOT_HASHED = ("row", "image", "at_ms")
"""What of an entry is not in its rows, or changes nothing in them that is searched or shown."""


class Action(StrEnum):
    EMBED = "embed"
    METADATA = "metadata"
    """The image is the stored one, so that its embeddings may be kept."""
    UNCHANGED = "unchanged"
    STALE = "stale"
    """A newer event has written it already."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Name everything beside the embedder that decides which views an image has."""

    detector_sha256: str
    side_px: int
    detector_min_confidence: float
    views: str
    min_confidence: float

    @property
    def digest(self) -> str:
        """Return 12 hex digits."""
        return hashlib.sha256(_canonical(asdict(self))).hexdigest()[:12]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedView:
    """Hold a view of an image with its embedding, float32 (256,)."""

    detection: Detection
    vector: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Planned:
    """Hold an entry whose image has been read, with what its rows will carry beside it.

    `phash` is the perceptual hash of its picture, `duplicate_of` the image id of another picture that is the same.
    """

    entry: Entry
    image_sha256: str
    recipe: str
    updated_at: int
    phash: str = ""
    feed: str = ""
    duplicate_of: str = ""
    origin: Origin | None = None
    file: str = ""
    """Path of the image's file on the machine that read it; '' where there is none."""

    @property
    def row_sha256(self) -> str:
        """Return the hash of what the rows say of the product, and of what their vectors are made of."""
        values = {name: value for name, value in asdict(self.entry).items() if name not in NOT_HASHED}
        # A file that was moved changes its rows, so that its picture is found; no model is run for that.
        file = [self.file] if self.file else []
        return hashlib.sha256(_canonical([values, self.image_sha256, self.recipe, self.feed, *file])).hexdigest()

    def rows(self, views: Mapping[View, EmbeddedView]) -> list[Row]:
        """Return one row for each view."""
        row_sha256 = self.row_sha256
        return [self._row(view, embedded, row_sha256) for view, embedded in views.items()]

    def _row(self, view: View, embedded: EmbeddedView, row_sha256: str) -> Row:
        entry = self.entry
        return Row(
            image_id=entry.image_id,
            view=view,
            vector=embedded.vector,
            product_id=entry.product_id,
            image_sha256=self.image_sha256,
            row_sha256=row_sha256,
            updated_at=self.updated_at,
            parent_id=entry.parent_id,
            category_root=category_root(entry.category),
            category=entry.category,
            price=entry.price,
            currency=entry.currency,
            in_stock=entry.in_stock,
            phash=self.phash,
            duplicate_of=self.duplicate_of,
            feed=self.feed,
            data=self._data(view, embedded.detection),
        )

    def _data(self, view: View, detection: Detection) -> dict[str, Any]:
        entry = self.entry
        data: dict[str, Any] = {
            "title": entry.title,
            "titles": dict(entry.titles),
            "image_url": entry.image if entry.image.startswith(("http://", "https://")) else None,
            "attributes": dict(entry.attributes),
            RECIPE: self.recipe,
        }
        if self.origin is not None:
            validators = self.origin.validators
            data[ORIGIN] = [self.origin.url, validators.etag, validators.last_modified]
        if self.file:
            data[IMAGE_FILE] = self.file
        if view is View.OBJECT:
            data |= {"box": [round(edge, 6) for edge in detection.box.as_tuple()], "label": detection.label}
        return data

    def check(self) -> None:
        """Raise BadInput where the index can't store the entry, before a model is asked."""
        unit = np.zeros(EMBEDDING_DIM, np.float32)
        unit[0] = 1
        longest = Detection(Box(1 / 3, 1 / 3, 2 / 3, 2 / 3), label="x" * 64)
        for row in self.rows({view: EmbeddedView(longest, unit) for view in View}):
            check(row)


def decide(planned: Planned, known: KnownImage | None) -> Action:
    """Compare an image with what is stored of it."""
    if known is None:
        return Action.EMBED
    if known.row_sha256 == planned.row_sha256:
        return Action.UNCHANGED
    if known.updated_at > planned.updated_at:
        return Action.STALE
    return Action.METADATA if known.image_sha256 == planned.image_sha256 else Action.EMBED


def kept_views(planned: Planned, stored: Mapping[View, StoredRow]) -> dict[View, EmbeddedView] | None:
    """Return the stored embeddings; None where one is missing, of other bytes or of another recipe.

    A run that was killed may have left one view of the image as it was and another as it should become.
    """
    if View.WHOLE not in stored:
        return None
    for row in stored.values():
        if row["image_sha256"] != planned.image_sha256 or row["data"].get(RECIPE) != planned.recipe:
            return None
    return {
        view: EmbeddedView(_detection(row["data"]), np.asarray(row["vector"], np.float32))
        for view, row in stored.items()
    }


def kept(planned: Planned, stored: StoredRow) -> Planned:
    """Return what is planned with what its picture is known by, which is the stored one."""
    return replace(planned, phash=stored["phash"], duplicate_of=stored["duplicate_of"])


def origin(data: Mapping[str, Any]) -> Origin | None:
    """Return where a stored image was read from, None for a file."""
    stored = data.get(ORIGIN)
    return Origin(stored[0], Validators(*stored[1:])) if stored else None


def stored_views(known: KnownImage | None) -> frozenset[str]:
    """Return the views of an image that the index holds."""
    return known.views if known else frozenset()


def _detection(data: Mapping[str, Any]) -> Detection:
    box = data.get("box")
    return Detection(Box(*box) if box else WHOLE_BOX, data.get("label"))


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
