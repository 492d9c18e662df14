"""The first stage of an import: read images, compare them with the index, decode what is new."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from serve_app.catalogue.comparing import Clock, Comparer, Due, Event, Index, Reader, problem_of
from serve_app.catalogue.manifest import Entry, Problem
from serve_app.catalogue.plan import Planned
from serve_app.catalogue.report import Outcome
from serve_app.config import Config
from serve_app.domain import Photo
from serve_app.errors import BadInput, TooSmall
from serve_app.images import decode, picture_hash

log = logging.getLogger(__name__)

INTERNAL = "internal"
PIXEL_BYTES = 32 * 2**20
"""Of photos that are handed on at once: about six of the largest working photos."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Hold an image that the models have to see, and the views that are stored of it."""

    planned: Planned
    photo: Photo
    stored_views: frozenset[str]


@dataclass(slots=True)
class Prepared:
    """Hold what became certain of some entries, and the images of the others.

    `seconds` went into each part of the work.
    """

    outcomes: list[Outcome]
    images: list[Decoded]
    seconds: dict[str, float]


class Preparer:
    """Do for blocks of entries all that needs no model; close it when done."""

    def __init__(
        self, config: Config, reader: Reader, index: Index, event: Event, before_ms: int | None = None
    ) -> None:
        """With `before_ms`, what was written to the index later need not be noticed; writes are checked again."""
        self._config = config
        self._comparer = Comparer(config, reader, index, event, before_ms)
        self._threads = ThreadPoolExecutor(config.importing.threads, thread_name_prefix="decode")

    def close(self) -> None:
        self._threads.shutdown()
        self._comparer.close()

    def run(self, block: Sequence[Entry | Problem]) -> Iterator[Prepared]:
        """Prepare a block, a few images at a time.

        An image that can't be used is a problem among the outcomes. Raises MilvusUnavailable and DeadlineExceeded; the
        block may then be run again.
        """
        for compared in self._comparer.run(block):
            clock = Clock(compared.seconds)
            with clock.counts("decode"):
                decoded = list(self._threads.map(self._decode, compared.images))
            outcomes = compared.outcomes + [each for each in decoded if isinstance(each, Outcome)]
            for some in _portions([each for each in decoded if isinstance(each, Decoded)]):
                yield Prepared(outcomes, some, clock.take())
                outcomes = []

    def _decode(self, due: Due) -> Decoded | Outcome:
        entry = due.planned.entry
        try:
            photo = decode(due.data, max_pixels=self._config.limits.max_pixels)
            check_size(photo.width, photo.height, self._config)
            return Decoded(replace(due.planned, phash=picture_hash(photo)), photo, due.stored_views)
        except BadInput as error:
            return problem_of(entry, error.code, error.message)
        except Exception as error:
            log.warning("image can't be decoded", exc_info=True, extra={"image": entry.image})
            return problem_of(entry, INTERNAL, f"the decoder failed: {type(error).__name__}: {error}")


def check_size(width: int, height: int, config: Config) -> None:
    """Raise TooSmall where an image has too few pixels to be told from others."""
    smallest = config.importing.min_side_px
    if min(width, height) < smallest:
        raise TooSmall(f"the image has {width} × {height} pixels; its sides need {smallest} at least")


def _portions(images: Sequence[Decoded]) -> Iterator[list[Decoded]]:
    """Yield images in groups of bounded size; one empty group where there are none."""
    some: list[Decoded] = []
    size = 0
    for image in images:
        if some and size + image.photo.pixels.nbytes > PIXEL_BYTES:
            yield some
            some, size = [], 0
        some.append(image)
        size += image.photo.pixels.nbytes
    yield some
