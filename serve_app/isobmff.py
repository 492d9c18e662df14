"""Items of HEIC and AVIF files, found by their boxes: ISO/IEC 14496-12 and 23008-12.

Whoever sent the file wrote its lengths and counts, so what is walked is bounded whatever they say.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MOST_BOXES = 1000
MOST_ITEMS = 1000
"""As libheif has it; a phone's photo has some fifty."""
MOST_EXTENTS = 10_000
SHARED = 2
"""Items may be so many times as long as the file, but for those that are the same bytes altogether."""
METADATA = frozenset({b"Exif", b"mime", b"uri "})
MOST_COPIED_BYTES = 128 * 2**20
FULL_BOX_BYTES = 4
"""Version and flags, before the content of a box that has them."""


@dataclass(frozen=True, slots=True)
class Item:
    """Say what an item is, and where its parts stand in the file: (first byte, byte after the last)."""

    kind: bytes
    extents: tuple[tuple[int, int], ...]


def brands(data: bytes) -> set[bytes]:
    """Return the brands of a file, the major one too; none where it begins with no `ftyp` box."""
    if data[4:8] != b"ftyp" or len(data) < 16:
        return set()
    end = min(int.from_bytes(data[:4], "big"), len(data), 16 + 4 * MOST_BOXES)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))}


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each box's content; raises ValueError where they don't fit, or are too many."""
    for _ in range(MOST_BOXES):
        if start + 8 > end:
            return
        size, kind, header = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        size = size or end - start
        if not header <= size <= end - start:
            raise ValueError("a box is longer than what it stands in")
        yield kind, start + header, start + size
        start += size
    raise ValueError("the file has too many boxes")


def items(data: bytes) -> list[Item]:
    """Return the items of a file; raises ValueError where it has none, or they can't be told."""
    try:
        metas = [(start, end) for kind, start, end in boxes(data, 0, len(data)) if kind == b"meta"]
        if len(metas) != 1:
            raise ValueError("the file has no one box of items")
        return _items(data, metas[0][0] + FULL_BOX_BYTES, metas[0][1])
    except (IndexError, struct.error) as error:
        raise ValueError("the items of the file can't be told apart") from error


def check_copies(data: bytes) -> None:
    """Raise ValueError where a reader that copies for each item what is said of it would take too much memory.

    libheif lets all pictures of a file share one text, and pillow-heif copies it for each of them.
    """
    found = items(data)
    said = sum(end - start for item in found if item.kind in METADATA for start, end in item.extents)
    said += sum(end - start for kind, start, end in boxes(data, 0, len(data)) if kind == b"meta")
    if said * len(found) > MOST_COPIED_BYTES:
        raise ValueError("the file says too much of its items")


def _items(data: bytes, start: int, end: int) -> list[Item]:
    kinds: dict[int, bytes] = {}
    places: dict[int, _Place] = {}
    source = (0, 0)
    for kind, first, last in boxes(data, start, end):
        if kind == b"iinf":
            kinds |= _kinds(data, first, last)
        elif kind == b"iloc":
            places |= _places(data, first, last)
        elif kind == b"idat":
            source = (first, last)
    if not places:
        raise ValueError("the file does not say where its items are")
    whole = (0, len(data))
    found = {number: place.extents((whole, source)[place.method]) for number, place in places.items()}
    if sum(last - first for extents in set(found.values()) for first, last in extents) > SHARED * len(data):
        raise ValueError("the items of the file overlap")
    return [Item(kinds.get(number, b""), extents) for number, extents in found.items()]


def _kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Read an `iinf` box: what each item is."""
    found = {}
    counted = 2 if data[start] == 0 else 4
    for kind, first, _ in boxes(data, start + FULL_BOX_BYTES + counted, end):
        if kind != b"infe" or data[first] not in (2, 3):
            continue
        width = 2 if data[first] == 2 else 4
        at = first + FULL_BOX_BYTES
        number = int.from_bytes(data[at : at + width], "big")
        found[number] = data[at + width + 2 : at + width + 6]
    return found


@dataclass(frozen=True, slots=True)
class _Place:
    method: int
    parts: tuple[tuple[int, int], ...]

    def extents(self, source: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        first, last = source
        found = []
        for offset, length in self.parts:
            start = first + offset
            end = start + length if length else last
            if not first <= start <= end <= last:
                raise ValueError("an item lies outside of the file")
            found.append((start, end))
        return tuple(found)


def _places(data: bytes, start: int, end: int) -> dict[int, _Place]:
    """Read an `iloc` box: where each item is."""
    reader = _Reader(data, start, end)
    version = reader.take(1)
    reader.take(3)
    sizes = reader.take(2)
    offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_bytes = sizes & 15 if version else 0
    wide = 4 if version == 2 else 2
    count = reader.take(wide)
    if count > MOST_ITEMS:
        raise ValueError("the file has too many items")
    places, extents = {}, 0
    for _ in range(count):
        number = reader.take(wide)
        method = reader.take(2) & 15 if version else 0
        if method > 1:
            raise ValueError("an item is made of other items")
        reader.take(2)
        base, parts = reader.take(base_bytes), reader.take(2)
        extents += parts
        if extents > MOST_EXTENTS:
            raise ValueError("the items of the file have too many parts")
        found = []
        for _ in range(parts):
            reader.take(index_bytes)
            offset = reader.take(offset_bytes)
            found.append((base + offset, reader.take(length_bytes)))
        places[number] = _Place(method, tuple(found))
    return places


class _Reader:
    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data, self._at, self._end = data, start, end

    def take(self, size: int) -> int:
        if self._at + size > self._end:
            raise ValueError("a box ends early")
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "big")
