"""Deletes, remembered for a while, so that an older event that comes later brings nothing back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from pymilvus import MilvusClient

from serve_app.config import MilvusConfig
from serve_app.milvus.collection_writer import CollectionWriter
from serve_app.milvus.notes import Notes

KEEP_S = 7 * 24 * 3600.0
PRUNE_EVERY_S = 600.0
KEY_BYTES = 512
"""Of `image:` or `product:` and an id."""


def _now_ms() -> int:
    return int(time.time() * 1000)


class Tombstones:
    """Note keys with the times of their deletes, in the collection `<catalogue>_deleted`.

    They go `keep_s` after they were noted, however old the events are: a topic that is read from its start is as
    much out of order as it was. Calls are repeated, and raise, as those of CollectionWriter.
    """

    def __init__(
        self,
        client: MilvusClient,
        catalogue: str,
        config: MilvusConfig,
        keep_s: float = KEEP_S,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        name = f"{catalogue}_deleted"
        self._notes = Notes(client, name, {"deleted": KEY_BYTES}, ("at_ms", "noted_ms"))
        self._calls = CollectionWriter(client, name, config)
        self._keep_ms = int(keep_s * 1000)
        self._now_ms = now_ms
        self._pruned_ms: int | None = None

    def add(self, times: Mapping[str, int]) -> None:
        """Note keys with the times of their deletes, in milliseconds since 1970 UTC; the newest of each stays."""
        if not times:
            return
        known = self.noted(times)
        now_ms = self._now_ms()
        rows = [{"deleted": key, "at_ms": max(at, known.get(key, at)), "noted_ms": now_ms} for key, at in times.items()]
        self._calls.repeat(lambda: self._notes.put(rows))
        if self._pruned_ms is None or now_ms - self._pruned_ms >= PRUNE_EVERY_S * 1000:
            self._pruned_ms = now_ms
            self._calls.repeat(lambda: self._prune_some(now_ms - self._keep_ms))

    def noted(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the time of its newest delete, in milliseconds since 1970 UTC, for each key that has one."""
        asked = list(keys)
        return self._calls.repeat(lambda: self._noted(asked)) if asked else {}

    def newer(self, times: Mapping[str, int]) -> dict[str, int]:
        """Return, of the keys with the times of their events, those that were deleted by newer ones."""
        return {key: at for key, at in self.noted(times).items() if at > times[key]}

    def prune(self, before_ms: int) -> None:
        """Forget what was noted before that time, in milliseconds since 1970 UTC."""
        while self._calls.repeat(lambda: self._prune_some(before_ms)):
            pass

    def _noted(self, keys: Iterable[str]) -> dict[str, int]:
        if not self._notes.exist():
            return {}
        return {row["deleted"]: row["at_ms"] for row in self._notes.having(keys)}

    def _prune_some(self, before_ms: int) -> int:
        """Forget what one query finds, and return how many that are."""
        if not self._notes.exist():
            return 0
        old = [row["deleted"] for row in self._notes.read(f"noted_ms < {before_ms}")]
        self._notes.remove(old)
        return len(old)
