"""`shoplens feed`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from serve_app.catalogue import sources
from serve_app.catalogue.feed import Batch, Source, follow, stopped_by_signals
from serve_app.catalogue.reading import scheme_of
from serve_app.catalogue.refused import RefusedEvents
from serve_app.catalogue.report import Status
from serve_app.cli.local import milvus_uri, need_models
from serve_app.collection import STAMP
from serve_app.config import Config
from serve_app.errors import BadConfig, BadManifest
from serve_app.image_folders import remember

if TYPE_CHECKING:
    from serve_app.catalogue.metrics import FeedMetrics

STANDARD_INPUT, KAFKA = "-", "kafka"
FOLDER = Path("feeds")
"""Where the data directory holds what each run refused."""
TELL_EVERY_S = 30.0
WORDS = {
    Status.EMBEDDED: "embedded",
    Status.UPDATED: "updated without the models",
    Status.UNCHANGED: "unchanged",
    Status.STALE: "older than what the index has",
    Status.PROBLEM: "refused",
}


@dataclass(frozen=True, slots=True)
class Options:
    """Say what is followed.

    `source` is STANDARD_INPUT, KAFKA, or a file of JSON lines; `base` what images are relative to, by default the
    file's folder or the working directory; `name` the feed that rows are noted to be of.
    """

    source: str
    base: str | None = None
    name: str = ""
    metrics_port: int | None = None


class _Tally:
    """Count what became of events, and say it now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._statuses: Counter[Status] = Counter()
        self._codes: Counter[str] = Counter()
        self._told_s = time.monotonic()

    def add(self, batch: Batch) -> None:
        for outcome in batch.outcomes:
            self._statuses[outcome.status] += 1
            self._codes[outcome.code] += outcome.status is Status.PROBLEM
        if time.monotonic() - self._told_s >= TELL_EVERY_S:
            self._told_s = time.monotonic()
            lag = (
                "" if batch.lag_s is None else f" The last of them took effect {batch.lag_s:,.1f} s after it was sent."
            )
            self._console.print(f"{self}{lag}")

    def __str__(self) -> str:
        parts = [f"{self._statuses[status]:,} {word}" for status, word in WORDS.items() if self._statuses[status]]
        codes = ", ".join(f"{number:,} {escape(code)}" for code, number in self._codes.most_common() if number)
        refused = f" ({codes})" if codes else ""
        return f"{self._statuses.total():,} events: {', '.join(parts) or 'none came'}{refused}."


def follow_feed(config: Config, options: Options, console: Console) -> None:
    """Apply events until the feed is over or SIGTERM or SIGINT comes; what was begun is finished then.

    Raises BadManifest, BadConfig, BadWeights, MilvusUnavailable, DeadlineExceeded and Unavailable; what was not
    acknowledged then comes again, where the source can give it again.
    """
    from serve_app.catalogue.feed_driver import opened

    need_models(config, config.importing.device)
    now = datetime.now(UTC)
    base = options.base or _base(options.source)
    is_named = options.base or options.source not in (STANDARD_INPUT, KAFKA)
    if is_named and not scheme_of(base):
        remember(config.data_dir, str(Path(base).absolute()))
    refused = RefusedEvents(config.data_dir / FOLDER / now.strftime(STAMP) / "refused.jsonl")
    tally = _Tally(console)
    with ExitStack() as stack:
        stopping = stack.enter_context(stopped_by_signals())
        source = stack.enter_context(_source(config, options.source))
        uri = stack.enter_context(milvus_uri(config, console))
        sink = stack.enter_context(opened(config, uri, base, options.name, now))
        stack.enter_context(closing(refused))
        metrics = _metrics(config, options)
        console.print("Following the feed; Ctrl-C or SIGTERM ends it after the events that are under way.")
        try:
            for batch in follow(
                source,
                sink,
                refused.add,
                most=config.feed.batch_events,
                within_s=config.feed.batch_s,
                stopping=stopping,
            ):
                tally.add(batch)
                if metrics is not None:
                    metrics.add(batch)
        finally:
            console.print(str(tally))
            if refused.path.exists():
                console.print(f"Refused events, each with its reason: {escape(str(refused.path))}", soft_wrap=True)


def _base(source: str) -> str:
    return "." if source in (STANDARD_INPUT, KAFKA) else str(Path(source).parent)


@contextmanager
def _source(config: Config, source: str) -> Iterator[Source]:
    if source == KAFKA:
        with closing(sources.kafka(config.feed)) as topic:
            yield topic
        return
    try:
        stream = open(0 if source == STANDARD_INPUT else source, "rb", closefd=source != STANDARD_INPUT)  # noqa: SIM115
    except OSError as error:
        raise BadManifest(f"{source} can't be read: {error.strerror}") from error
    with stream:
        yield sources.Lines(stream)


def _metrics(config: Config, options: Options) -> FeedMetrics | None:
    if options.metrics_port is None:
        return None
    from serve_app.catalogue.metrics import FeedMetrics

    try:
        return FeedMetrics(config.http.host, options.metrics_port)
    except OSError as error:
        raise BadConfig(f"metrics can't be served at port {options.metrics_port}: {error.strerror}") from error
