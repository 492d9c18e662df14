"""A small labelled set that a live service is asked, as shoppers ask it: each photo once, and no second try."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from serve_app.promotion.watch import EMPTY, NO_ANSWER, RIGHT, WRONG, Round

TIMEOUT_S = 35.0
"""As long as a service may take that starts a stage from zero, and a little."""
SLOW = 0.9


@dataclass(frozen=True, slots=True)
class Labelled:
    """Hold a photo with the products that would be right."""

    photo: bytes
    right: tuple[str, ...]


class Canary:
    """Ask a service at a URL; close the client when done."""

    def __init__(
        self,
        photos: Sequence[Labelled],
        client: httpx.Client,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`client` knows the service's address, and its key where it needs one."""
        self._photos = photos
        self._client = client
        self._clock = clock
        parts = (hashlib.sha256(each.photo).hexdigest() + "\0".join(each.right) for each in photos)
        self.sha256 = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def model(self) -> str | None:
        """Return which model answers now; None where nothing does."""
        answer = self._ask(self._photos[0].photo, 1)
        return None if answer is None else str(answer["model"])

    def round(self, model: str, at_s: float) -> Round:
        """Ask all photos, and count answers of another model than this one."""
        marks, times_ms, others = [], [], 0
        for each in self._photos:
            begun = self._clock()
            answer = self._ask(each.photo, 1)
            if answer is None:
                marks.append(NO_ANSWER)
                continue
            times_ms.append((self._clock() - begun) * 1e3)
            others += answer["model"] != model
            products = next((found["products"] for found in answer["objects"] if found["main"]), None)
            marks.append(_mark(products, each.right))
        return Round(at_s, "".join(marks), _slow(times_ms), others)

    def _ask(self, photo: bytes, top_k: int) -> dict[str, Any] | None:
        try:
            response = self._client.post(
                "/v1/search", files={"photo": photo}, params={"top_k": top_k}, timeout=TIMEOUT_S
            )
            return dict(response.json()) if response.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, ValueError):
            return None


def _mark(products: Sequence[dict[str, Any]] | None, right: Sequence[str]) -> str:
    if not products:
        return EMPTY
    return RIGHT if products[0]["product_id"] in right else WRONG


def _slow(times_ms: Sequence[float]) -> float:
    if not times_ms:
        return 0.0
    return sorted(times_ms)[max(0, math.ceil(SLOW * len(times_ms)) - 1)]
