"""How many pixels the frames of an AVIF file decode to, whatever its boxes say.

libavif decodes a frame of up to 268 megapixels before it fits it to the size that the file claims, and Pillow offers
no bound of its own: a file of some kilobytes that claims 100 × 100 pixels would take more than a gigabyte.
"""

from __future__ import annotations

from serve_app.isobmff import items

SEQUENCE_HEADER = 1
MOST_UNITS = 10_000
"""Parts that the frames of a file may have; a photo has five."""


def coded_pixels(data: bytes) -> int:
    """Return the pixels of all frames that an AVIF file holds; raises ValueError where they can't be told."""
    sizes: dict[tuple[tuple[int, int], ...], int] = {}
    total, left = 0, MOST_UNITS
    for item in items(data):
        if item.kind != b"av01":
            continue
        # Items that are alike may share their bytes.
        if item.extents not in sizes:
            frame = b"".join(data[start:end] for start, end in item.extents)
            sizes[item.extents], units = _largest(frame, left)
            left -= units
        total += sizes[item.extents]
    if not total:
        raise ValueError("the file holds no frame")
    return total


def _largest(frame: bytes, most_units: int) -> tuple[int, int]:
    """Return the pixels that the sequence headers of a frame allow, and how many units it has."""
    at = units = largest = 0
    while at < len(frame):
        units += 1
        if units > most_units:
            raise ValueError("a frame has too many parts")
        header = frame[at]
        kind, extended, sized = header >> 3 & 15, header >> 2 & 1, header >> 1 & 1
        at += 1 + extended
        size = len(frame) - at
        if sized:
            size, at = _leb128(frame, at)
        if size > len(frame) - at:
            raise ValueError("a part of a frame ends early")
        if kind == SEQUENCE_HEADER:
            largest = max(largest, _pixels(_Bits(frame[at : at + size])))
        at += size
    if not largest:
        raise ValueError("a frame does not say how large it is")
    return largest, units


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        if at >= len(data):
            break
        value |= (data[at] & 127) << 7 * i
        at += 1
        if not data[at - 1] & 128:
            return value, at
    raise ValueError("a length ends early")


def _pixels(bits: _Bits) -> int:
    """Read a sequence header up to the largest frame it allows: AV1 specification, 5.5.1."""
    bits.take(3)
    bits.take(1)
    if bits.take(1):
        bits.take(5)
    else:
        _skip_operating_points(bits, *_timing(bits))
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(width_bits) + 1) * (bits.take(height_bits) + 1)


def _timing(bits: _Bits) -> tuple[bool, int]:
    """Return whether there is a model of the decoder, and how long its delays are written, in bits."""
    if not bits.take(1):
        return False, 0
    bits.take(64)
    if bits.take(1):
        bits.skip_variable()
    if not bits.take(1):
        return False, 0
    delay_bits = bits.take(5) + 1
    bits.take(42)
    return True, delay_bits


def _skip_operating_points(bits: _Bits, modelled: bool, delay_bits: int) -> None:
    delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if modelled and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if delays and bits.take(1):
            bits.take(4)


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:1024], "big"), 8 * min(len(data), 1024)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("a sequence header ends early")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def skip_variable(self) -> None:
        zeros = 0
        while not self.take(1):
            zeros += 1
        if zeros < 32:
            self.take(zeros)
