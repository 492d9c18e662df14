"""The photos that a load test sends: of a folder, or made up where there is none."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

MADE_UP = 24
SIZE_PX = (1_280, 960)
THINGS = 5
GRAIN = 24
"""Most that noise adds or takes, of 255, so that a JPEG is as large as that of a camera."""


def found(folder: Path) -> list[Path]:
    """Return the JPEG files of a folder and those below it; raises FileNotFoundError where there is none."""
    photos = sorted(folder.glob("**/*.jpg"))
    if not photos:
        raise FileNotFoundError(f"there are no *.jpg files in {folder}")
    return photos


def make_up(folder: Path, count: int = MADE_UP) -> list[Path]:
    """Write so many pictures of coloured things on a ground, always the same; a detector sees few objects in them."""
    photos = []
    for number in range(count):
        draw = random.Random(number)
        photo = folder / f"made-up-{number:02}.jpg"
        _picture(draw).save(photo, "JPEG", quality=85)
        photos.append(photo)
    return photos


def _picture(draw: random.Random) -> Image.Image:
    picture = Image.new("RGB", SIZE_PX, _colour(draw, 160, 240))
    pen = ImageDraw.Draw(picture)
    for _ in range(THINGS):
        left, top = draw.randrange(SIZE_PX[0] - 200), draw.randrange(SIZE_PX[1] - 200)
        box = (left, top, left + draw.randrange(100, 600), top + draw.randrange(100, 500))
        shape = draw.choice((pen.rectangle, pen.ellipse))
        shape(box, fill=_colour(draw, 20, 220))
    noise = Image.frombytes("L", SIZE_PX, draw.randbytes(SIZE_PX[0] * SIZE_PX[1]))
    grain = noise.point([128 + GRAIN * (value - 128) // 128 for value in range(256)]).convert("RGB")
    return ImageChops.add(picture, grain, offset=-128)


def _colour(draw: random.Random, low: int, high: int) -> tuple[int, int, int]:
    return draw.randrange(low, high), draw.randrange(low, high), draw.randrange(low, high)
