"""What the models made of photos lately, so that one that comes again needs no model."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from serve_app.config import CacheConfig
from serve_app.objects import Focus
from serve_app.pipeline import CACHE, Embedded, Seen

ON_THE_LOOP_BYTES = 256 * 1024
"""Larger photos are hashed in a thread: 20 MiB take some 20 ms."""
ENTRY_BYTES = 1024
DETECTION_BYTES = 512
"""About what an entry, and each detection or given box in it, takes beside its embeddings."""


@dataclass(frozen=True, slots=True)
class Key:
    """Name a photo by its hash, by what of it is searched, and by whose it is.

    Another owner's photo is never known again, though the embeddings would be the same: that it came faster would tell
    that somebody else has it.
    """

    owner: str
    sha256: bytes
    focus: Focus
    collection: str


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    seen: Seen
    expires_s: float
    size_bytes: int


class SeenPhotos:
    """Remember hashes of photos, boxes and embeddings: no photo, no crop, and no product.

    What was seen without the detector, or with another model than this replica's, is not remembered. The detector is
    the replica's own too: where settings name another one, the replica is started anew. An entry is good for the
    collection that the model's alias stood for; when it stands for another one, all are forgotten.
    """

    def __init__(
        self,
        config: CacheConfig,
        model: str,
        collection: Callable[[], str | None],
        counted: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`model` is the embedder's fingerprint, `collection` returns what its alias stands for, as far as is known.

        `counted` is told of each photo whether it was known.
        """
        self._config = config
        self._model = model
        self._collection = collection
        self._counted = counted
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        """The least recently used first."""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def key(self, owner: str, photo: bytes, focus: Focus) -> Key | None:
        """Return what a photo is known by; None where nothing is remembered."""
        collection = self._collection()
        if not self._config.enabled or collection is None:
            return None
        large = len(photo) > ON_THE_LOOP_BYTES
        sha256 = await asyncio.to_thread(_sha256, photo) if large else _sha256(photo)
        return Key(owner, sha256, focus, collection)

    def get(self, key: Key) -> Seen | None:
        """Return what was seen in a photo; None where it is not remembered."""
        entry = self._entries.get(key)
        if entry is not None and entry.expires_s <= self._clock():
            self._drop(key)
            entry = None
        self._counted(entry is not None)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.seen

    def put(self, key: Key, seen: Seen) -> None:
        """Remember what was seen in a photo, unless it lacks something; what was used longest ago makes room."""
        if seen.degraded or seen.embedded.model != self._model:
            return
        # Copied: what came by a call is a view of all that came with it.
        embedded = Embedded(seen.embedded.embeddings.copy(), seen.embedded.model)
        embedded.embeddings.flags.writeable = False
        kept = replace(seen, embedded=embedded, timings_ms={}, cold_s=0.0, crops=None)
        size_bytes = ENTRY_BYTES + embedded.embeddings.nbytes
        size_bytes += DETECTION_BYTES * (len(seen.detections) + len(key.focus.boxes))
        self._drop(key)
        self._entries[key] = _Entry(kept, self._clock() + self._config.expiry_s, size_bytes)
        self.size_bytes += size_bytes
        while len(self._entries) > self._config.max_entries or self.size_bytes > self._config.max_bytes:
            self._drop(next(iter(self._entries)))

    def sweep(self) -> None:
        """Forget what is too old, and all that is of another collection."""
        now_s, collection = self._clock(), self._collection()
        gone = [key for key, each in self._entries.items() if each.expires_s <= now_s or key.collection != collection]
        for key in gone:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        self.size_bytes -= entry.size_bytes if entry is not None else 0


def known_again(seen: Seen, took_s: float) -> Seen:
    """Return what was remembered, with the time that it took to find it."""
    return replace(seen, timings_ms={CACHE: took_s * 1e3})


def _sha256(photo: bytes) -> bytes:
    return hashlib.sha256(photo).digest()
