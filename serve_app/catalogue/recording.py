"""The last stage of an import: mark pictures that are there already, and write the rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from serve_app.catalogue.comparing import outcome_of
from serve_app.catalogue.embedding import Embedded
from serve_app.catalogue.plan import Planned
from serve_app.catalogue.report import Outcome, Status
from serve_app.collection import Row
from serve_app.domain import View
from serve_app.objects import is_same_picture

NEAREST = 8
"""Rows that are looked at for a picture that is the same: an image has two, and a picture may be there some times."""


class RecordingIndex(Protocol):
    """What recording asks of the index."""

    def nearest(self, vectors: Sequence[npt.NDArray[np.float32]], k: int) -> Sequence[Sequence[Mapping[str, Any]]]: ...

    def write(self, rows: Sequence[Row]) -> None: ...


class Recorder:
    """Write images from any number of threads.

    Those that threads write at the same moment are in no index yet, but a picture among them is marked all the same.
    """

    def __init__(self, index: RecordingIndex) -> None:
        self._index = index
        self._lock = Lock()
        self._under_way: list[_Batch] = []

    def record(self, images: Sequence[Embedded]) -> tuple[list[Outcome], dict[str, float]]:
        """Write images; return what became of them once Milvus has them, and the seconds of each part of the work.

        Raises MilvusUnavailable and DeadlineExceeded; the images may then be written again.
        """
        start_s = time.monotonic()
        batch = _Batch([image.views[View.WHOLE].vector for image in images])
        with self._lock:
            earlier = tuple(self._under_way)
            self._under_way.append(batch)
        try:
            marked = self._marked(images, batch, earlier)
            looked_s = time.monotonic()
            self._index.write(
                [row for image, each in zip(images, marked, strict=True) for row in each.rows(image.views)]
            )
        finally:
            with self._lock:
                self._under_way.remove(batch)
            batch.marked.cancel()
        outcomes = [_outcome(image, planned) for image, planned in zip(images, marked, strict=True)]
        return outcomes, {"duplicates": looked_s - start_s, "write": time.monotonic() - looked_s}

    def _marked(self, images: Sequence[Embedded], batch: _Batch, earlier: Sequence[_Batch]) -> list[Planned]:
        """Return what is planned, with the image that shows the same picture and was there before."""
        near = self._index.nearest(batch.vectors, NEAREST)
        before = [picture for each in earlier for picture in each.pictures()]
        marked: list[Planned] = []
        for image, vector, rows in zip(images, batch.vectors, near, strict=True):
            pictures = [
                _Picture(row["image_id"], row["phash"], row["duplicate_of"], row["score"])
                for row in rows
                if row["view"] == View.WHOLE
            ]
            others = [*before, *zip(marked, batch.vectors, strict=False)]
            pictures += [
                _Picture(each.entry.image_id, each.phash, each.duplicate_of, float(vector @ other))
                for each, other in others
            ]
            marked.append(replace(image.planned, duplicate_of=_first(image.planned, pictures)))
        batch.marked.set_result(marked)
        return marked


class _Batch:
    """Hold what a thread writes; those who come later wait until it is marked."""

    def __init__(self, vectors: Sequence[npt.NDArray[np.float32]]) -> None:
        self.vectors = vectors
        self.marked: Future[list[Planned]] = Future()

    def pictures(self) -> list[tuple[Planned, npt.NDArray[np.float32]]]:
        """Return its images with their vectors, none where it failed."""
        try:
            return list(zip(self.marked.result(), self.vectors, strict=True))
        except CancelledError:
            return []


@dataclass(frozen=True, slots=True)
class _Picture:
    """Name an image that may show the same picture; `score` is its cosine with the one that is looked at."""

    image_id: str
    phash: str
    duplicate_of: str
    score: float


def _first(planned: Planned, pictures: Sequence[_Picture]) -> str:
    """Return the image that the same picture came with first, '' where it came with this one."""
    for each in pictures:
        # One that is marked by this very image is no reason to mark it in turn.
        its_own = planned.entry.image_id in (each.image_id, each.duplicate_of)
        if not its_own and is_same_picture(each.phash, planned.phash, each.score):
            return each.duplicate_of or each.image_id
    return ""


def _outcome(image: Embedded, planned: Planned) -> Outcome:
    removed = len(image.stored_views - set(image.views))
    seen = outcome_of(planned.entry, Status.EMBEDDED, written_rows=len(image.views), removed_views=removed)
    main = image.views.get(View.OBJECT)
    if main is None:
        return replace(seen, duplicate_of=planned.duplicate_of)
    found = main.detection
    return replace(seen, duplicate_of=planned.duplicate_of, box=found.box.as_tuple(), label=found.label or "")
