"""A feed of events, followed in small batches: applied to the index first, acknowledged then.

What isn't acknowledged comes again, and what comes again changes nothing, so a feed may be killed at any moment.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from serve_app.catalogue.events import Event, Message, parse
from serve_app.catalogue.manifest import Problem
from serve_app.catalogue.report import Outcome, Status
from serve_app.errors import Unavailable

GOES_ON = "what was not acknowledged comes again; start the feed again to go on"


class Source(Protocol):
    """Where events come from."""

    @property
    def is_over(self) -> bool:
        """Tell whether no more will ever come."""
        ...

    def take(self, most: int, within_s: float) -> list[Message]:
        """Return up to `most` of the next messages, those that come within some seconds."""
        ...

    def acknowledge(self) -> None:
        """Let all that was taken never come again."""
        ...

    def close(self) -> None: ...


class Sink(Protocol):
    """What events are applied to."""

    def apply(self, events: Sequence[Event]) -> list[Outcome]:
        """Return what became of each event once Milvus has what it asks for; repeats do no harm.

        Of events at the same time, the later one wins. Raises MilvusUnavailable, DeadlineExceeded, IndexMissing and
        what the models raise; the events may then be applied again.
        """
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Say what became of some messages.

    `lag_s` is the age of the oldest event among them once it was acknowledged, None where no event could be read.
    """

    outcomes: list[Outcome]
    lag_s: float | None


def _now_ms() -> int:
    return int(time.time() * 1000)


def follow(
    source: Source,
    sink: Sink,
    refuse: Callable[[Sequence[Outcome]], None],
    *,
    most: int = 64,
    within_s: float = 1.0,
    stopping: Callable[[], bool] = lambda: False,
    now_ms: Callable[[], int] = _now_ms,
) -> Iterator[Batch]:
    """Apply events in batches of at most `most`, or what comes within some seconds, until the feed is over or stopped.

    Yields each batch once it was acknowledged. Events that can't be applied go to `refuse`, with their reasons, before
    that; they stop nothing. Raises what the sink raises; the batch was then not acknowledged.
    """
    while not stopping():
        messages = source.take(most, within_s)
        if not messages:
            if source.is_over:
                return
            continue
        found = [parse(message, now_ms()) for message in messages]
        events = [each for each in found if not isinstance(each, Problem)]
        outcomes = [Outcome.of_problem(each) for each in found if isinstance(each, Problem)]
        outcomes += _applied(sink, events)
        refused = [outcome for outcome in outcomes if outcome.status is Status.PROBLEM]
        if refused:
            refuse(refused)
        source.acknowledge()
        lag_s = (now_ms() - min(event.at_ms for event in events)) / 1000 if events else None
        yield Batch(outcomes, lag_s)


def _applied(sink: Sink, events: Sequence[Event]) -> list[Outcome]:
    if not events:
        return []
    try:
        return sink.apply(events)
    except Unavailable as error:
        raise type(error)(f"{error.message}; {GOES_ON}") from error


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Give what tells whether SIGTERM or SIGINT came; a second one has its usual effect."""
    came = False
    before: dict[int, Any] = {}

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    def stop(number: int, frame: object) -> None:
        nonlocal came
        came = True
        restore()

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, stop)
    try:
        yield lambda: came
    finally:
        restore()
