"""What a catalogue says of its products and images, for questions and reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from serve_app.catalogue.manifest import Entry, Problem, read
from serve_app.catalogue.reading import base_of
from serve_app.errors import BadManifest
from serve_app.evaluation.answers import Question
from serve_app.evaluation.metrics import SAME_PRODUCT, SAME_STYLE

CATEGORY_PARTS = 2
"""Parts of a category's path that the figures by category go by: `Men/Tops` of `Men/Tops/Tees`."""


class Gallery:
    """Hold the entries of a catalogue, whose images are relative to `base`."""

    def __init__(self, entries: Iterable[Entry], base: str) -> None:
        self.base = base
        self.entries = tuple(entries)
        self.images: Mapping[str, Entry] = {entry.image_id: entry for entry in self.entries}
        self.products: dict[str, list[Entry]] = {}
        self._styles: dict[str, set[str]] = {}
        for entry in self.entries:
            self.products.setdefault(entry.product_id, []).append(entry)
            if entry.parent_id:
                self._styles.setdefault(entry.parent_id, set()).add(entry.product_id)

    def category(self, product_id: str) -> str:
        """Return the first parts of a product's category; '' where it has none, or isn't there."""
        entries = self.products.get(product_id)
        return "/".join(entries[0].category.split("/")[:CATEGORY_PARTS]) if entries else ""

    def without(self, image_ids: Iterable[str]) -> Gallery:
        """Return a gallery that lacks some images."""
        gone = set(image_ids)
        return Gallery((entry for entry in self.entries if entry.image_id not in gone), self.base)

    def still_there(self, product_id: str, left_out: frozenset[str]) -> bool:
        """Tell whether a product has an image beside those that are left out."""
        return any(entry.image_id not in left_out for entry in self.products.get(product_id, ()))

    def grades(self, question: Question) -> dict[str, int]:
        """Return what each product that a question could be answered with is worth."""
        styles = {entry.parent_id for product in question.right for entry in self.products.get(product, ())} - {""}
        grades = {product: SAME_STYLE for style in styles for product in self._styles[style]}
        grades |= dict.fromkeys(question.right, SAME_PRODUCT)
        return {product: grade for product, grade in grades.items() if self.still_there(product, question.left_out)}


def read_gallery(path: Path) -> tuple[Gallery, list[Problem]]:
    """Read a catalogue's manifest or folder; return it with the rows that can't be used. Raises BadManifest."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for each in read(path):
        if isinstance(each, Entry):
            entries.append(each)
        else:
            problems.append(each)
    if not entries:
        raise BadManifest(
            f"{path} holds no image that can be used; give a manifest, or a folder FOLDER/PRODUCT_ID/*.jpg"
        )
    return Gallery(entries, base_of(str(path))), problems
