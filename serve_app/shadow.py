"""A model that is tried on shoppers' searches beside the one that answers them: compared, and shown to nobody."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from serve_app.calibration import Curve
from serve_app.domain import PATIENT, Crops, Hit, Terms
from serve_app.errors import DeadlineExceeded, Overloaded, ShoplensError
from serve_app.pipeline import COLD_START, Answer, Embedded, Pipeline, Query, Seen

OK = "ok"
KEPT = 1_000
"""Outcomes that a replica remembers, the last ones."""
FIRST = 10
"""Products of the main list that are compared."""


@dataclass(frozen=True, slots=True)
class Side:
    """Hold what one model made of a search: the milliseconds of embedding and search, and a main list or none."""

    took_ms: float
    empty: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what came of one search that the tried model repeated.

    `code` is OK or that of the problem, and then nothing was found. `shared` is the part of the first products, 0…1,
    that both models show.
    """

    code: str
    served: Side
    found: Side | None = None
    shared: float = 0.0


@dataclass(frozen=True, slots=True)
class Shadow:
    """Hold what an ingress replica knows of the tried model.

    Outcomes are numbered from `first` on, in the series that `series` names: another replica, or another trial, counts
    in another one.
    """

    model: str | None = None
    series: str = ""
    first: int = 0
    outcomes: tuple[Outcome, ...] = ()
    dropped: int = 0


class ShadowEmbedder(Protocol):
    async def embed_in_shadow(self, model: str, crops: Crops, terms: Terms = PATIENT) -> Embedded:
        """Return one embedding per crop by the tried model; raises Overloaded where another one is loaded there."""
        ...


class Counts(Protocol):
    """Count what becomes of searches in the shadow."""

    def repeated(self, outcome: Outcome) -> None:
        """Note a search that the tried model repeated, or failed to."""
        ...

    def not_repeated(self) -> None:
        """Note a search that was to be repeated, and was dropped."""
        ...


@dataclass(eq=False)
class _Trial:
    """Hold one model that is tried, and the pipeline that searches as it would."""

    model: str
    pipeline: Pipeline
    series: str = field(default_factory=lambda: uuid.uuid4().hex)
    outcomes: deque[Outcome] = field(default_factory=lambda: deque(maxlen=KEPT))
    ended: int = 0
    dropped: int = 0
    answered: bool = False
    """The model is there: until it has answered, what takes too long waits for it to be loaded."""


class Mirror:
    """Repeat a share of the answered searches with the tried model, the same crops in that model's own index.

    Nobody waits for that. A search that finds as many under way as there may be is dropped, and so is one that the
    tried model is too busy for, or not there yet. No photo or product is kept. Use it in one event loop.
    """

    def __init__(
        self,
        served: str,
        embedder: ShadowEmbedder,
        pipeline: Callable[[Curve | None], Pipeline],
        counts: Counts,
        *,
        deadline_s: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Try a model beside `served`; `pipeline` makes one with the curve of a model, `draw` gives 0…1."""
        self._served = served
        self._embedder = embedder
        self._pipeline = pipeline
        self._counts = counts
        self._deadline_s = deadline_s
        self._draw = draw
        self._share = 0.0
        self._most = 0
        self._trial: _Trial | None = None
        self._running: set[asyncio.Task[None]] = set()

    def follow(self, model: str | None, *, share: float, most: int, curve: Curve | None = None) -> None:
        """Try this model from now on, on a `share` of the searches, `most` at once; None and the served one: nothing.

        `curve` makes chances of the model's scores.
        """
        self._share, self._most = share, most
        if model is None or model == self._served:
            self._trial = None
        elif self._trial is None or self._trial.model != model:
            self._trial = _Trial(model, self._pipeline(curve))

    def answered(self, seen: Seen, query: Query, answer: Answer) -> None:
        """Take note of a shopper's search; it returns at once."""
        trial = self._trial
        # Times that hold a replica's start say nothing of a model.
        if trial is None or COLD_START in answer.timings_ms or self._draw() >= self._share:
            return
        if len(self._running) >= self._most:
            self._drop(trial)
            return
        task = asyncio.get_running_loop().create_task(self._repeat(trial, seen, query, answer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def state(self) -> Shadow:
        """Return what is known of the tried model."""
        trial = self._trial
        if trial is None:
            return Shadow()
        kept = tuple(trial.outcomes)
        return Shadow(trial.model, trial.series, trial.ended - len(kept), kept, trial.dropped)

    def close(self) -> None:
        for task in self._running:
            task.cancel()

    async def _repeat(self, trial: _Trial, seen: Seen, query: Query, answer: Answer) -> None:
        served = Side(answer.timings_ms["embed"] + answer.timings_ms["search"], not _main(answer))
        try:
            found = await self._found(trial, seen, query)
        except ShoplensError as error:
            is_starting = isinstance(error, DeadlineExceeded) and not trial.answered
            if is_starting or isinstance(error, Overloaded):
                self._drop(trial)
            else:
                self._end(trial, Outcome(error.code, served))
            return
        if found is None:
            self._drop(trial)
            return
        side = Side(found.timings_ms["embed"] + found.timings_ms["search"], not _main(found))
        self._end(trial, Outcome(OK, served, side, _shared(_main(answer), _main(found))))

    async def _found(self, trial: _Trial, seen: Seen, query: Query) -> Answer | None:
        """Return what the tried model finds; None where it was just being loaded."""
        assert seen.crops is not None  # a search that asked the models has some
        terms = Terms.within(self._deadline_s, bulk=True)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(terms.left_s()):
                embedded = await self._embedder.embed_in_shadow(trial.model, seen.crops, terms)
                took_s = time.perf_counter() - started
                if embedded.model != trial.model or embedded.age_s < took_s:
                    return None
                trial.answered = True
                again = replace(seen, embedded=embedded, crops=None, timings_ms={"embed": took_s * 1e3}, cold_s=0.0)
                return await trial.pipeline.find(again, query, terms)
        except TimeoutError as error:
            raise DeadlineExceeded("the tried model took longer than a search may") from error

    def _end(self, trial: _Trial, outcome: Outcome) -> None:
        trial.outcomes.append(outcome)
        trial.ended += 1
        self._counts.repeated(outcome)

    def _drop(self, trial: _Trial) -> None:
        trial.dropped += 1
        self._counts.not_repeated()


def _main(answer: Answer) -> tuple[Hit, ...]:
    """Return the products of the main list."""
    return next((found.products or () for found in answer.lists if found.object.main), ())


def _shared(ours: tuple[Hit, ...], theirs: tuple[Hit, ...]) -> float:
    one, other = ({hit.product_id for hit in hits[:FIRST]} for hits in (ours, theirs))
    return len(one & other) / max(len(one), len(other)) if one or other else 1.0
