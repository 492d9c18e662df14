"""Query sets: read from a manifest or folder, or made from a catalogue's own views."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serve_app.catalogue.manifest import Entry, read
from serve_app.catalogue.reading import base_of
from serve_app.domain import Box
from serve_app.errors import BadManifest
from serve_app.evaluation.answers import Question
from serve_app.evaluation.gallery import Gallery

BOX_COLUMNS = ("x0", "y0", "x1", "y1")
LEFT_OUT = "left_out"
"""Column of a query set: an image id of the catalogue that the photo shows, which is not searched for it."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Hold questions with the gallery that answers them; `unanswerable` of them had no right product in it."""

    questions: tuple[Question, ...]
    gallery: Gallery
    unanswerable: int = 0


def read_questions(path: Path, gallery: Gallery) -> QuestionSet:
    """Read a manifest or folder of photos, where rows of one photo name several right products.

    Raises BadManifest where a row can't be used: figures of a part of a set can't be compared with those of all of it.
    """
    return answerable(read_labelled(path), gallery)


def read_labelled(path: Path) -> list[Question]:
    """Read photos with their right products, whatever the gallery holds; raises BadManifest."""
    base = base_of(str(path))
    rows: dict[str, list[Entry]] = {}
    for each in read(path):
        if not isinstance(each, Entry):
            raise BadManifest(f"row {each.row} of the query set {path} can't be used: {each.reason}")
        rows.setdefault(each.image, []).append(each)
    if not rows:
        raise BadManifest(f"the query set {path} holds no photo")
    asked = [_question(entries, base, path) for entries in rows.values()]
    return [replace(each, line=path.stem) for each in asked]


def leave_one_view_out(gallery: Gallery) -> QuestionSet:
    """Ask with each image of a product that has several, against all others."""
    return answerable(
        [_of_entry(entry, gallery) for entries in gallery.products.values() if len(entries) > 1 for entry in entries],
        gallery,
    )


def first_views(gallery: Gallery) -> QuestionSet:
    """Ask with every image but each product's first one; those first ones are the gallery."""
    later = [entry for entries in gallery.products.values() for entry in entries[1:]]
    rest = gallery.without(entry.image_id for entry in later)
    return answerable([_of_entry(entry, gallery) for entry in later], rest)


def answerable(questions: Iterable[Question], gallery: Gallery) -> QuestionSet:
    """Keep questions that have right products in the gallery, with those alone; raises BadManifest if none has."""
    kept = []
    asked = 0
    for question in questions:
        asked += 1
        right = tuple(product for product in question.right if gallery.still_there(product, question.left_out))
        if right:
            category = gallery.category(right[0]) if len(right) == 1 else ""
            kept.append(replace(question, right=right, category=category))
    if not kept:
        raise BadManifest(
            "no photo has its product in the catalogue"
            if asked
            else "no product of the catalogue has several images; give photos of its products with --queries"
        )
    return QuestionSet(tuple(kept), gallery, asked - len(kept))


def hardened(questions: Iterable[Question], changes: Iterable[str]) -> list[Question]:
    """Return the questions that are no scenes once more for each change, each with a line of its own."""
    plain = [question for question in questions if not question.is_scene]
    return [replace(question, line=change, change=change) for change in changes for question in plain]


def sample(questions: Sequence[Question], number: int) -> tuple[Question, ...]:
    """Return that many questions, the same ones whatever others the set holds."""
    drawn = sorted(questions, key=lambda each: hashlib.sha256(f"{each.image}\0{each.change}".encode()).digest())
    kept = set(map(id, drawn[:number]))
    return tuple(question for question in questions if id(question) in kept)


def _of_entry(entry: Entry, gallery: Gallery) -> Question:
    return Question(entry.image, gallery.base, (entry.product_id,), left_out=frozenset({entry.image_id}))


def _question(entries: Sequence[Entry], base: str, path: Path) -> Question:
    boxes = {entry.product_id: box for entry in entries if (box := _box(entry, path)) is not None}
    left_out = frozenset(str(entry.attributes[LEFT_OUT]) for entry in entries if LEFT_OUT in entry.attributes)
    right = tuple(dict.fromkeys(entry.product_id for entry in entries))
    return Question(entries[0].image, base, right, left_out=left_out, boxes=boxes)


def _box(entry: Entry, path: Path) -> Box | None:
    values: Mapping[str, Any] = entry.attributes
    if not any(name in values for name in BOX_COLUMNS):
        return None
    try:
        x0, y0, x1, y1 = (float(values[name]) for name in BOX_COLUMNS)
    except (KeyError, ValueError, TypeError) as error:
        raise BadManifest(f"row {entry.row} of {path} has no whole box; it needs {', '.join(BOX_COLUMNS)}") from error
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise BadManifest(f"row {entry.row} of {path} has a box that doesn't lie in 0…1 of the photo")
    return Box(x0, y0, x1, y1)
