"""Values that pass between the stages."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""(height, width, 3), sRGB."""

Crops = npt.NDArray[np.uint8]
"""(n, side, side, 3), sRGB."""

Crop = Crops
"""(side, side, 3), sRGB: one of Crops."""

Embeddings = npt.NDArray[np.float32]
"""(n, 256), each row of unit L2 norm."""

Embedding = Embeddings
"""(256,): one of Embeddings."""

EMBEDDING_DIM = 256


class View(StrEnum):
    """Which part of a catalogue image a row of the index stands for."""

    WHOLE = "whole"
    OBJECT = "object"


class Source(StrEnum):
    """Who drew a box."""

    DETECTOR = "detector"
    SHOPPER = "shopper"
    DEVICE = "device"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Box:
    """Hold corners in 0…1 of the oriented photo, origin at the top left."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def area(self) -> float:
        """Return the share of the photo that the box covers, 0…1."""
        return max(0.0, self.x1 - self.x0) * max(0.0, self.y1 - self.y0)

    def iou(self, other: Box) -> float:
        """Return intersection over union, 0…1."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return shared / (self.area + other.area - shared)

    def as_tuple(self) -> tuple[float, float, float, float]:
        return (self.x0, self.y0, self.x1, self.y1)


WHOLE_BOX = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """Hold a working photo: oriented, sRGB, opaque, long side at most 1,600 px.

    `width` and `height` are those of the oriented original, in pixels, before it was reduced.
    """

    pixels: Pixels
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Detection:
    """Name one thing that was found, or asked for, in a photo."""

    box: Box
    label: str | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """Hold one row of the index that an embedding found, with its exact cosine as `score`."""

    row_id: str
    score: float
    image_id: str
    view: View
    product_id: str
    parent_id: str
    category: str
    price: int
    currency: str
    in_stock: bool
    data: Mapping[str, Any]
    duplicate_of: str = ""
    """The image that shows the same picture and was in the index before."""

    @property
    def picture(self) -> str:
        """Return what all images of one picture share."""
        return self.duplicate_of or self.image_id


@dataclass(frozen=True, slots=True, eq=False)
class StoredView:
    """Hold one row of the index as it is read by its product; `hit.score` says nothing.

    `vector` is () where it was not asked for. `updated_at` is in milliseconds since 1970 UTC.
    """

    hit: Hit
    vector: Embedding
    updated_at: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """Hold a product's place in a ranking that was fixed, by the row that it was found by."""

    product_id: str
    row_id: str
    score: float
    parent_id: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """Say until when a call is worth answering, and who goes first.

    `deadline_s` is a moment of this process's monotonic clock. Pickled, it travels as the seconds that are left, so
    that machines need not agree on the time; what the way takes is not counted.
    """

    deadline_s: float = math.inf
    bulk: bool = False
    """Bulk calls wait for shoppers' searches."""
    demand: float = 1.0
    """Searches that came in lately for each that was taken on: stages that grow count those that were refused too."""

    @classmethod
    def within(cls, seconds: float, *, bulk: bool = False, demand: float = 1.0) -> Terms:
        return cls(time.monotonic() + seconds, bulk, demand)

    def left_s(self) -> float:
        """Return the seconds until the deadline, 0 after it."""
        return max(0.0, self.deadline_s - time.monotonic())

    def share(self, part: float) -> Terms:
        """Return terms that end after this part, 0…1, of the time that is left."""
        return (
            self if math.isinf(self.deadline_s) else replace(self, deadline_s=time.monotonic() + part * self.left_s())
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.left_s(), self.bulk, self.demand)


PATIENT = Terms()
"""Without a deadline: for the command line."""


def _arrived(left_s: float, bulk: bool, demand: float) -> Terms:
    return Terms.within(left_s, bulk=bulk, demand=demand)
