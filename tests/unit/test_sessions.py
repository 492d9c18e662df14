"""Photos that are searched again, over a store that may be away."""

import asyncio
import time

import pytest

from serve_app.errors import PhotoExpired, StageUnavailable
from serve_app.keeping import NOBODY, Bounds, ShelfStore
from serve_app.paging import Paging
from serve_app.photos import Photos
from serve_app.pipeline import NO_TOKEN, Query
from serve_app.sessions import Sessions
from tests.unit.builders import hit
from tests.unit.test_pipeline import FakeDetector, FakeSearcher, pipeline

TIMEOUT_S = 0.1


class AwayStore(ShelfStore):
    """Raise, or hang, as told."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(Bounds(10**6, 10**6, 900))
        self.error = error

    async def open(self, owner, token, parts):
        await self._fail()
        return await super().open(owner, token, parts)

    async def read(self, owner, token, name):
        await self._fail()
        return await super().read(owner, token, name)

    async def signing_key(self, proposed):
        await self._fail()
        return await super().signing_key(proposed)

    async def _fail(self) -> None:
        if self.error is None:
            await asyncio.sleep(60)
        else:
            raise self.error


class Seeing(FakeDetector):
    def __init__(self) -> None:
        super().__init__()
        self.photos: list[bytes] = []

    async def detect(self, photo, focus, terms=None):
        self.photos.append(photo)
        return await super().detect(photo, focus)


def sessions(store: ShelfStore, detector: FakeDetector | None = None, searcher: FakeSearcher | None = None) -> Sessions:
    searcher = searcher or FakeSearcher([hit("room", 0.9)])
    flow = pipeline(detector or FakeDetector(), searcher)
    photos = Photos(store, TIMEOUT_S, bytes)
    return Sessions(flow, photos, Paging(flow, searcher, photos, "0123456789ab"))


def store(**bounds: float) -> ShelfStore:
    return ShelfStore(Bounds(**{"max_bytes": 10**6, "max_bytes_per_key": 10**6, "expiry_s": 900, **bounds}))


async def test_photo_is_searched_again_by_its_token():
    detector = Seeing()
    given = sessions(store(), detector)
    first = await given.search(NOBODY, b"a photo", Query())
    again = await given.search_again(NOBODY, first.token, Query())
    assert detector.photos == [b"a photo", b"a photo"]
    assert again.token == first.token
    assert again.lists[0].products == first.lists[0].products


async def test_first_of_several_photos_is_kept():
    detector = Seeing()
    given = sessions(store(), detector, FakeSearcher([hit("front", 0.9)], [hit("back", 0.8)]))
    first = await given.search_together(NOBODY, [b"front", b"back"], Query())
    await given.search_again(NOBODY, first.token, Query())
    assert sorted(detector.photos[:2]) == [b"back", b"front"]
    assert detector.photos[2:] == [b"front"]


async def test_tokens_are_different():
    given = sessions(store())
    assert len({(await given.search(NOBODY, b"a photo", Query())).token for _ in range(5)}) == 5


async def test_token_of_another_key_is_unknown():
    given = sessions(store())
    first = await given.search("shop", b"a photo", Query())
    with pytest.raises(PhotoExpired):
        await given.search_again("other shop", first.token, Query())


async def test_photo_that_went_has_expired():
    given = sessions(store(expiry_s=0))
    first = await given.search(NOBODY, b"a photo", Query())
    with pytest.raises(PhotoExpired):
        await given.search_again(NOBODY, first.token, Query())


@pytest.mark.parametrize("error", [StageUnavailable("gone"), None], ids=["gone", "hangs"])
async def test_store_that_is_away_costs_the_token_alone(error):
    answer = await sessions(AwayStore(error)).search(NOBODY, b"a photo", Query())
    assert answer.token is None
    assert NO_TOKEN in answer.degraded
    assert answer.lists[0].products


async def test_store_that_hangs_is_not_waited_for_by_everyone():
    given = sessions(AwayStore())
    for _ in range(3):
        await given.search(NOBODY, b"a photo", Query())
    started_s = time.monotonic()
    await given.search(NOBODY, b"a photo", Query())
    assert time.monotonic() - started_s < TIMEOUT_S / 2


@pytest.mark.parametrize("error", [StageUnavailable("gone"), None], ids=["gone", "hangs"])
async def test_search_by_token_says_that_the_store_is_away(error):
    with pytest.raises(StageUnavailable):
        await sessions(AwayStore(error)).search_again(NOBODY, "token", Query())


async def test_photo_that_is_none_is_not_kept():
    class Blind(FakeDetector):
        async def detect(self, photo, focus, terms=None):
            raise StageUnavailable("no")

    kept = store()
    with pytest.raises(StageUnavailable):
        await sessions(kept, Blind()).search(NOBODY, b"no photo", Query())
    assert kept._shelf.size_bytes == 0


async def test_photo_is_kept_beside_the_search():
    class Slow(ShelfStore):
        async def open(self, owner, token, parts):
            await asyncio.sleep(0.05)
            return await super().open(owner, token, parts)

    class Busy(FakeSearcher):
        async def search(self, *arguments, **named):
            await asyncio.sleep(0.05)
            return await super().search(*arguments, **named)

    given = sessions(Slow(Bounds(10**6, 10**6, 900)), searcher=Busy([hit("room", 0.9)]))
    started_s = time.monotonic()
    assert (await given.search(NOBODY, b"a photo", Query())).token
    assert time.monotonic() - started_s < 0.09


async def test_store_is_reached_before_the_first_search_or_later():
    await sessions(AwayStore(StageUnavailable("gone"))).connect()
    late = AwayStore(StageUnavailable("gone"))
    given = sessions(late)
    await given.connect()
    late.error = None
    late._fail = lambda: asyncio.sleep(0)
    assert (await given.search(NOBODY, b"a photo", Query())).token


async def test_photo_is_kept_without_what_its_camera_wrote():
    kept = store()
    token = await Photos(kept, TIMEOUT_S, lambda photo: photo.removesuffix(b" of a place")).keep(
        NOBODY, b"p of a place"
    )
    assert await Photos(kept, TIMEOUT_S).photo(NOBODY, token) == b"p"


async def test_photo_whose_metadata_can_not_be_told_is_not_kept():
    assert await Photos(store(), TIMEOUT_S).keep(NOBODY, b"no photo") is None
