"""What the HTTP interface asks of the service behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from serve_app.config import PageConfig
from serve_app.market import Markets
from serve_app.pipeline import Answer, Query


@dataclass(frozen=True, slots=True)
class IndexView:
    """Say which collection the running model's alias stands for; None and a reason where there is none."""

    collection: str | None
    reason: str = ""


class Service(Protocol):
    fingerprint: str
    max_body_bytes: int
    markets: Markets
    page_settings: PageConfig

    async def search(self, photo: bytes, query: Query) -> Answer:
        """Search with a compressed photo, within the deadline."""
        ...

    async def search_again(self, token: str, query: Query) -> Answer:
        """Search with a photo that was sent before."""
        ...

    async def page(self, cursor: str, top_k: int, query: Query | None) -> Answer:
        """Return the page that a cursor points to; `query` is what is asked for beside it, None for nothing."""
        ...

    def index(self) -> IndexView:
        """Return the last known state of the index, without asking for it."""
        ...

    def ready(self) -> IndexView | None:
        """Return None once the service has been ready, else what is missing."""
        ...

    def count(self, code: str, timings_ms: dict[str, float], degraded: Sequence[str] = ()) -> None:
        """Count one finished search in the metrics, and what its answer lacked."""
        ...

    async def metrics(self) -> str:
        """Return the node's metrics in Prometheus' text format."""
        ...
