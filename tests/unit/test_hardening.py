import io

import numpy as np
import pytest
from PIL import Image

from serve_app.errors import NotAnImage
from serve_app.evaluation.hardening import CHANGES, harden
from serve_app.images import decode

RANDOM = np.random.default_rng(1)


def photo(seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((320, 240), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def sharpness(data: bytes) -> float:
    return float((np.diff(decode(data).pixels.astype(float), axis=1) ** 2).mean())


@pytest.mark.parametrize("change", CHANGES)
def test_a_photo_is_changed_the_same_way_each_time(change):
    assert harden(photo(), change) == harden(photo(), change)
    assert not np.array_equal(decode(harden(photo(), change)).pixels, decode(photo()).pixels)


def test_photos_are_cut_in_different_places():
    sizes = {decode(harden(photo(seed), "cut")).pixels.shape for seed in range(8)}
    assert len(sizes) > 1
    assert all(120 <= height <= 192 and 160 <= width <= 256 for height, width, _ in sizes)


def test_blur_takes_edges_away():
    assert sharpness(harden(photo(), "blur")) < 0.5 * sharpness(photo())


def test_exposure_makes_photos_lighter_or_darker():
    before = decode(photo()).pixels.mean()
    changes = [decode(harden(photo(seed), "exposure")).pixels.mean() - before for seed in range(12)]
    assert min(changes) < -10
    assert max(changes) > 10


def test_compression_leaves_half_of_the_side():
    assert decode(harden(photo(), "jpeg")).pixels.shape == (120, 160, 3)


def test_what_is_no_photo_is_refused():
    with pytest.raises(NotAnImage):
        harden(b"nothing", "cut")
