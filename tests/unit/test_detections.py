"""Every figure here was worked out by hand."""

import math

import numpy as np
import pytest

from serve_app.domain import Box, Detection
from serve_app.evaluation.detections import Examined, Thing, average_precisions, taken

LEFT, RIGHT = Box(0.0, 0.0, 0.4, 0.4), Box(0.5, 0.5, 0.9, 0.9)
ELSEWHERE = Box(0.0, 0.6, 0.2, 0.8)


def found(box: Box, confidence: float, label: str = "chair") -> Detection:
    return Detection(box, label, confidence)


def chairs(*boxes: Box) -> tuple[Thing, ...]:
    return tuple(Thing(box, "chair") for box in boxes)


def at_half(*photos: Examined) -> float:
    return float(average_precisions(photos, [0.5])[0])


def test_all_found_and_nothing_else_is_one():
    assert at_half(Examined(chairs(LEFT, RIGHT), (found(LEFT, 0.9), found(RIGHT, 0.3)))) == 1


def test_precision_counts_at_each_recall():
    # Right, wrong, right: up to recall .5 the precision is 1 (51 of 101 recalls), beyond it 2/3.
    photo = Examined(chairs(LEFT, RIGHT), (found(LEFT, 0.9), found(ELSEWHERE, 0.8), found(RIGHT, 0.7)))
    assert at_half(photo) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_what_is_never_found_counts_nothing():
    # Recall ends at .5.
    assert at_half(Examined(chairs(LEFT, RIGHT), (found(LEFT, 0.9),))) == pytest.approx(51 / 101)


def test_wrong_boxes_count_only_before_right_ones():
    photo = Examined(chairs(LEFT), (found(LEFT, 0.9), found(ELSEWHERE, 0.1)))
    assert at_half(photo) == 1
    photo = Examined(chairs(LEFT), (found(LEFT, 0.9), found(ELSEWHERE, 0.95)))
    assert at_half(photo) == pytest.approx(1 / 2)


def test_photos_share_one_order_of_confidence():
    # Wrong at .8 in one photo stands before right at .7 in the other.
    photos = Examined(chairs(LEFT), (found(LEFT, 0.7),)), Examined((), (found(LEFT, 0.8),))
    assert at_half(*photos) == pytest.approx(1 / 2)


def test_a_thing_is_found_once():
    twice = Examined(chairs(LEFT, RIGHT), (found(LEFT, 0.9), found(LEFT, 0.8), found(RIGHT, 0.7)))
    assert at_half(twice) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_each_iou_has_its_own_figure():
    # Shifted by a fifth of its width, a box overlaps by .8 / 1.2 = .667: right at .5, .55, .6 and .65.
    photo = Examined(chairs(Box(0, 0, 0.5, 0.5)), (found(Box(0.1, 0, 0.6, 0.5), 0.9),))
    assert average_precisions([photo]).tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_the_thing_that_a_box_fits_best_is_its_own():
    near = Box(0.1, 0.0, 0.5, 0.4)
    assert taken([found(LEFT, 0.9)], chairs(near, LEFT), 0.5) == [1]
    assert taken([found(LEFT, 0.9), found(LEFT, 0.8)], chairs(near, LEFT), 0.5) == [1, 0]


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong():
    crowd = Thing(Box(0, 0.5, 0.5, 1), "chair", crowd=True)
    photo = Examined((*chairs(LEFT), crowd), (found(ELSEWHERE, 0.9), found(LEFT, 0.8)))
    assert at_half(photo) == 1
    assert taken(photo.found, photo.things, 0.5) == [None, 0]


def test_labels_are_kept_apart_where_asked():
    photo = Examined(
        (Thing(LEFT, "chair"), Thing(RIGHT, "lamp")), (found(LEFT, 0.9, "lamp"), found(RIGHT, 0.8, "lamp"))
    )
    assert at_half(photo) == 1
    # A lamp is found second, after a wrong one; no chair is found.
    assert at_half(photo.of("lamp")) == pytest.approx(1 / 2)
    assert at_half(photo.of("chair")) == 0


def test_photos_that_show_nothing_tell_nothing():
    assert math.isnan(at_half(Examined((), (found(LEFT, 0.9),))))
    assert np.array_equal(average_precisions([Examined(chairs(LEFT), ())]), np.zeros(10))


def test_the_hundred_surest_boxes_of_a_photo_count():
    wrong = [found(ELSEWHERE, 0.9)] * 100
    assert at_half(Examined(chairs(LEFT), (found(LEFT, 0.1), *wrong))) == 0
    assert at_half(Examined(chairs(LEFT), (found(LEFT, 0.1), *wrong[1:]))) == pytest.approx(1 / 100)
