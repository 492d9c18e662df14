"""Photos made harder, as shoppers take them: cut, blurred, badly exposed, badly compressed.

What is done to a photo follows from its bytes and the change's name, so that every model gets the same pixels.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from serve_app.images import decode

WORST_JPEG = 15
LOSSLESS = 95
"""JPEG quality of what is not to be changed by the JPEG itself."""

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def harden(photo: bytes, change: str) -> bytes:
    """Return a photo with a change of CHANGES, as a JPEG file; raises what `images.decode` raises."""
    seed = hashlib.sha256(change.encode() + hashlib.sha256(photo).digest()).digest()
    random = np.random.default_rng(int.from_bytes(seed[:8], "big"))
    image = CHANGES[change](Image.fromarray(decode(photo).pixels), random)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=WORST_JPEG if change == "jpeg" else LOSSLESS)
    return file.getvalue()


def _cut(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Keep 50 to 80 % of each side, from anywhere: part of the product is out of the picture."""
    width, height = image.size
    new_width, new_height = (max(1, int(side * random.uniform(0.5, 0.8))) for side in (width, height))
    left, top = int(random.integers(width - new_width + 1)), int(random.integers(height - new_height + 1))
    return image.crop((left, top, left + new_width, top + new_height))


def _blur(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Blur by .8 to 2 % of the long side: out of focus."""
    return image.filter(ImageFilter.GaussianBlur(max(image.size) * random.uniform(0.008, 0.02)))


def _expose(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Expose one to one and a half stops too little or too much, under light that is warm or cold."""
    stops = random.uniform(1, 1.5) * (1 if random.random() < 0.5 else -1)
    # In linear light, as a sensor counts; 2.2 is about sRGB's exponent.
    linear = (np.asarray(image, np.float32) / 255) ** 2.2 * 2**stops
    warmth = random.uniform(-0.15, 0.15)
    linear *= np.array([1 + warmth, 1, 1 - warmth], np.float32)
    return Image.fromarray((np.clip(linear, 0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8))


def _compress(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Make it small, as messengers do: half of the side, colours weaker."""
    width, height = image.size
    small = image.resize((max(1, width // 2), max(1, height // 2)), Image.Resampling.BILINEAR)
    return ImageEnhance.Color(small).enhance(random.uniform(0.8, 1.0))


CHANGES: Mapping[str, Change] = {"cut": _cut, "blur": _blur, "exposure": _expose, "jpeg": _compress}
