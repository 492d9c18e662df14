"""What the benchmarks compute, held against what can be counted by hand."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from scripts import synthetic
from scripts.bench_import import Watched
from scripts.bench_phones import Matches, matched
from scripts.bench_routing import routed
from scripts.phone_crops import phone_crop
from scripts.phone_runtimes import suppressed
from serve_app.domain import Box


def test_exact_neighbours_are_found_across_chunks(monkeypatch):
    monkeypatch.setattr(synthetic, "CHUNK_ROWS", 7)
    rng = np.random.default_rng(5)
    vectors = synthetic.clustered(rng, 50, rows_a_cluster=10)
    queries = synthetic.queries_near(rng, vectors, 4)
    whole = np.argsort(-(queries @ vectors.T), axis=1)[:, :3]
    assert [set(row) for row in synthetic.exact(vectors, queries, 3)] == [set(row) for row in whole]


def test_made_up_embeddings_have_length_one_and_neighbours():
    rng = np.random.default_rng(5)
    vectors = synthetic.clustered(rng, 200, rows_a_cluster=20)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    scores = np.sort(vectors @ vectors[0])
    assert scores[-2] > 0.5 > scores[100]


def test_rate_of_an_import_leaves_its_start_out():
    watched = Watched(seconds=30.0)
    watched.add({"statuses": {"unchanged": 5}, "work": {}}, 2.0)
    watched.add({"statuses": {"embedded": 16}, "work": {"embed": 1.5}}, 10.0)
    watched.add({"statuses": {"embedded": 40}, "work": {"embed": 1.5}}, 30.0)
    assert watched.start_s == 10.0
    assert watched.rate == pytest.approx(40 / 20)
    assert watched.work["embed"] == 3.0


def test_growth_of_memory_compares_the_end_with_an_import_under_way():
    watched = Watched(seconds=110.0, start_s=10.0)
    watched.memory = [(float(second), 100.0 if second < 30 else 200.0) for second in range(111)]
    assert watched.growth() == pytest.approx(1.0)
    watched.memory = [(float(second), 100.0 + second) for second in range(111)]
    assert watched.growth() > 1.2


def rows(*found: tuple[float, float, float, float, float, int]) -> np.ndarray:
    return np.array(found, np.float32).reshape(-1, 6)


def test_boxes_are_matched_one_to_one_and_by_label():
    one, near = (0, 0, 10, 10, 0.9, 1), (0, 0, 10, 9.5, 0.8, 1)
    assert matched(rows(one), rows(near, one)) == pytest.approx([1.0])
    assert matched(rows(one, near), rows(one)) == pytest.approx([1.0])
    assert sorted(matched(rows(one, near), rows(near, one))) == pytest.approx([1.0, 1.0])
    assert matched(rows(one), rows((0, 0, 10, 10, 0.9, 2))) == []
    assert matched(rows(one), rows((20, 20, 30, 30, 0.9, 1))) == []


def test_only_sure_boxes_need_a_partner():
    matches = Matches()
    matches.add(rows((0, 0, 10, 10, 0.9, 1), (50, 50, 60, 60, 0.39, 1)), rows((0, 0, 10, 10, 0.3, 1)))
    matches.add(rows((0, 0, 10, 10, 0.9, 1)), rows((0, 0, 10, 8, 0.9, 1)))
    assert (matches.boxes, matches.share) == (2, 0.5)


def test_doubles_of_one_label_are_suppressed():
    columns = np.zeros((4 + 2, 4), np.float32)
    columns[:4] = np.array([[50, 50, 20, 20], [51, 50, 20, 20], [51, 50, 20, 20], [90, 90, 10, 10]]).T
    columns[4:] = np.array([[0.9, 0], [0.6, 0], [0, 0.5], [0.2, 0]]).T
    np.testing.assert_allclose(suppressed(columns), [[40, 40, 60, 60, 0.9, 0], [41, 40, 61, 60, 0.5, 1]], rtol=1e-6)


def test_phone_cuts_the_upright_photo_at_its_full_size():
    image = Image.new("RGB", (400, 200), "white")
    image.paste("red", (0, 0, 200, 200))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # shown turned to the right: red above white
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    crop = Image.open(io.BytesIO(phone_crop(buffer.getvalue(), Box(0, 0, 1, 0.5))))
    assert (crop.format, crop.size) == ("JPEG", (200, 200))
    assert crop.getpixel((100, 150))[0] > 200 > 60 > crop.getpixel((100, 150))[1]
    assert not crop.getexif()


def test_category_that_the_nearest_agree_on_goes_first():
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], np.float32)
    last = np.array([[False, False, False, True]])
    categories, own = np.array(["shoes", "bags", "shoes", "shoes"]), np.array(["shoes"])
    plain = routed(scores, last, categories, own, voters=1, sure=2.0)
    assert (plain.ranks.tolist(), plain.sure.tolist()) == ([4], [False])
    sent = routed(scores, last, categories, own, voters=3, sure=0.6)
    assert (sent.ranks.tolist(), sent.sure.tolist(), sent.right.tolist()) == ([3], [True], [True])
    unsure = routed(scores, last, categories, own, voters=3, sure=0.7)
    assert (unsure.ranks.tolist(), unsure.sure.tolist()) == ([4], [False])
    wrong = routed(scores, np.array([[False, True, False, False]]), categories, np.array(["bags"]), voters=3, sure=0.6)
    assert (wrong.ranks.tolist(), wrong.right.tolist()) == ([4], [False])
