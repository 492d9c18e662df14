"""Reading a photo out of a request, never more of it than allowed."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from serve_app.api.parameters import MOST_IMAGES
from serve_app.errors import BadParameter, EmptyBody, PhotoTooLarge, UnsupportedType, UploadTimeout

FIELD = "photo"
IMAGES = "images"
FORM = "multipart/form-data"
JSON = "application/json"
RAW = "application/octet-stream"
FRAMING_BYTES = 16 * 1024
"""What a body may hold beside the photo itself."""

ON_THE_LOOP_BYTES = 256 * 1024
"""Larger bodies of JSON are taken apart in a thread."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Say how slowly a body may come, `longest_s` at most: each one that is being read takes the place of another."""

    patience_s: float = 10.0
    slowest_bytes_s: float = 8 * 1024
    longest_s: float = 120.0

    def allowed_s(self, received: int) -> float:
        """Return how long after its start the next part of a body may come."""
        return min(self.patience_s + received / self.slowest_bytes_s, self.longest_s)


PACE = Pace()


class _InMemoryParser(MultiPartParser):
    # The body is bounded already; a temporary file would put blocking disk access on the event loop.
    spool_max_size = 2**31

    def close(self) -> None:
        """Close the files of all parts: the form knows only those that were sent to their end."""
        for file in self._files_to_close_on_error:
            file.close()


@dataclass(frozen=True, slots=True)
class Upload:
    """Hold what a body brought: a photo or several of one thing, if any, and the parameters of a JSON body."""

    photo: bytes | None = None
    values: dict[str, Any] = field(default_factory=dict)
    together: tuple[bytes, ...] = ()

    @property
    def size_bytes(self) -> int:
        return len(self.photo or b"") + sum(map(len, self.together))


