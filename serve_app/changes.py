"""What shops ask of the catalogue, product by product, and what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from serve_app.errors import BadInput, Overloaded, ShoplensError, error_of

SENT = "sent:"
"""Begins the places of images whose files came with their product; the rest is the sha256 of the file."""
NO_LANGUAGE = "und"
"""BCP 47's code of a text whose language nobody told: a catalogue's plain `title`."""


@dataclass(frozen=True, slots=True)
class GivenImage:
    """Name one image of a product: by the URL that it is fetched from, or by its file, `data`."""

    url: str = ""
    data: bytes = b""
    image_id: str | None = None

    @property
    def place(self) -> str:
        """Return what the image is known by: its URL, or what its bytes are."""
        return self.url or f"{SENT}{hashlib.sha256(self.data).hexdigest()}"

    @property
    def size_bytes(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Put:
    """Ask for a product to be exactly so.

    `price` is a decimal amount and its currency, `titles` go by language. `at_ms` is the time of the change since 1970
    UTC, None for now.
    """

    product_id: str
    images: tuple[GivenImage, ...]
    parent_id: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    category: str = ""
    price: tuple[str, str] | None = None
    in_stock: bool = True
    attributes: Mapping[str, Any] = field(default_factory=dict)
    at_ms: int | None = None

    @property
    def size_bytes(self) -> int:
        return sum(image.size_bytes for image in self.images)


@dataclass(frozen=True, slots=True)
class Removal:
    """Ask for a product to go."""

    product_id: str
    at_ms: int | None = None

    @property
    def size_bytes(self) -> int:
        return 0


Change = Put | Removal


class Result(StrEnum):
    STORED = "stored"
    UNCHANGED = "unchanged"
    """It was so already; or what was to go was not there."""
    STALE = "stale"
    """Left as it is: a newer change has been there."""
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Say why a change was not stored, by a code of an error or of an import's problem, and its HTTP status."""

    code: str
    reason: str
    status: int = BadInput.status
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: ShoplensError) -> Self:
        return cls(error.code, error.message, error.status, error.retry_after_s)

    @classmethod
    def of_code(cls, code: str, reason: str) -> Self:
        """Return the refusal of a problem; one that no error has the code of can be mended by the caller."""
        found = error_of(code) or BadInput
        return cls(code, reason, found.status, found.retry_after_s)

    @property
    def may_pass(self) -> bool:
        """Tell whether the same change may be taken later."""
        return self.status >= ShoplensError.status or self.status == Overloaded.status


@dataclass(frozen=True, slots=True)
class Changed:
    """Say what became of one change once the index has it, or why it was refused."""

    product_id: str
    at_ms: int
    result: Result | None = None
    refusal: Refusal | None = None
