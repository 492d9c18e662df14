import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.domain import WHOLE_BOX, Box, Detection, Source, View
from serve_app.objects import Focus, choose_objects, focuses, import_views, joined_list, query_boxes, query_lists

SMALL = Detection(Box(0.0, 0.0, 0.1, 0.1), "cup", 0.9)
MIDDLE = Detection(Box(0.2, 0.2, 0.7, 0.7), "chair", 0.8)
LARGE = Detection(Box(0.0, 0.0, 0.95, 0.95), "couch", 0.5)

shares = st.floats(0, 1, allow_nan=False)
detections = st.lists(
    st.builds(
        lambda x, y, w, h, c: Detection(Box(x, y, x + (1 - x) * w, y + (1 - y) * h), "thing", c),
        shares,
        shares,
        shares,
        shares,
        shares,
    ),
    max_size=12,
)


def test_main_object_is_sure_and_large():
    assert choose_objects([SMALL, LARGE, MIDDLE], 3) == (LARGE, MIDDLE, SMALL)


def test_one_thing_named_twice_is_one_object():
    twin = Detection(Box(0.21, 0.2, 0.7, 0.7), "stool", 0.7)
    assert choose_objects([twin, MIDDLE], 10) == (MIDDLE,)


def test_specks_are_no_objects():
    assert choose_objects([Detection(Box(0, 0, 0.02, 0.02), "cup", 0.99)], 10) == ()


@given(detections, st.integers(0, 10))
def test_choice_is_bounded_distinct_and_taken_from_what_was_found(found, limit):
    chosen = choose_objects(found, limit)
    assert len(chosen) <= limit
    assert set(chosen) <= set(found)
    assert all(a.box.iou(b.box) < 0.7 for i, a in enumerate(chosen) for b in chosen[:i])


def test_catalogue_image_is_indexed_whole_and_by_its_main_object():
    views = import_views([SMALL, MIDDLE], min_confidence=0.4)
    assert views == {View.WHOLE: Detection(WHOLE_BOX), View.OBJECT: MIDDLE}


def test_object_that_fills_the_image_gets_no_view_of_its_own():
    assert list(import_views([LARGE], min_confidence=0.4)) == [View.WHOLE]


def test_unsure_object_gets_no_view_of_its_own():
    assert list(import_views([MIDDLE], min_confidence=0.81)) == [View.WHOLE]


def test_every_object_has_an_entry_and_the_best_are_searched():
    lists = query_lists([LARGE, MIDDLE, SMALL], Focus(2))
    assert [entry.crops for entry in lists] == [(1, 0), (2,), (), (0,)]
    assert [entry.main for entry in lists] == [True, False, False, False]
    assert lists[-1].source is Source.WHOLE


@pytest.mark.parametrize(
    "doubtful",
    [Detection(MIDDLE.box, "stool", 0.39), Detection(Box(0, 0, 0.3, 0.3), "cup", 0.9)],
    ids=["unsure", "small"],
)
def test_photo_is_about_the_whole_where_its_best_object_is_doubtful(doubtful):
    lists = query_lists([doubtful], Focus(3))
    assert [entry.main for entry in lists] == [False, True]


def test_photo_without_objects_is_searched_whole():
    (only,) = query_lists([], Focus(3))
    assert only.main
    assert only.crops == (0,)


def test_boxes_to_cut_stand_where_the_lists_point():
    boxes = query_boxes([LARGE, MIDDLE, SMALL], Focus(2))
    assert boxes == [WHOLE_BOX, LARGE.box, MIDDLE.box]


def test_main_alone_is_searched_where_only_it_is_asked_for():
    lists = query_lists([LARGE, SMALL], Focus(10, main_only=True))
    assert [entry.crops for entry in lists] == [(1, 0), (), ()]
    assert query_boxes([MIDDLE, SMALL], Focus(10, main_only=True)) == [MIDDLE.box]


def test_whole_photo_is_the_main_list_where_no_object_can_be():
    lists = query_lists([SMALL], Focus(10, main_only=True))
    assert [(entry.source, entry.crops) for entry in lists] == [(Source.DETECTOR, ()), (Source.WHOLE, (0,))]


def test_given_boxes_are_searched_as_they_are_up_to_the_asked_number():
    focus = Focus(1, boxes=(LARGE.box, SMALL.box), source=Source.DEVICE)
    lists = query_lists([], focus)
    assert [(entry.source, entry.main, entry.crops) for entry in lists] == [
        (Source.DEVICE, True, (0,)),
        (Source.DEVICE, False, ()),
    ]
    assert query_boxes([], focus) == [LARGE.box]
    assert not focus.detects


@given(detections, st.integers(0, 10), st.booleans())
def test_every_crop_that_a_list_names_is_cut(found, searched, main_only):
    focus = Focus(searched, main_only)
    boxes = query_boxes(found, focus)
    named = {crop for entry in query_lists(found, focus) for crop in entry.crops}
    assert named == set(range(len(boxes)))


@given(st.lists(detections, min_size=2, max_size=5), st.sampled_from([0, 3, 10]))
def test_photos_of_one_thing_are_searched_by_all_that_is_cut_of_them(found, objects):
    chosen = [choose_objects(each, 10) for each in found]
    each = list(zip(chosen, focuses(Focus(objects), len(found)), strict=True))
    together = joined_list(each)
    assert together.main
    assert sorted(together.crops) == list(range(sum(len(query_boxes(*photo)) for photo in each)))
    alone = next(entry for entry in query_lists(*each[0]) if entry.main)
    assert (together.detection, together.source) == (alone.detection, alone.source)
