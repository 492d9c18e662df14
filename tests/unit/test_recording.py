"""What is written of embedded images, and which of them show a picture that is there already."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from serve_app.catalogue.embedding import Embedded
from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.plan import EmbeddedView, Planned
from serve_app.catalogue.recording import Recorder
from serve_app.catalogue.report import Status
from serve_app.domain import WHOLE_BOX, Box, Detection, View
from serve_app.errors import MilvusUnavailable
from serve_app.objects import SAME_PICTURE_BITS, SAME_PICTURE_SCORE, is_same_picture

PHASH = "f0e1d2c3b4a59687"


class FakeIndex:
    def __init__(self, stored=()):
        self.stored = list(stored)
        self.rows = []

    def nearest(self, vectors, k):
        return [self.stored[:k] for _ in vectors]

    def write(self, rows):
        self.rows += rows


def unit(axis, beside=0.0):
    vector = np.zeros(256, np.float32)
    vector[axis], vector[axis + 1] = np.sqrt(1 - beside**2), beside
    return vector


def embedded(image_id, vector=None, phash=PHASH, **views):
    planned = Planned(Entry(1, f"{image_id}.jpg", "p", image_id), "aa", "recipe", 5, phash)
    whole = EmbeddedView(Detection(WHOLE_BOX), unit(0) if vector is None else vector)
    return Embedded(planned, {View.WHOLE: whole, **views}, frozenset({"whole", "object"}))


def stored(image_id, *, phash=PHASH, score=1.0, duplicate_of="", view="whole"):
    return {"image_id": image_id, "view": view, "phash": phash, "duplicate_of": duplicate_of, "score": score}


def marks(index, *images):
    Recorder(index).record(images)
    return {row.image_id: row.duplicate_of for row in index.rows}


def test_a_picture_that_is_stored_is_marked_by_the_image_it_came_with_first():
    assert marks(FakeIndex([stored("old")]), embedded("new")) == {"new": "old"}
    assert marks(FakeIndex([stored("second", duplicate_of="first")]), embedded("new")) == {"new": "first"}


@pytest.mark.parametrize(
    "other",
    [
        stored("old", score=SAME_PICTURE_SCORE - 0.01),
        stored("old", phash="0f1e2d3c4b5a6978"),
        stored("old", phash=""),
        stored("old", view="object"),
        stored("new"),
        stored("old", duplicate_of="new"),
    ],
)
def test_others_are_not(other):
    assert marks(FakeIndex([other]), embedded("new")) == {"new": ""}


def test_pictures_of_one_write_mark_each_other():
    assert marks(FakeIndex(), embedded("a"), embedded("b"), embedded("c", unit(7))) == {"a": "", "b": "a", "c": ""}


class SlowIndex(FakeIndex):
    """Hold up the first look or the first write until told to go on, or to fail."""

    def __init__(self, held_up):
        super().__init__()
        self._held_up = held_up
        self.reached = Event()
        self.goes_on: Future[None] = Future()

    def nearest(self, vectors, k):
        self._hold_up("nearest")
        return super().nearest(vectors, k)

    def write(self, rows):
        self._hold_up("write")
        super().write(rows)

    def _hold_up(self, call):
        if call == self._held_up and not self.reached.is_set():
            self.reached.set()
            self.goes_on.result(timeout=30)


def test_pictures_that_threads_write_at_once_mark_each_other():
    index = SlowIndex("write")
    recorder = Recorder(index)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(recorder.record, [embedded("a"), embedded("b")])
        assert index.reached.wait(30)
        threads.submit(recorder.record, [embedded("c"), embedded("d", unit(7))]).result(timeout=30)
        index.goes_on.set_result(None)
        first.result(timeout=30)
    assert {row.image_id: row.duplicate_of for row in index.rows} == {"a": "", "b": "a", "c": "a", "d": ""}


def test_a_thread_that_fails_holds_up_no_other():
    index = SlowIndex("nearest")
    recorder = Recorder(index)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(recorder.record, [embedded("a")])
        assert index.reached.wait(30)
        second = threads.submit(recorder.record, [embedded("c")])
        index.goes_on.set_exception(MilvusUnavailable("away"))
        second.result(timeout=30)
        with pytest.raises(MilvusUnavailable):
            first.result(timeout=30)
    recorder.record([embedded("e")])
    assert {row.image_id: row.duplicate_of for row in index.rows} == {"c": "", "e": ""}


def test_the_outcome_tells_what_was_written():
    main = EmbeddedView(Detection(Box(0.1, 0.2, 0.5, 0.6), "chair", 0.9), unit(3))
    outcomes, seconds = Recorder(FakeIndex([stored("old")])).record(
        [embedded("a", object=main), embedded("b", unit(7), "")]
    )
    first, second = outcomes
    assert (first.status, first.written_rows, first.removed_views) == (Status.EMBEDDED, 2, 0)
    assert (first.box, first.label, first.duplicate_of) == ((0.1, 0.2, 0.5, 0.6), "chair", "old")
    assert (second.written_rows, second.removed_views, second.box, second.duplicate_of) == (1, 1, None, "")
    assert set(seconds) == {"duplicates", "write"}


def test_hashes_may_differ_in_few_bits():
    near = f"{int(PHASH, 16) ^ (2**SAME_PICTURE_BITS - 1):016x}"
    far = f"{int(PHASH, 16) ^ (2 ** (SAME_PICTURE_BITS + 1) - 1):016x}"
    assert is_same_picture(PHASH, near, 1.0)
    assert not is_same_picture(PHASH, far, 1.0)
    assert not is_same_picture("", "", 1.0)
