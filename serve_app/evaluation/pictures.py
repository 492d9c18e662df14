"""Small pictures for a report."""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageDraw

from serve_app.domain import WHOLE_BOX, Box, Pixels
from serve_app.errors import BadInput
from serve_app.evaluation.answers import Question
from serve_app.evaluation.gallery import Gallery
from serve_app.evaluation.photos import Photos
from serve_app.images import decode

SIDE_PX = 128
QUALITY = 70


class Pictures:
    """Make small JPEG data URIs of photos and of the gallery's images; None of what can't be read."""

    def __init__(self, photos: Photos, gallery: Gallery) -> None:
        self._photos = photos
        self._gallery = gallery
        self._known: dict[str, str | None] = {}

    def of_question(self, question: Question, box: Box = WHOLE_BOX) -> str | None:
        """Return a question's photo, with a frame around a box that is not the whole photo."""
        try:
            return _uri(self._photos.pixels(question), box)
        except BadInput:
            return None

    def of_image(self, image_id: str) -> str | None:
        if image_id not in self._known:
            self._known[image_id] = self._image(image_id)
        return self._known[image_id]

    def of_product(self, product_id: str, left_out: frozenset[str]) -> str | None:
        """Return a product by its first image that is not left out."""
        entries = self._gallery.products.get(product_id, [])
        return next((self.of_image(each.image_id) for each in entries if each.image_id not in left_out), None)

    def _image(self, image_id: str) -> str | None:
        entry = self._gallery.images.get(image_id)
        if entry is None:
            return None
        try:
            return _uri(decode(self._photos.file(entry.image, self._gallery.base)).pixels, WHOLE_BOX)
        except BadInput:
            return None


def _uri(pixels: Pixels, box: Box) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE_PX, SIDE_PX))
    if box != WHOLE_BOX:
        x0, y0, x1, y1 = box.as_tuple()
        frame = (x0 * image.width, y0 * image.height, x1 * image.width - 1, y1 * image.height - 1)
        ImageDraw.Draw(image).rectangle(frame, outline="red", width=2)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
