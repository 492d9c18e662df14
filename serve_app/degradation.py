"""What an answer does without, where a stage is away."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from serve_app.domain import PATIENT, Crops, Terms
from serve_app.errors import DeadlineExceeded, StageUnavailable
from serve_app.objects import Focus
from serve_app.pipeline import NO_DETECTOR, DetectorStage, Embedded, EmbedderStage, Sighting
from serve_app.resilience import Circuit

log = logging.getLogger(__name__)

DETECTOR_PART = 0.5
"""Part of a search's time that the detector gets, where the search can do without it."""

T = TypeVar("T")


class Away(StageUnavailable):
    """A stage did not answer, or has not been answering for a while."""


class Presence:
    """Know whether a stage is there: one that failed again and again is asked by one search at a time.

    Slow is not away: a call that takes too long counts as failed where nobody was answered meanwhile.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._circuit = Circuit()
        self._answered_s = -math.inf

    async def ask(self, call: Callable[[], Awaitable[T]], terms: Terms) -> T:
        """Return the stage's answer.

        Raises Away at once where the stage is known to be away, or where it fails now; DeadlineExceeded where it
        takes longer than `terms` say.
        """
        now_s = time.monotonic()
        if self._circuit.wait_s(now_s) > 0:
            raise Away(f"the {self._stage} is away; try again shortly")
        left_s = terms.left_s()
        self._circuit.begin(now_s, left_s)
        try:
            async with asyncio.timeout(left_s):
                answer = await call()
        except StageUnavailable as error:
            self._failed(error)
            raise Away(error.message) from error
        except (TimeoutError, DeadlineExceeded) as error:
            if self._answered_s < now_s:
                self._failed(error)
            else:
                self._circuit.abandon()
            raise DeadlineExceeded(f"the {self._stage} took longer than it may; try again") from error
        except BaseException:
            self._circuit.abandon()
            raise
        self._circuit.succeed()
        self._answered_s = time.monotonic()
        return answer

    def _failed(self, error: Exception) -> None:
        was_open = self._circuit.is_open
        self._circuit.fail(time.monotonic())
        if self._circuit.is_open and not was_open:
            log.warning("stage is away", extra={"stage": self._stage, "cause": str(error)[:200]})


class EmbedderOrNone:
    """Ask the embedder; while it is away, refuse at once: nothing can stand in for it."""

    def __init__(self, embedder: EmbedderStage) -> None:
        self._embedder = embedder
        self._presence = Presence("embedder")

    async def embed(self, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        return await self._presence.ask(lambda: self._embedder.embed(crops, terms), terms)


class DetectorOrWhole:
    """Ask the detector; while it is away, the whole photo is the one thing to search for, or what given boxes hold."""

    def __init__(self, detector: DetectorStage, whole: DetectorStage) -> None:
        self._detector = detector
        self._whole = whole
        self._presence = Presence("detector")

    async def detect(self, photo: bytes, focus: Focus, terms: Terms = PATIENT) -> Sighting:
        own = terms.share(DETECTOR_PART)
        try:
            return await self._presence.ask(lambda: self._detector.detect(photo, focus, own), own)
        except (Away, DeadlineExceeded):
            sighting = await self._whole.detect(photo, focus, terms)
            return replace(sighting, degraded=(NO_DETECTOR,)) if focus.detects else sighting
