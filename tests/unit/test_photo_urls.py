"""Photos that searches name by URL come from the hosts that the settings name, in time, or not at all."""

import asyncio

import pytest
from aiohttp import web

from serve_app.config import Config, FetchConfig
from serve_app.domain import Terms
from serve_app.errors import FetchFailed, Overloaded, PhotoTooLarge
from serve_app.fetching import Fetcher
from serve_app.photo_urls import SETTING, PhotoUrls, Places, of_searches
from tests.unit.test_fetching import LOCAL, Names, moved, serving

MAX_BYTES = 1000


def fetching(*hosts: str, names: Names | None = None, **settings) -> PhotoUrls:
    config = FetchConfig(**({"search_hosts": hosts, "allow_private": LOCAL, "attempts": 1} | settings))
    return PhotoUrls(config, MAX_BYTES, Fetcher(of_searches(config), resolver=names or Names(), hosts_setting=SETTING))


async def refusal(photos: PhotoUrls, url: str, seconds: float = 20) -> tuple[str, str]:
    """Return code and words of the error, which have to say what to do."""
    with pytest.raises((FetchFailed, PhotoTooLarge)) as raised:
        await photos.photo(url, Terms.within(seconds))
    await photos.close()
    assert raised.value.message.endswith("the photo itself")
    return raised.value.code, raised.value.message


async def test_photo_comes_from_a_host_that_is_named():
    photos = fetching("*.shop.test")
    async with serving() as server:
        assert await photos.photo(server.url(host="images.shop.test"), Terms.within(20)) == b"photo"
    await photos.close()


async def test_no_search_takes_a_url_until_a_host_is_named():
    async with serving() as server:
        told = await refusal(fetching(allow_hosts=("127.0.0.1",)), server.url())
        assert (told[0], server.requests) == ("url_refused", [])
    assert SETTING in told[1]


async def test_other_hosts_are_refused_with_the_setting_that_names_hosts():
    async with serving() as server:
        told = await refusal(fetching("shop.test", allow_hosts=("127.0.0.1",)), server.url())
        assert (told[0], server.requests) == ("url_refused", [])
    assert f"{SETTING} does not name" in told[1]


async def test_redirect_to_another_host_is_refused():
    async with serving(address="127.0.0.2") as inner, serving(lambda request: moved(inner.url())) as server:
        told = await refusal(fetching("127.0.0.1"), server.url())
        assert (told[0], inner.requests) == ("url_refused", [])
    assert SETTING in told[1]


async def test_named_host_that_leads_into_a_private_network_is_refused():
    async with serving() as server:
        told = await refusal(fetching("shop.test", allow_private=()), server.url(host="shop.test"))
        assert (told[0], server.requests) == ("url_refused", [])


async def test_named_host_whose_name_is_bound_anew_is_refused():
    names = Names(shop=[["127.0.0.1"], ["127.0.0.2"]])
    async with serving(address="127.0.0.2") as inner:
        # The second port makes a second connection, and a second look-up.
        async with serving(lambda request: moved(inner.url(host="shop.test"))) as server:
            photos = fetching("shop.test", names=names, allow_private=("127.0.0.1/32",))
            assert (await refusal(photos, server.url(host="shop.test")))[0] == "url_refused"
        assert (len(server.requests), inner.requests) == (1, [])


async def test_photo_that_takes_longer_than_a_search_may_is_given_up():
    async def never(request):
        await asyncio.sleep(60)

    async with serving(never) as server:
        assert (await refusal(fetching("127.0.0.1"), server.url(), seconds=0.3))[0] == "fetch_timeout"


async def test_photo_of_more_bytes_than_may_be_sent_is_given_up():
    async with serving(lambda request: web.Response(body=bytes(MAX_BYTES + 1))) as server:
        assert (await refusal(fetching("127.0.0.1"), server.url()))[0] == "photo_too_large"


@pytest.mark.parametrize(("status", "code"), [(401, "fetch_denied"), (404, "not_found"), (500, "fetch_failed")])
async def test_what_another_server_answers_has_a_code(status, code):
    async with serving(lambda request: web.Response(status=status)) as server:
        assert (await refusal(fetching("127.0.0.1"), server.url()))[0] == code


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def refused(places: Places, *, bulk: bool = False) -> float | None:
    """Return the seconds after which a search that is not taken may come again; None where it is."""
    try:
        with places.taken(Terms(bulk=bulk), 0):
            return None
    except Overloaded as error:
        return error.retry_after_s


def test_before_a_photo_came_a_place_is_promised_for_when_the_first_gives_up():
    clock = Clock()
    places = Places(2, clock)
    with places.taken(Terms(), 104.0):
        assert refused(places) is None
    places = Places(2, clock)
    with places.taken(Terms(), 104.0), places.taken(Terms(), 107.5):
        assert refused(places) == 4.0
        clock.now_s = 103.9
        assert refused(places) == 1.0
    assert refused(places) is None


def test_once_photos_came_a_place_is_promised_after_what_they_took():
    clock = Clock()
    places = Places(1, clock)
    with places.taken(Terms(), 110.0):
        clock.now_s = 102.0
    with places.taken(Terms(), 122.0):
        assert refused(places) == 2.0


def test_searches_of_a_batch_leave_half_of_the_places_to_shoppers():
    places = Places(4, Clock())
    with places.taken(Terms(bulk=True), 110.0), places.taken(Terms(bulk=True), 110.0):
        assert refused(places, bulk=True) == 10.0
        assert refused(places) is None


def test_place_is_given_back_where_no_photo_comes():
    places = Places(1, Clock())
    with pytest.raises(FetchFailed), places.taken(Terms(), 110.0):
        raise FetchFailed("away")
    assert refused(places) is None


def test_places_and_searches_in_work_have_to_leave_room_for_photos_that_are_sent():
    Config(fetch={"max_searches": 192})
    with pytest.raises(ValueError, match=r"fetch\.max_searches together"):
        Config(fetch={"max_searches": 192, "search_hosts": ["shop.test"]})