async def read_upload(request: Request, max_bytes: int) -> Upload:
    """Read a multipart field `photo`, a photo that is the whole body, or JSON whose `image` is base64.

    Raises EmptyBody, PhotoTooLarge (as soon as it is known), UploadTimeout, UnsupportedType and BadParameter.
    """
    length = request.headers.get("content-length", "")
    if length == "0" or (not length and "transfer-encoding" not in request.headers):
        return Upload()
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == JSON:
        body = await _whole(request, max_bytes * 4 // 3, max_bytes)
        read = asyncio.to_thread(_of_json, body, max_bytes) if len(body) > ON_THE_LOOP_BYTES else None
        return await read if read else _of_json(body, max_bytes)
    if kind == FORM:
        return Upload(await _of_form(request, max_bytes))
    if kind == RAW or kind.startswith("image/"):
        photo = await _whole(request, max_bytes, max_bytes)
        return Upload(_checked(photo, max_bytes) if photo else None)
    named = kind or "unnamed type"
    raise UnsupportedType(f"send the photo as {FORM} field {FIELD!r}, as {JSON}, or alone as {RAW}, not as {named}")


async def read_json(request: Request, max_bytes: int) -> Any:
    """Read a body that is JSON; raises EmptyBody, UnsupportedType, BadParameter, UploadTimeout and PhotoTooLarge.

    It may be as large as one that holds a photo.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != JSON:
        raise UnsupportedType(f"send the body as {JSON}, not as {kind or 'unnamed type'}")
    try:
        body = await _whole(request, max_bytes * 4 // 3, max_bytes)
    except PhotoTooLarge as error:
        words = f"the body holds more than {max_bytes / 2**20:.0f} MiB of images; send fewer at once, or their URLs"
        raise PhotoTooLarge(words) from error
    if not body:
        raise EmptyBody("the request has no body; /docs shows what belongs there")
    read = asyncio.to_thread(parsed, body) if len(body) > ON_THE_LOOP_BYTES else None
    return await read if read else parsed(body)


def parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadParameter(f"the body can't be read as JSON: {error}") from error


async def _of_form(request: Request, max_bytes: int) -> bytes:
    chunks = _bounded(request, max_bytes, max_bytes)
    parser = _InMemoryParser(request.headers, chunks, max_files=2, max_fields=2)
    try:
        form = await parser.parse()
        others = sorted(name for name in form if name != FIELD)
        if others:
            raise BadParameter(f"the body has a field {others[0]!r}; parameters go into the query string")
        photos = form.getlist(FIELD)
        if not photos:
            raise EmptyBody(f"the body has no field {FIELD!r}; send the photo as that multipart field")
        if len(photos) > 1:
            raise BadParameter(f"the body has {len(photos)} fields {FIELD!r}; send one photo")
        photo = photos[0]
        data = await photo.read() if isinstance(photo, UploadFile) else photo.encode()
    except MultiPartException as error:
        raise BadParameter(f"the multipart body can't be read: {error.message}") from error
    finally:
        parser.close()
    return _checked(data, max_bytes)


def _of_json(body: bytes, max_bytes: int) -> Upload:
    if not body:
        return Upload()
    values = parsed(body)
    if not isinstance(values, dict):
        raise BadParameter('the body has to be a JSON object, like {"image": "…", "top_k": 5}')
    return of_values(values, max_bytes)


def of_values(values: dict[str, Any], max_bytes: int) -> Upload:
    """Return what an object of JSON brings: the photo of its `image`, those of its `images`, and all else.

    Raises BadParameter, EmptyBody and PhotoTooLarge.
    """
    values = dict(values)
    image, images = values.pop("image", None), values.pop(IMAGES, None)
    if images is None:
        return Upload(None if image is None else _of_base64(image, "image", max_bytes), values)
    if image is not None:
        raise BadParameter(f"the request has an image and {IMAGES}; send all photos of one thing as {IMAGES}")
    if not isinstance(images, list) or not 2 <= len(images) <= MOST_IMAGES:
        raise BadParameter(f"{IMAGES} has to be a list of 2 to {MOST_IMAGES} texts of base64, photos of one thing")
    together = tuple(_of_base64(each, f"{IMAGES}.{number}", max_bytes) for number, each in enumerate(images))
    if sum(map(len, together)) > max_bytes:
        raise PhotoTooLarge(
            f"{IMAGES} are larger than {max_bytes / 2**20:.0f} MiB together; send smaller or fewer ones"
        )
    return Upload(None, values, together)


def _of_base64(text: Any, name: str, max_bytes: int) -> bytes:
    if not isinstance(text, str):
        raise BadParameter(f"{name} has to be a text of base64")
    try:
        photo = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadParameter(f"{name} is no base64: {error}") from error
    return _checked(photo, max_bytes)


def _checked(photo: bytes, max_bytes: int) -> bytes:
    if not photo:
        raise EmptyBody("the photo is empty; choose another file")
    if len(photo) > max_bytes:
        raise _too_large(max_bytes)
    return photo


async def _whole(request: Request, allowed_bytes: int, max_bytes: int) -> bytes:
    return b"".join([chunk async for chunk in _bounded(request, allowed_bytes, max_bytes)])


async def _bounded(request: Request, allowed_bytes: int, max_bytes: int) -> AsyncGenerator[bytes, None]:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > allowed_bytes + FRAMING_BYTES:
        raise _too_large(max_bytes)
    received = 0
    async for chunk in in_time(request.stream()):
        received += len(chunk)
        if received > allowed_bytes + FRAMING_BYTES:
            raise _too_large(max_bytes)
        yield chunk


async def in_time(chunks: AsyncGenerator[bytes, None], pace: Pace = PACE) -> AsyncGenerator[bytes, None]:
    """Yield the chunks while they come fast enough; raises UploadTimeout."""
    started_s, received = asyncio.get_running_loop().time(), 0
    while True:
        try:
            async with asyncio.timeout_at(started_s + pace.allowed_s(received)):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise UploadTimeout("the body comes too slowly; send it again over a better connection") from error
        received += len(chunk)
        yield chunk


def _too_large(max_bytes: int) -> PhotoTooLarge:
    return PhotoTooLarge(f"the photo is larger than {max_bytes / 2**20:.0f} MiB; send a smaller one")
