"""What is remembered of photos: little, for a while, and for their owner alone."""

import numpy as np
import pytest

from serve_app.config import CacheConfig
from serve_app.domain import Box, Detection
from serve_app.keeping import NOBODY
from serve_app.objects import THE_BEST, Focus
from serve_app.pipeline import NO_DETECTOR, Embedded, Query, Seen
from serve_app.seen_photos import ENTRY_BYTES, SeenPhotos
from serve_app.sessions import Sessions
from tests.unit.test_pipeline import FakeSearcher
from tests.unit.test_sessions import Seeing, hit, sessions, store

MODEL = "0123456789ab"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def seen(model: str = MODEL, degraded: tuple[str, ...] = ()) -> Seen:
    found = (Detection(Box(0, 0, 0.5, 0.5), "chair", 0.9),)
    return Seen(640, 480, found, Embedded(np.eye(2, 256, dtype=np.float32), model), degraded, {"detect": 5.0}, 1.0)


def remembering(clock: Clock | None = None, **config) -> SeenPhotos:
    made = SeenPhotos(CacheConfig(enabled=True, **config), MODEL, lambda: made.collection, clock=clock or Clock())
    made.collection = "products_a"
    return made


async def key(photos: SeenPhotos, photo: bytes = b"photo", owner: str = "shop", focus: Focus = THE_BEST):
    return await photos.key(owner, photo, focus)


async def remember(photos: SeenPhotos, photo: bytes = b"photo", what: Seen | None = None) -> None:
    photos.put(await key(photos, photo), what or seen())


async def is_known(photos: SeenPhotos, photo: bytes = b"photo", **more) -> bool:
    return photos.get(await key(photos, photo, **more)) is not None


async def test_photo_is_known_by_all_of_it_whatever_its_size():
    photos = remembering()
    large = bytes(10**6)
    await remember(photos, large)
    assert await is_known(photos, bytes(10**6))
    assert not await is_known(photos, large[:-1] + b"1")


async def test_what_it_took_to_see_it_is_not_told_again():
    photos = remembering()
    await remember(photos)
    found = photos.get(await key(photos))
    assert (found.timings_ms, found.cold_s) == ({}, 0.0)
    assert np.array_equal(found.embedded.embeddings, seen().embedded.embeddings)


async def test_photo_of_another_owner_is_not_known():
    photos = remembering()
    await remember(photos)
    assert not await is_known(photos, owner="other shop")
    assert not await is_known(photos, owner=NOBODY)


@pytest.mark.parametrize("what", [seen(degraded=(NO_DETECTOR,)), seen(model="ba9876543210")], ids=["lacks", "model"])
async def test_what_lacks_something_or_is_of_another_model_is_not_remembered(what):
    photos = remembering()
    await remember(photos, what=what)
    assert (len(photos), photos.size_bytes) == (0, 0)


async def test_nothing_is_remembered_while_the_index_is_not_known():
    photos = remembering()
    photos.collection = None
    assert await key(photos) is None


async def test_photo_that_was_used_longest_ago_makes_room():
    photos = remembering(max_entries=2)
    await remember(photos, b"a")
    await remember(photos, b"b")
    assert await is_known(photos, b"a")
    await remember(photos, b"c")
    assert [await is_known(photos, each) for each in (b"a", b"b", b"c")] == [True, False, True]


async def test_bytes_are_bounded_whatever_comes():
    most = 10 * ENTRY_BYTES
    photos = remembering(max_bytes=most)
    for number in range(100):
        await remember(photos, b"%d" % number)
        assert photos.size_bytes <= most
    assert 1 < len(photos) < 10


async def test_what_is_put_again_counts_once():
    photos = remembering()
    await remember(photos)
    size_bytes = photos.size_bytes
    await remember(photos)
    assert (len(photos), photos.size_bytes) == (1, size_bytes)


async def test_photo_goes_when_its_time_is_over_though_nobody_asks():
    clock = Clock()
    photos = remembering(clock, expiry_s=900)
    await remember(photos)
    clock.now_s = 899
    assert await is_known(photos)
    clock.now_s = 900
    photos.sweep()
    assert (len(photos), photos.size_bytes) == (0, 0)


async def test_all_goes_when_the_alias_stands_for_another_collection():
    photos = remembering()
    await remember(photos)
    photos.collection = "products_b"
    photos.sweep()
    assert len(photos) == 0


async def test_nothing_of_the_photo_itself_is_kept():
    photos = remembering()
    await remember(photos, b"a photo of mine")
    (kept,) = photos._entries.items()
    assert b"a photo of mine" not in repr(kept).encode()
    assert {type(each).__name__ for each in (kept[1].seen.embedded.embeddings, *kept[1].seen.detections)} == {
        "ndarray",
        "Detection",
    }


def remembered_sessions(photos: SeenPhotos, detector: Seeing) -> Sessions:
    made = sessions(store(), detector, FakeSearcher([hit("room", 0.9)]))
    made._remembered = photos
    return made


async def test_owner_has_what_they_sent_and_another_has_it_seen_anew():
    detector = Seeing()
    made = remembered_sessions(remembering(), detector)
    for owner in ("shop", "shop", "other shop"):
        await made.search(owner, b"a photo", Query())
    assert len(detector.photos) == 2
