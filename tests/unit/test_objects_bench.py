"""What the comparison of rules counts, on vectors that stand for photos."""

import numpy as np
import pytest

from scripts.objects_choices import NEVER, Choice, as_it_is, others
from scripts.objects_outcome import Shelf, contradicted, pooled
from scripts.objects_seen import Seen, SeenSet
from serve_app.catalogue.manifest import Entry
from serve_app.config import Config
from serve_app.domain import WHOLE_BOX, Box, Detection
from serve_app.evaluation.answers import Question
from serve_app.evaluation.gallery import Gallery
from serve_app.objects import ObjectRule

THING = Detection(Box(0.2, 0.2, 0.6, 0.6), "chair", 0.9)
NOW = Choice(min_confidence=0.25, import_confidence=0.4, most_found=10)
WHOLE_FIRST = Choice("main", "never", ObjectRule(main_confidence=NEVER), min_confidence=0.25, most_found=10)


def vector(place: int) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[place]


def seen(whole: int, thing: int) -> Seen:
    return Seen((THING,), {WHOLE_BOX: vector(whole), THING.box: vector(thing)})


def seen_set(photos: dict[str, Seen]) -> SeenSet:
    """Return a set of products a and b; each photo shows a."""
    gallery = Gallery([Entry(0, "a.jpg", "a", "a0"), Entry(1, "b.jpg", "b", "b0")], "")
    images = {"a0": seen(0, 1), "b0": seen(2, 3)}
    questions = tuple((Question(name, "", ("a",)), photo) for name, photo in photos.items())
    return SeenSet("shop", gallery, questions, images)


@pytest.mark.parametrize(
    ("photo", "choice", "firsts"),
    [
        (seen(0, 1), NOW, [1, 1]),
        (seen(2, 1), NOW, [1, 1]),
        (seen(2, 1), WHOLE_FIRST, [0, 1]),
        (seen(0, 3), NOW, [0, 1]),
        (seen(0, 3), WHOLE_FIRST, [1, 1]),
        (seen(2, 3), NOW, [0, 0]),
    ],
)
def test_main_and_any_list_count_what_comes_first(photo, choice, firsts):
    found = Shelf(seen_set({"query.jpg": photo})).found_by(choice)
    assert found.firsts.tolist() == [firsts]
    assert (found.crops, found.clusters) == (2, ("a",))


def test_views_that_are_not_indexed_are_not_found():
    # The photo's object is the object of a, and a little like the whole of b.
    own = vector(1) * 0.9 + vector(2) * 0.1
    photo = Seen((THING,), {WHOLE_BOX: vector(3), THING.box: own})
    shelf = Shelf(seen_set({"query.jpg": photo}))
    with_objects, without = (
        shelf.found_by(NOW),
        shelf.found_by(Choice(min_confidence=0.25, import_confidence=NEVER, most_found=10)),
    )
    assert (with_objects.firsts[0, 0], without.firsts[0, 0]) == (1, 0)
    assert (with_objects.rows, without.rows) == (2, 1)


def test_images_that_are_left_out_are_not_found():
    whole = seen_set({"query.jpg": seen(0, 1)})
    left = Question("query.jpg", "", ("a",), left_out=frozenset({"a0"}))
    found = Shelf(SeenSet("shop", whole.gallery, ((left, whole.questions[0][1]),), whole.images)).found_by(NOW)
    assert found.firsts.tolist() == [[0, 0]]


def test_a_choice_that_finds_more_contradicts_the_present_one():
    photos = {f"{i}.jpg": seen(0, 3) for i in range(40)}
    scenes = seen_set(photos)
    asked = tuple((Question(q.image, "", ("a",), boxes={"a": THING.box}), photo) for q, photo in scenes.questions)
    shelf = Shelf(SeenSet("scenes", scenes.gallery, asked, scenes.images))
    now, other = {"scenes": shelf.found_by(NOW)}, {"scenes": shelf.found_by(WHOLE_FIRST)}
    assert contradicted(other, now)
    assert not contradicted(now, other)
    assert not contradicted(now, now)


def test_each_set_weighs_the_same():
    one = Shelf(seen_set({"1.jpg": seen(0, 1)})).found_by(NOW)
    three = Shelf(seen_set({f"{i}.jpg": seen(2, 3) for i in range(3)})).found_by(NOW)
    assert pooled({"one": one, "three": three}).firsts.mean(0).tolist() == [0.5, 0.5]


def test_other_choices_differ_from_the_present_one():
    now = as_it_is(Config())
    assert (now.min_confidence, now.import_confidence, now.most_found) == (0.25, 0.4, 10)
    found = others(now)
    assert all(
        (c.rule, c.objects, c.min_confidence, c.import_confidence)
        != (now.rule, now.objects, now.min_confidence, now.import_confidence)
        for c in found
    )
    assert len({(c.decision, c.name) for c in found}) == len(found)
