"""The files of questions and of the gallery's images."""

from __future__ import annotations

import hashlib
from types import TracebackType
from typing import Self

from serve_app.catalogue.reading import Bytes, ImageReader, Unreadable
from serve_app.config import Config
from serve_app.domain import Pixels
from serve_app.errors import BadInput
from serve_app.evaluation.answers import Question
from serve_app.evaluation.hardening import harden
from serve_app.images import decode


class Photos:
    """Read photos from wherever a manifest may name them; close it when done."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._readers: dict[str, ImageReader] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for reader in self._readers.values():
            reader.close()

    def file(self, image: str, base: str) -> bytes:
        """Return an image's bytes; raises BadInput where it can't be read."""
        if base not in self._readers:
            self._readers[base] = ImageReader(self._config, base)
        (found,) = self._readers[base].read([image], {})
        if isinstance(found, Bytes):
            return found.data
        reason = found.reason if isinstance(found, Unreadable) else "its server sent nothing"
        raise BadInput(f"{image}: {reason}")

    def photo(self, question: Question) -> bytes:
        """Return the photo that a question is asked with; raises BadInput."""
        data = self.file(question.image, question.base)
        return harden(data, question.change) if question.change else data

    def sha256(self, image: str, base: str) -> str:
        """Return the hash of an image's file, '' where it can't be read."""
        try:
            return hashlib.sha256(self.file(image, base)).hexdigest()
        except BadInput:
            return ""

    def pixels(self, question: Question) -> Pixels:
        """Return the working photo's pixels; raises BadInput."""
        return decode(self.photo(question), max_pixels=self._config.limits.max_pixels).pixels
