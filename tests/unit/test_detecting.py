import io

import numpy as np
import pytest
from PIL import Image

from serve_app.domain import Box, Detection
from serve_app.errors import BadInput
from serve_app.evaluation.boxes import BoxedPhoto
from serve_app.evaluation.detecting import Served, examine, judge_detector
from serve_app.evaluation.detections import Examined, Thing

LEFT, RIGHT, BELOW = Box(0.0, 0.0, 0.4, 0.4), Box(0.5, 0.0, 0.9, 0.4), Box(0.0, 0.5, 0.4, 0.9)
SERVED = Served(min_confidence=0.25, most_shown=2, searched=1)


class Detector:
    """Find one cup in every photo."""

    def find(self, photos):
        return [(Detection(LEFT, "cup", 0.5),) for _ in photos]


def test_recall_is_of_what_is_shown_and_searched_whatever_its_label():
    things = Thing(LEFT, "chair"), Thing(RIGHT, "chair"), Thing(BELOW, "lamp")
    found = Detection(LEFT, "cup", 0.9), Detection(RIGHT, "chair", 0.8), Detection(BELOW, "lamp", 0.2)
    outcome = judge_detector([Examined(things, found)], [], SERVED)
    assert (outcome.anything.shown.value, outcome.anything.searched.value) == pytest.approx((2 / 3, 1 / 3))
    assert [(row.label, row.shown.value) for row in outcome.labels] == [("chair", 1.0), ("lamp", 0.0)]
    assert (outcome.objects, outcome.right) == (2, 1.0)


def test_average_precision_is_by_label_and_below_the_threshold_too():
    things = Thing(LEFT, "chair"), Thing(BELOW, "lamp")
    found = Detection(LEFT, "cup", 0.9), Detection(BELOW, "lamp", 0.2)
    outcome = judge_detector([Examined(things, found)], [], SERVED)
    assert [row.ap_50 for row in outcome.labels] == [0.0, 1.0]
    assert outcome.mean_ap == (0.5, 0.5)
    assert outcome.anything.ap == 1.0


def test_one_thing_named_twice_is_shown_once():
    found = Detection(LEFT, "chair", 0.9), Detection(LEFT, "couch", 0.8), Detection(RIGHT, "chair", 0.7)
    outcome = judge_detector([Examined((Thing(LEFT, "chair"), Thing(RIGHT, "chair")), found)], [], SERVED)
    assert (outcome.objects, outcome.right) == (2, 1.0)


def test_photos_that_can_not_be_used_are_named(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(file, "PNG")
    (tmp_path / "good.png").write_bytes(file.getvalue())
    (tmp_path / "bad.png").write_bytes(b"no photo")
    names = ["good.png", "bad.png", "missing.png"]
    photos = [BoxedPhoto(tmp_path / name, (Thing(LEFT, "chair"),)) for name in names]
    done: list[int] = []
    examined, unusable = examine(photos, Detector(), 10**6, done.append)
    assert [photo.found for photo in examined] == [(Detection(LEFT, "cup", 0.5),)]
    assert [text.partition(":")[0].rpartition("/")[2] for text in unusable] == names[1:]
    assert sum(done) == 3


def test_a_set_that_shows_nothing_is_refused():
    with pytest.raises(BadInput, match="no photo with a box"):
        judge_detector([Examined((), ())], [], SERVED)
