from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from serve_app.catalogue.manifest import Entry
from serve_app.domain import Box
from serve_app.errors import BadManifest
from serve_app.evaluation.answers import Question
from serve_app.evaluation.boxes import read_boxes
from serve_app.evaluation.gallery import Gallery
from serve_app.evaluation.questions import read_questions
from serve_app.evaluation.scenes import BOXES, MANIFEST, UNKNOWN, CutOut, compose, cut_out, write_scenes

RED = (200, 20, 20)


def product(colour=RED, background=(250, 250, 250), box=(50, 25, 150, 75)):
    pixels = np.full((100, 200, 3), background, np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = colour
    return pixels


def question(name: str) -> Question:
    return Question(f"{name}.jpg", "", (name,), left_out=frozenset({f"{name}-image"}))


def test_a_product_is_cut_out_at_its_edges():
    found = cut_out(product())
    assert found.size == (100, 50)
    assert np.asarray(found)[25, 50].tolist() == [*RED, 255]


def test_what_looks_like_background_inside_a_product_is_kept():
    pixels = product()
    pixels[45:55, 90:110] = 250
    assert np.asarray(cut_out(pixels))[25, 50, 3] == 255


def test_the_background_is_see_through():
    pixels = product()
    pixels[25:50, 50:100] = 250
    assert np.asarray(cut_out(pixels))[5, 5, 3] == 0


def test_a_cluttered_photo_is_not_cut_out():
    assert cut_out(np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)) is None


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (1, 1, 199, 99)])
def test_nothing_or_everything_is_no_product(box):
    assert cut_out(product(box=box)) is None


def test_boxes_are_where_the_products_are():
    products = [CutOut(question(str(i)), cut_out(product())) for i in range(4)]
    scene, pasted = compose(Image.new("RGB", (400, 300), "blue"), products, np.random.default_rng(0))
    red = np.asarray(scene).astype(int)
    red = (red[..., 0] > 120) & (red[..., 2] < 80)
    assert len(pasted) >= 2
    inside = np.zeros_like(red)
    for each in pasted:
        x0, y0, x1, y1 = (
            round(edge * side) for edge, side in zip(each.box.as_tuple(), (1000, 750, 1000, 750), strict=True)
        )
        assert red[y0:y1, x0:x1].mean() > 0.9
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
    assert not (red & ~inside).any()


def test_products_hardly_hide_each_other():
    products = [CutOut(question(str(i)), cut_out(product())) for i in range(5)]
    for seed in range(10):
        _, pasted = compose(Image.new("RGB", (300, 300)), products, np.random.default_rng(seed))
        boxes = [each.box for each in pasted]
        assert all(a.iou(b) <= 0.1 for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_scenes_read_back_as_a_query_set(tmp_path):
    names = "abcdefgh"
    Image.new("RGB", (640, 480), "blue").save(tmp_path / "room.jpg")
    made = write_scenes(
        [question(name) for name in names], lambda _: product(), [tmp_path / "room.jpg"], tmp_path / "set", 6
    )
    entries = [Entry(0, "", name, f"{name}-{kind}") for name in names for kind in ("image", "other")]
    asked = read_questions(tmp_path / "set" / MANIFEST, Gallery(entries, ""))
    assert len(asked.questions) == made == 6
    assert all(2 <= len(each.right) <= 5 and set(each.boxes) == set(each.right) for each in asked.questions)
    assert all(each.left_out == {f"{name}-image" for name in each.right} for each in asked.questions)
    assert all((tmp_path / "set" / each.image).is_file() for each in asked.questions)
    assert all(isinstance(box, Box) for each in asked.questions for box in each.boxes.values())


def test_scenes_read_back_as_known_boxes(tmp_path):
    Image.new("RGB", (640, 480), "blue").save(tmp_path / "room.jpg")
    folder = tmp_path / "set"
    asked = [replace(question(name), category="Home" if name < "e" else "") for name in "abcdefgh"]
    write_scenes(asked, lambda _: product(), [tmp_path / "room.jpg"], folder, 4)
    photos = read_boxes(folder / BOXES)
    entries = [Entry(0, "", name, f"{name}-{kind}") for name in "abcdefgh" for kind in ("image", "other")]
    questions = read_questions(folder / MANIFEST, Gallery(entries, "")).questions
    assert [photo.image.name for photo in photos] == [each.image for each in questions]
    for photo, each in zip(photos, questions, strict=True):
        assert photo.image.is_file()
        labels = sorted("Home" if name < "e" else UNKNOWN for name in each.right)
        assert sorted(thing.label for thing in photo.things) == labels
        assert all(max(box.iou(thing.box) for thing in photo.things) > 0.99 for box in each.boxes.values())


def test_every_product_comes_once_before_any_comes_twice():
    from serve_app.evaluation.scenes import _deal

    cut = [CutOut(question(str(i)), Image.new("RGBA", (1, 1))) for i in range(30)]
    dealt = [card.question.right[0] for hand in islice(_deal(cut, np.random.default_rng(0)), 40) for card in hand]
    assert len(set(dealt[:25])) == 25


def test_too_few_plain_backgrounds_say_so(tmp_path):
    with pytest.raises(BadManifest, match="plain background"):
        write_scenes([question("a")], lambda _: product(), [tmp_path], tmp_path, 1)
