"""Reading a photo out of a request, never more of it than allowed."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from serve_app.errors import BadParameter, EmptyBody, PhotoTooLarge, UnsupportedType

FIELD = "photo"
FRAMING_BYTES = 16 * 1024
"""What a multipart body may hold beside the photo itself."""


class _InMemoryParser(MultiPartParser):
    # The body is bounded already; a temporary file would put blocking disk access on the event loop.
    spool_max_size = 2**31


async def read_photo(request: Request, max_bytes: int) -> bytes:
    """Return the bytes of the multipart field `photo`.

    Raises EmptyBody, PhotoTooLarge (as soon as it is known), UnsupportedType and BadParameter.
    """
    _check_headers(request, max_bytes)
    try:
        form = await _InMemoryParser(request.headers, _bounded(request, max_bytes), max_files=2, max_fields=2).parse()
    except MultiPartException as error:
        raise BadParameter(f"the multipart body can't be read: {error.message}") from error
    try:
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
    finally:
        await form.close()
    if not data:
        raise EmptyBody("the photo is empty; choose another file")
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    return data


def _check_headers(request: Request, max_bytes: int) -> None:
    length = request.headers.get("content-length", "")
    if length == "0":
        raise EmptyBody(f"the request has no body; send the photo as multipart field {FIELD!r}")
    if length.isdecimal() and int(length) > max_bytes + FRAMING_BYTES:
        raise _too_large(max_bytes)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if not kind and not length and "transfer-encoding" not in request.headers:
        raise EmptyBody(f"the request has no body; send the photo as multipart field {FIELD!r}")
    if kind != "multipart/form-data":
        raise UnsupportedType(f"send the photo as multipart/form-data field {FIELD!r}, not as {kind or 'unnamed type'}")


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes + FRAMING_BYTES:
            raise _too_large(max_bytes)
        yield chunk


def _too_large(max_bytes: int) -> PhotoTooLarge:
    return PhotoTooLarge(f"the photo is larger than {max_bytes / 2**20:.0f} MiB; send a smaller one")
