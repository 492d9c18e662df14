"""What the models say of a set's photos, once for all choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scripts.objects_choices import Choice
from serve_app.domain import WHOLE_BOX, Box, Detection, Photo
from serve_app.errors import BadInput
from serve_app.evaluation.answers import Question
from serve_app.evaluation.gallery import Gallery, read_gallery
from serve_app.evaluation.models import Models
from serve_app.evaluation.photos import Photos
from serve_app.evaluation.questions import answerable, leave_one_view_out, read_questions, sample
from serve_app.images import cut_all, decode

AT_ONCE = 4
Vector = npt.NDArray[np.float32]
BoxesOf = Callable[[Sequence[Detection]], Iterable[Box]]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Hold what was found in a photo, and embeddings of all boxes that some choice asks for."""

    detections: tuple[Detection, ...]
    embeddings: Mapping[Box, Vector]


@dataclass(frozen=True, slots=True, eq=False)
class SeenSet:
    """Hold questions with their photos, and the images of the gallery with theirs, by image id."""

    name: str
    gallery: Gallery
    questions: tuple[tuple[Question, Seen], ...]
    images: Mapping[str, Seen]


def see(
    name: str,
    catalogue: Path,
    scenes: Path | None,
    choices: Sequence[Choice],
    most: int | None,
    models: Models,
    photos: Photos,
    told: Callable[[int, int], None],
) -> SeenSet:
    """Look at a catalogue and at its own views, or scenes, as questions, at most so many; raises BadManifest.

    Images that can't be used are left out. `told` is told how many photos of how many are done.
    """
    gallery, _ = read_gallery(catalogue)
    asked = read_questions(scenes, gallery) if scenes else leave_one_view_out(gallery)
    wanted = sample(asked.questions, most) if most else asked.questions
    every = len(gallery.entries) + len(wanted)
    eyes = _Eyes(models, photos, lambda done: told(done, every))
    indexed = eyes.see(
        [(entry.image, gallery.base) for entry in gallery.entries],
        lambda found: {WHOLE_BOX, *(box for each in choices if (box := each.indexed(found)) is not None)},
    )
    images = {entry.image_id: seen for entry, seen in zip(gallery.entries, indexed, strict=True) if seen is not None}
    gallery = gallery.without(gallery.images.keys() - images.keys())
    questions = answerable([_copies_left_out(each, gallery, photos) for each in wanted], gallery).questions
    found = eyes.see(
        [(each.image, each.base) for each in questions],
        lambda found: {box for each in choices for box in each.lists(found)[1]},
    )
    pairs = tuple((each, seen) for each, seen in zip(questions, found, strict=True) if seen is not None)
    return SeenSet(name, gallery, pairs, images)


def _copies_left_out(question: Question, gallery: Gallery, photos: Photos) -> Question:
    """Leave out what has the photo's very bytes: a photo that finds its own copy tells nothing."""
    own = photos.sha256(question.image, question.base)
    copies = [
        entry.image_id
        for product in question.right
        for entry in gallery.products.get(product, ())
        if photos.sha256(entry.image, gallery.base) == own
    ]
    return replace(question, left_out=question.left_out | frozenset(copies))


class _Eyes:
    def __init__(self, models: Models, photos: Photos, told: Callable[[int], None]) -> None:
        self._models = models
        self._photos = photos
        self._told = told
        self._done = 0

    def see(self, places: Sequence[tuple[str, str]], boxes_of: BoxesOf) -> list[Seen | None]:
        """Return what each photo shows, None where it can't be used."""
        starts = range(0, len(places), AT_ONCE)
        return [seen for start in starts for seen in self._some(places[start : start + AT_ONCE], boxes_of)]

    def _some(self, places: Sequence[tuple[str, str]], boxes_of: BoxesOf) -> list[Seen | None]:
        opened = [self._open(image, base) for image, base in places]
        usable = [photo for photo in opened if photo is not None]
        found = self._models.detector.find(usable) if usable else []
        seen = iter(self._embed(usable, found, boxes_of))
        self._done += len(places)
        self._told(self._done)
        return [None if photo is None else next(seen) for photo in opened]

    def _open(self, image: str, base: str) -> Photo | None:
        try:
            return decode(self._photos.file(image, base))
        except BadInput:
            return None

    def _embed(self, photos: Sequence[Photo], found: Sequence[tuple[Detection, ...]], boxes_of: BoxesOf) -> list[Seen]:
        boxes = [sorted(boxes_of(each), key=Box.as_tuple) for each in found]
        crops = [cut_all(photo, some) for photo, some in zip(photos, boxes, strict=True)]
        vectors = iter(self._models.embedder.embed(np.concatenate(crops)) if any(boxes) else ())
        return [Seen(each, {box: next(vectors) for box in some}) for each, some in zip(found, boxes, strict=True)]
