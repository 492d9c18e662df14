"""Photos changed as shoppers' photos differ from a catalogue's: cut, pasted on clutter, badly lit, blurred, compressed.

Colours are kept but for the light: a style in red is not the one in blue. What is done to a photo follows from its
name, the copy's number and the seed, so a copy is the same whenever and in whatever order it is made.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from serve_app.domain import WHOLE_BOX, Box, Photo, Pixels
from serve_app.evaluation.scenes import cut_out
from serve_app.images import CROP_SIDE_PX, cut, decode

VERSION = 1
"""Changes when the same photo gives another copy, so that no cached feature outlives its recipe."""

PASTED, FLIPPED, LIT, BLURRED, COMPRESSED = 0.35, 0.5, 0.6, 0.25, 0.35
"""Chances of each change, in the order they are made."""
AREA, ASPECT = (0.35, 1.0), 4 / 3
"""Share of the photo that a box keeps, and how far its shape may be from the photo's."""
MARGIN = (-0.08, 0.25)
"""Sides that a pasted product's box is moved out by (in if below 0), in shares of the product's own."""
CLUTTER = (0.25, 0.6)
"""Share of each side of another photo that is the background of a pasted product."""
STOPS, WARMTH = 0.7, 0.08
BLUR = (0.004, 0.015)
"""Deviation in sides of the crop."""
SMALL, QUALITY = (0.4, 1.0), (15, 60)
"""Scale and JPEG quality of what a messenger sends on."""


def plain(path: Path) -> Pixels:
    """Return the crop of the whole photo, as a catalogue's is made."""
    return cut(decode(path.read_bytes()), WHOLE_BOX)


def augmented(path: Path, copy: int, clutter: Sequence[Path], seed: int) -> Pixels:
    """Return an augmented crop (side, side, 3); copies of one photo differ by their number."""
    name = f"{seed}/{copy}/{path.name}"
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    photo = decode(path.read_bytes())
    pasted = _pasted(photo, clutter, random) if random.random() < PASTED else None
    image = Image.fromarray(cut(photo, _box(random)) if pasted is None else pasted)
    if random.random() < FLIPPED:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < LIT:
        image = _lit(image, random)
    if random.random() < BLURRED:
        image = image.filter(ImageFilter.GaussianBlur(CROP_SIDE_PX * random.uniform(*BLUR)))
    if random.random() < COMPRESSED:
        image = _compressed(image, random)
    return np.asarray(image)


def _box(random: np.random.Generator) -> Box:
    area, aspect = random.uniform(*AREA), np.exp(random.uniform(-np.log(ASPECT), np.log(ASPECT)))
    width, height = min(1.0, float(np.sqrt(area * aspect))), min(1.0, float(np.sqrt(area / aspect)))
    x, y = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    return Box(x, y, x + width, y + height)


def _pasted(photo: Photo, clutter: Sequence[Path], random: np.random.Generator) -> Pixels | None:
    """Return the product on part of another photo; None where its own background is not plain."""
    product = cut_out(photo.pixels)
    if product is None:
        return None
    left, top, right, bottom = (random.uniform(*MARGIN) for _ in range(4))
    width = max(8, round(product.width * (1 + left + right)))
    height = max(8, round(product.height * (1 + top + bottom)))
    other = decode(clutter[int(random.integers(len(clutter)))].read_bytes())
    part = random.uniform(*CLUTTER)
    x, y = random.uniform(0, 1 - part, 2)
    board = Image.fromarray(cut(other, Box(x, y, x + part, y + part))).resize((width, height))
    board.paste(product.convert("RGB"), (round(left * product.width), round(top * product.height)), product)
    return cut(Photo(np.asarray(board), width, height), WHOLE_BOX)


def _lit(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Expose too little or too much, under light that is warmer or colder."""
    # In linear light, as a sensor counts; 2.2 is about sRGB's exponent.
    warmth = random.uniform(-WARMTH, WARMTH)
    gain = 2 ** random.uniform(-STOPS, STOPS) * np.array([1 + warmth, 1, 1 - warmth])
    return Image.fromarray(
        ((np.asarray(image, np.float32) / 255) * gain ** (1 / 2.2) * 255).clip(0, 255).round().astype(np.uint8)
    )


def _compressed(image: Image.Image, random: np.random.Generator) -> Image.Image:
    side = round(image.width * random.uniform(*SMALL))
    file = io.BytesIO()
    image.resize((side, side), Image.Resampling.BILINEAR).save(file, "JPEG", quality=int(random.integers(*QUALITY)))
    with Image.open(file) as small:
        return small.convert("RGB").resize(image.size, Image.Resampling.BILINEAR)
