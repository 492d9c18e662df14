"""The two models asked alone, without an index: what the Open Inference Protocol answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serve_app.domain import PATIENT, WHOLE_BOX, Terms
from serve_app.objects import Focus
from serve_app.pipeline import DetectorStage, Embedded, EmbedderStage, Sighting

LOOKING = Focus(objects=1, main_only=True)
"""All that is found is told however few are to be searched; fewer crops cross between processes."""
WHOLE = Focus(boxes=(WHOLE_BOX,))


class Inference:
    """Ask the detector, or the embedder, and nothing else."""

    def __init__(self, detector: DetectorStage, embedder: EmbedderStage) -> None:
        self._detector = detector
        self._embedder = embedder

    async def see(self, photo: bytes, terms: Terms = PATIENT) -> Sighting:
        """Return what is found in a photo; raises what the detector raises."""
        return await self._detector.detect(photo, LOOKING, terms)

    async def embed(self, photos: Sequence[bytes], terms: Terms = PATIENT) -> Embedded:
        """Return one embedding for the whole of each photo; raises what the stages raise."""
        # One after the other: together they would stand before a shopper's photo in the detector's one decoder.
        crops = [(await self._detector.detect(photo, WHOLE, terms)).crops for photo in photos]
        return await self._embedder.embed(np.concatenate(crops), terms)
