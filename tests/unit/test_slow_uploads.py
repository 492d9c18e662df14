"""Bodies that come slowly."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from serve_app.api.uploads import Pace, in_time
from serve_app.errors import UploadTimeout

IMPATIENT = Pace(patience_s=0.05, slowest_bytes_s=20_000, longest_s=5)


async def slow(*chunks: bytes, wait_s: float, ends: bool = True) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        await asyncio.sleep(wait_s)
        yield chunk
    if not ends:
        await asyncio.sleep(60)


async def read(chunks: AsyncGenerator[bytes, None], pace: Pace = IMPATIENT) -> bytes:
    return b"".join([chunk async for chunk in in_time(chunks, pace)])


async def test_body_that_stops_is_given_up():
    with pytest.raises(UploadTimeout):
        await read(slow(b"half", wait_s=0, ends=False))


async def test_body_that_trickles_is_given_up():
    with pytest.raises(UploadTimeout):
        await read(slow(*[b"a"] * 20, wait_s=0.02))


async def test_body_that_comes_steadily_may_take_longer():
    chunks = [bytes(100_000)] * 4
    assert await read(slow(*chunks, wait_s=0.2), Pace(0.5, 20_000, longest_s=60)) == b"".join(chunks)


async def test_no_body_takes_longer_than_the_longest():
    with pytest.raises(UploadTimeout):
        await read(slow(*[bytes(10_000)] * 20, wait_s=0.02), Pace(0.05, 20_000, longest_s=0.1))
