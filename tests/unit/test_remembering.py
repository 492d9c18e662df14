import numpy as np
import pytest

from serve_app.domain import Box, Detection, Photo
from serve_app.errors import BadConfig
from serve_app.evaluation.models import Histogram
from serve_app.evaluation.remembering import Memory, RememberedDetector, RememberedEmbedder

CROPS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)


class CountingEmbedder:
    def __init__(self):
        self.seen = 0

    def embed(self, crops):
        self.seen += len(crops)
        return crops.reshape(len(crops), -1)[:, :5].astype(np.float32)


class CountingDetector(CountingEmbedder):
    def find(self, photos):
        self.seen += len(photos)
        return [(Detection(Box(0.1, 0.2, 0.3, 0.4), "chair", 0.5),) if photo.pixels.any() else () for photo in photos]


@pytest.fixture
def memory(tmp_path):
    with Memory(tmp_path / "deep/said.sqlite") as opened:
        yield opened


def test_a_model_sees_each_crop_once(memory):
    model = CountingEmbedder()
    embedder = RememberedEmbedder(lambda: model, memory, "m")
    first = embedder.embed(CROPS[:2])
    again = embedder.embed(CROPS[[1, 2, 0]])
    assert model.seen == 3
    np.testing.assert_array_equal(again[[2, 0]], first)
    np.testing.assert_array_equal(again, model.embed(CROPS[[1, 2, 0]]))


def test_another_model_remembers_nothing_of_the_first(memory):
    one, other = CountingEmbedder(), CountingEmbedder()
    RememberedEmbedder(lambda: one, memory, "m").embed(CROPS)
    RememberedEmbedder(lambda: other, memory, "n").embed(CROPS)
    assert other.seen == 4


def test_a_known_crop_loads_no_model(memory):
    RememberedEmbedder(CountingEmbedder, memory, "m").embed(CROPS)
    RememberedEmbedder(lambda: pytest.fail("loaded"), memory, "m").embed(CROPS)


def test_detections_come_back_as_they_were(memory):
    photos = [Photo(crop, 8, 8) for crop in (CROPS[0], np.zeros_like(CROPS[0]))]
    first = RememberedDetector(CountingDetector, memory, "d").find(photos)
    again = RememberedDetector(lambda: pytest.fail("loaded"), memory, "d").find(photos)
    assert again == first == [(Detection(Box(0.1, 0.2, 0.3, 0.4), "chair", 0.5),), ()]


def test_the_same_bytes_in_another_shape_are_another_photo(memory):
    model = CountingDetector()
    detector = RememberedDetector(lambda: model, memory, "d")
    detector.find([Photo(np.ones((2, 8, 3), np.uint8), 8, 2)])
    detector.find([Photo(np.ones((8, 2, 3), np.uint8), 2, 8)])
    assert model.seen == 2


def test_a_file_that_is_no_memory_is_refused(tmp_path):
    (tmp_path / "said.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(BadConfig, match=r"said\.sqlite"):
        Memory(tmp_path / "said.sqlite")


def test_a_histogram_tells_colours_apart():
    red, redder, blue = (np.full((1, 8, 8, 3), colour, np.uint8) for colour in ((200, 0, 0), (210, 5, 5), (0, 0, 200)))
    rows = Histogram().embed(np.concatenate([red, redder, blue]))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert rows[0] @ rows[1] > 0.99 > 0.01 > rows[0] @ rows[2]
