"""All stages of an import in one process, for few images at a time.

The index is the import's only memory: what it holds is left alone, so a run that was killed at any moment
is repeated without harm and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from serve_app.catalogue.embedding import Models, embed
from serve_app.catalogue.manifest import Entry, Problem
from serve_app.catalogue.preparing import Preparer
from serve_app.catalogue.recording import Recorder, RecordingIndex
from serve_app.catalogue.report import Outcome
from serve_app.config import Config


@dataclass(frozen=True, slots=True)
class Step:
    """Hold what became certain, and the seconds that went into each part of the work for it."""

    outcomes: list[Outcome]
    seconds: dict[str, float]


class Importer:
    """Import blocks of entries; the models are loaded once one is needed."""

    def __init__(self, config: Config, preparer: Preparer, index: RecordingIndex, load: Callable[[], Models]) -> None:
        self._config = config
        self._preparer = preparer
        self._recorder = Recorder(index)
        self._load = load
        self._models: Models | None = None

    def run(self, block: Sequence[Entry | Problem]) -> Iterator[Step]:
        """Import a block; yields outcomes as they are certain, those of written rows after Milvus has them.

        An image that can't be used is a problem among the outcomes. Raises MilvusUnavailable, DeadlineExceeded,
        BadWeights, BadConfig; the block may then be run again.
        """
        for prepared in self._preparer.run(block):
            step = Step(prepared.outcomes, prepared.seconds)
            if prepared.images:
                models = self._models = self._models or self._load()
                embedded, spent = embed(models, prepared.images, self._config)
                outcomes, written = self._recorder.record(embedded)
                step = Step(step.outcomes + outcomes, step.seconds | spent | written)
            yield step
