"""The photos that compiled networks are compared on, and those that int8 is calibrated with."""

from __future__ import annotations

import hashlib
from pathlib import Path

from serve_app.errors import BadConfig

MOST_PHOTOS = 400
"""That are compared; of more, those whose bytes have the smallest digests, which is chance that repeats."""
CALIBRATION_PHOTOS = 64
"""None of which is compared."""
LEAST_PHOTOS = 50
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif"})


def find_photos(folder: Path, most: int = MOST_PHOTOS) -> tuple[list[Path], list[Path]]:
    """Return photos to compare and others to calibrate with; raises BadConfig where they are too few.

    Files of the same bytes count once, so that no photo is on both sides.
    """
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    different = {hashlib.sha256(path.read_bytes()).digest(): path for path in paths}
    drawn = [path for _, path in sorted(different.items())]
    calibration = drawn[: min(CALIBRATION_PHOTOS, len(drawn) // 4)]
    compared = drawn[len(calibration) :][:most]
    if len(compared) < LEAST_PHOTOS:
        raise BadConfig(
            f"{folder} holds {len(drawn)} different photos; {LEAST_PHOTOS * 4 // 3 + 1} or more are needed, best some "
            "hundred of what shoppers send and of the catalogue"
        )
    return compared, calibration
