"""Small pictures of catalogue images that lie in files of this machine.

Which file an image is of says the index, never who asks; what lies outside of the given folders is not opened.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from PIL import Image

from serve_app.errors import BadInput, Overloaded, UnknownImage
from serve_app.images import decode

QUALITY = 82
CACHE_BYTES = 16 * 2**20
"""About 1,000 pictures of 320 px."""
MOST_WAITING = 128
"""Pictures that wait to be made; a page asks for some dozens at once."""
_GONE = "there is no picture of this image here"


class Width(IntEnum):
    """Sizes that pictures come in: the square, in px, that they fit into."""

    SMALL = 160
    MEDIUM = 320
    LARGE = 640


@dataclass(frozen=True, slots=True)
class Picture:
    """Hold a JPEG, and a tag that changes with it; the data is None where the tag is all that was asked for."""

    etag: str
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    etag: str


class Pictures:
    """Make pictures in a thread of their own, and keep the latest ones."""

    def __init__(self, folders: Callable[[], Sequence[Path]], *, max_bytes: int, max_pixels: int) -> None:
        """`folders` returns those that files may lie in now."""
        self._folders = folders
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._waiting = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    async def picture(self, file: str, width: Width, known: Sequence[str] = ()) -> Picture:
        """Return the picture of a file; without its data where its tag is among the `known` ones.

        Raises UnknownImage where the file is not there, is no photo or lies elsewhere, Overloaded.
        """
        if self._waiting >= MOST_WAITING:
            raise Overloaded("too many pictures are asked for; try again shortly")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._picture, file, width, known)
        finally:
            self._waiting -= 1

    def _picture(self, file: str, width: Width, known: Sequence[str]) -> Picture:
        found = self._find(file, width)
        if found.etag in known:
            return Picture(found.etag)
        data = self._kept.get(found.etag)
        if data is None:
            data = self._made(found, width)
            self._keep(found.etag, data)
        return Picture(found.etag, data)

    def _find(self, file: str, width: Width) -> _File:
        """Return the file as it is now, all links followed."""
        try:
            path = Path(file).resolve(strict=True)
            folders = [folder.resolve() for folder in self._folders()]
            state = path.stat()
        except (OSError, ValueError, RuntimeError) as error:
            raise UnknownImage(_GONE) from error
        if not any(path.is_relative_to(folder) for folder in folders):
            raise UnknownImage(_GONE)
        said = f"{path}\0{state.st_mtime_ns}\0{state.st_size}\0{state.st_ino}\0{width}\0{QUALITY}"
        return _File(str(path), f'"{hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()[:32]}"')

    def _made(self, found: _File, width: Width) -> bytes:
        try:
            return thumbnail(_read(found.path, self._max_bytes), width, max_pixels=self._max_pixels)
        except (BadInput, OSError) as error:
            raise UnknownImage(_GONE) from error

    def _keep(self, etag: str, data: bytes) -> None:
        self._kept[etag] = data
        self._kept_bytes += len(data)
        while self._kept_bytes > CACHE_BYTES:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])


def thumbnail(data: bytes, width: Width, *, max_pixels: int) -> bytes:
    """Return a photo as a JPEG that fits into a square; raises what `images.decode` raises."""
    image = Image.fromarray(decode(data, max_pixels=max_pixels).pixels)
    image.thumbnail((width, width))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def _read(path: str, max_bytes: int) -> bytes:
    """Return a file's bytes; raises OSError, also for what is no file: a pipe would never end."""
    # The last part was no link when it was looked at, and must not have become one since.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_size > max_bytes:
            raise OSError("not a file, or a larger one than is read")
        return file.read(max_bytes)
