"""How often a JPEG goes over its pixels.

A progressive JPEG refines the whole picture with each scan. A scan that changes nothing takes some bytes for ten
megapixels, and a tenth of a second of the decoder, so 100 kB of them would keep it busy for minutes.
"""

from __future__ import annotations

import re

import numpy as np

MOST_SCANS = 100
"""Encoders write ten, those that look for the smallest file some fifty."""

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""What ends the data of a scan: neither a stuffed byte nor a restart marker."""
_START, _END, _SCAN, _TEMPORARY = 0xD8, 0xD9, 0xDA, 0x01


def has_too_many_scans(photo: bytes) -> bool:
    """Tell whether a JPEG has more than MOST_SCANS."""
    # What a phone puts behind the picture, a video or another picture, may hold these bytes by chance.
    return _pairs_like_scans(photo) > MOST_SCANS and _scans(photo) > MOST_SCANS


def _pairs_like_scans(photo: bytes) -> int:
    """Return how often FF DA stands anywhere: several times as fast as bytes.count, which every photo would pay for."""
    pairs = (np.frombuffer(photo, "<u2", (len(photo) - offset) // 2, offset) for offset in (0, 1))
    return sum(int(np.count_nonzero(each == 0xDAFF)) for each in pairs)


def _scans(photo: bytes) -> int:
    position, scans = 2, 0
    while scans <= MOST_SCANS and (found := _MARKER.search(photo, position)):
        marker = photo[found.end() - 1]
        if marker == _END:
            break
        scans += marker == _SCAN
        has_length = marker not in (_START, _TEMPORARY)
        position = found.end() + (int.from_bytes(photo[found.end() : found.end() + 2], "big") if has_length else 0)
    return scans
