"""Queries with what would be right, and what was answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve_app.domain import Box

AS_THEY_ARE = "as they are"
"""Line of photos that nothing was done to."""


@dataclass(frozen=True, slots=True)
class Question:
    """Hold one photo to search with, and which products of the gallery would be right.

    `image` is relative to `base`, as in a manifest. `change` names what is done to it first. Images of the gallery that
    are `left_out` are not searched: the photo itself, or what it was made of. `boxes` says where in the photo the right
    products are, as far as that is known.
    """

    image: str
    base: str
    right: tuple[str, ...]
    line: str = AS_THEY_ARE
    change: str = ""
    category: str = ""
    left_out: frozenset[str] = frozenset()
    boxes: Mapping[str, Box] = field(default_factory=dict)

    @property
    def is_scene(self) -> bool:
        return len(self.right) > 1 or bool(self.boxes)

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what two models' answers to the same photo are matched by."""
        return self.base, self.image, self.change


@dataclass(frozen=True, slots=True)
class Product:
    """Hold a product of a list, with the image of it that was found."""

    product_id: str
    image_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Listed:
    """Hold one searched list of products, best first, and the box it is of."""

    box: Box
    main: bool
    whole: bool
    products: tuple[Product, ...]

    @property
    def ids(self) -> list[str]:
        return [product.product_id for product in self.products]


@dataclass(frozen=True, slots=True)
class Answered:
    """Hold a question with the searched lists of its answer; `degraded` as the answer says it."""

    question: Question
    lists: tuple[Listed, ...]
    degraded: tuple[str, ...] = ()

    @property
    def main(self) -> Listed:
        return next(each for each in self.lists if each.main)

    @property
    def whole(self) -> Listed:
        return next(each for each in self.lists if each.whole)


@dataclass(frozen=True, slots=True)
class Run:
    """Hold all that one model answered to a set; `model` is its fingerprint."""

    name: str
    model: str
    answers: tuple[Answered, ...]
