"""Values that pass between the stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""(height, width, 3), sRGB."""

Crops = npt.NDArray[np.uint8]
"""(n, side, side, 3), sRGB."""

Embeddings = npt.NDArray[np.float32]
"""(n, 256), each row of unit L2 norm."""

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
