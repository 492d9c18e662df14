"""The corpus of bad inputs, as far as it needs no running service: decoding, reading, filters, addresses."""

import asyncio
import gc
import random
import warnings
from collections.abc import Iterable

import httpx
import pytest

from scripts.bad_corpus import MAKERS
from scripts.bad_photos import MAKERS as PHOTO_MAKERS
from scripts.bad_requests import BadRequest
from scripts.bad_urls import NAMED_HOSTS, REFUSED_URLS, UNREADABLE_URLS, product_urls
from serve_app.api.app import create_app
from serve_app.config import FetchConfig
from serve_app.domain import Terms
from serve_app.errors import FetchFailed, PhotoExpired, ShoplensError, UnknownImage, UnknownProduct, UrlRefused
from serve_app.fetching import Fetcher
from serve_app.images import decode
from serve_app.photo_urls import PhotoUrls
from tests.unit.test_inference_api import ModelService
from tests.unit.test_writing_api import WritingService


class OpenService(ModelService, WritingService):
    """Take photos of any size that a service takes, and know no product, no image and no token."""

    max_body_bytes = 20 * 2**20

    async def product(self, product_id, *, strong):
        raise UnknownProduct("there is none")

    async def similar(self, owner, product_id, query):
        raise UnknownProduct("there is none")

    async def picture(self, image_id, width, known):
        raise UnknownImage("there is none")

    async def search_again(self, owner, token, query, *, bulk=False):
        raise PhotoExpired("it is gone")

    async def search_together(self, owner, photos, query, *, bulk=False):
        for photo in photos:
            decode(photo)
        return await super().search_together(owner, photos, query, bulk=bulk)

    async def search_url(self, owner, url, query, *, bulk=False):
        photos = PhotoUrls(FetchConfig(search_hosts=NAMED_HOSTS, attempts=1, connect_timeout_s=1), self.max_body_bytes)
        try:
            photo = await photos.photo(url, Terms.within(20))
        finally:
            await photos.close()
        return await super().search(owner, photo, query, bulk=bulk)

    async def page(self, owner, cursor, top_k, query, *, bulk=False):
        raise PhotoExpired("it is gone")

    async def search(self, owner, photo, query, *, bulk=False):
        if photo[:2] == b"\x1f\x8b":
            decode(photo)
        return await super().search(owner, photo, query, bulk=bulk)


def decoded(data: bytes) -> str:
    try:
        decode(data)
    except ShoplensError as error:
        says_what_to_do = any(word in error.message for word in ("; send", "; upload", "; save"))
        return error.code if says_what_to_do else error.message
    return "ok"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("maker", PHOTO_MAKERS, ids=lambda maker: maker.__name__.strip("_"))
def test_bad_photo_is_decoded_or_refused_by_its_code(maker):
    answers = {photo.name: (decoded(photo.data), photo.codes) for photo in maker(random.Random(0))}
    assert {name: answer for name, answer in answers.items() if answer[0] not in answer[1]} == {}


async def answered(bad_ones: Iterable[BadRequest]) -> dict[str, tuple[tuple[int, str], tuple[tuple[int, str], ...]]]:
    transport = httpx.ASGITransport(create_app(OpenService()), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        return {bad.name: (await answer(client, bad), bad.answers) for bad in bad_ones}


async def answer(client: httpx.AsyncClient, bad: BadRequest) -> tuple[int, str]:
    response = await client.request(bad.method, bad.path, content=bad.body, headers=bad.headers)
    if response.status_code == 200:
        return 200, "ok"
    problem = response.json()
    assert problem["detail"]
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, problem["code"]


@pytest.mark.parametrize("maker", [each for each in MAKERS if each is not product_urls], ids=lambda each: each.__name__)
def test_bad_request_is_answered_by_its_code(maker):
    answers = asyncio.run(answered(maker()))
    assert {name: answer for name, answer in answers.items() if answer[0] not in answer[1]} == {}


def test_form_that_ends_within_a_photo_leaves_no_file_open():
    head = b'--b\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
    form = {"content-type": "multipart/form-data; boundary=b"}
    cut_off = BadRequest("form", "cut off", ((400, "empty_body"),), body=head + b"half a photo", headers=form)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        answers = asyncio.run(answered([cut_off]))
        gc.collect()
    assert answers["cut off"][0] == (400, "empty_body")
    assert [str(each.message) for each in warned if each.category is ResourceWarning] == []


async def refusal(url: str) -> str:
    async with Fetcher(FetchConfig(attempts=1, connect_timeout_s=1)) as fetcher:
        with pytest.raises(FetchFailed) as caught:
            await fetcher.fetch(url, max_bytes=100)
    return "" if isinstance(caught.value, UrlRefused) else url


@pytest.mark.parametrize("urls", [REFUSED_URLS, UNREADABLE_URLS[:-2]], ids=["refused", "unreadable"])
def test_bad_url_is_refused_before_anything_is_asked(urls):
    async def all_of_them() -> list[str]:
        return await asyncio.gather(*map(refusal, urls))

    assert [url for url in asyncio.run(all_of_them()) if url] == []
