"""What a shopper's photo tells beside its picture stays nowhere, and the photo goes with its token."""

import asyncio
import base64
import logging

import numpy as np
import pytest

from serve_app import keeping, telemetry
from serve_app.images import decode
from serve_app.keeping import NOBODY, Bounds, ShelfStore
from serve_app.photos import Photos
from serve_app.pipeline import Query, Sighting
from tests.unit.test_api import FakeService, request
from tests.unit.test_metadata import KINDS, SECRET, photo
from tests.unit.test_sessions import sessions

NAME = f"{SECRET}.jpg"


class DecodingService(FakeService):
    max_body_bytes = 10**6

    async def search(self, owner, photo, query, *, bulk=False):
        decode(photo)
        return await super().search(owner, photo, query, bulk=bulk)

    async def see(self, photo):
        working = decode(photo)
        return Sighting(working.width, working.height, (), np.empty((0, 2, 2, 3), np.uint8), 1.0)


@pytest.fixture
def log_file(tmp_path):
    """Log to a file as the service does."""
    package = logging.getLogger("serve_app")
    before = (package.handlers[:], package.level, package.propagate)
    path = tmp_path / "shoplens.log"
    telemetry.configure_logging(path)
    yield path
    package.handlers[-1].close()
    package.handlers[:], package.level, package.propagate = before


def sent(service: FakeService, data: bytes) -> list:
    """Send a photo in every way there is."""
    encoded = base64.b64encode(data).decode()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [encoded]}
    return [
        request(service, "POST", "/v1/search", files={"photo": (NAME, data, "image/jpeg")}),
        request(service, "POST", "/v1/search", content=data, headers={"Content-Type": "image/jpeg"}),
        request(service, "POST", "/v1/search", json={"image": encoded}),
        request(service, "POST", "/v1/search:batch", json={"searches": [{"image": encoded}]}),
        request(service, "POST", "/v2/models/detector/infer", json={"inputs": [tensor]}),
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut off"])
def test_what_a_camera_wrote_is_neither_logged_nor_answered(kind, whole, log_file, capfd):
    data = photo(kind)
    data = data if whole else data[: -len(data) // 4]
    answers = sent(DecodingService(), data)
    log = log_file.read_text()
    assert log.count("request_id") >= len(answers) - 1
    everything = [log, *capfd.readouterr(), *(answer.text for answer in answers)]
    for part in (SECRET, base64.b64encode(SECRET.encode()).decode()[:-4], repr(data[:20])[2:-1]):
        assert not [text for text in everything if part in text]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_camera_wrote_is_not_kept_with_its_photo(kind):
    store = ShelfStore(Bounds(10**6, 10**6, 900))
    found = sessions(store)
    found._photos = Photos(store, 5)
    token = (await found.search(NOBODY, photo(kind), Query())).token
    kept = store._shelf._kept[token].parts
    assert len(kept["photo"]) > 1000
    assert not [name for name, part in kept.items() if SECRET.encode() in part]


async def test_photo_goes_with_its_token_though_nobody_asks(monkeypatch):
    monkeypatch.setattr(keeping, "SWEEP_S", 0.01)
    now_s = 0.0
    store = ShelfStore(Bounds(10**6, 10**6, 900), clock=lambda: now_s)
    token = (await sessions(store).search(NOBODY, b"a photo", Query())).token
    assert store._shelf._kept[token].parts["photo"] == b"a photo"
    now_s = 900.0
    async with asyncio.timeout(5):
        while store._shelf._kept:  # noqa: ASYNC110 - the sweeper tells nobody
            await asyncio.sleep(0.01)
    assert store._shelf.size_bytes == 0
