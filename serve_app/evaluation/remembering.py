"""Models that never see the same pixels twice: what they said is kept in a file.

Keys are the sha256 of the pixels that a model sees, the model, and its settings, so a file never gets out of date and
may be shared by any number of sets and runs.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from serve_app.domain import Box, Crops, Detection, Embeddings, Photo, Pixels
from serve_app.errors import BadConfig

KEYS_AT_ONCE = 500


class DetectorModel(Protocol):
    def find(self, photos: Sequence[Photo]) -> list[tuple[Detection, ...]]: ...


class EmbedderModel(Protocol):
    def embed(self, crops: Crops) -> Embeddings: ...


class Memory:
    """Keep values under keys in a file of SQLite; close it when done. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; raises BadConfig where that is impossible."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute(
                "CREATE TABLE IF NOT EXISTS said (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise BadConfig(f"{path} can't be used to keep embeddings in: {error}") from error
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return what is kept under the keys, as far as anything is."""
        found: dict[str, bytes] = {}
        with self._lock:
            for start in range(0, len(keys), KEYS_AT_ONCE):
                some = keys[start : start + KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                found |= dict(self._file.execute(f"SELECT key, value FROM said WHERE key IN ({marks})", some))  # noqa: S608
        return found

    def put(self, values: Mapping[str, bytes]) -> None:
        with self._lock:
            self._file.execute("BEGIN")
            self._file.executemany("INSERT OR REPLACE INTO said VALUES (?, ?)", values.items())
            self._file.execute("COMMIT")


class RememberedDetector:
    """Find things in photos, asking the model only about those it has not seen."""

    def __init__(self, load: Callable[[], DetectorModel], memory: Memory, name: str) -> None:
        """`load` is called when the first photo is new; `name` stands for the weights and settings."""
        self._load = load
        self._memory = memory
        self._name = name
        self._model: DetectorModel | None = None

    def find(self, photos: Sequence[Photo]) -> list[tuple[Detection, ...]]:
        keys = [f"detector/{self._name}/{digest(photo.pixels)}" for photo in photos]
        known = self._memory.get(keys)
        new = [i for i, key in enumerate(keys) if key not in known]
        if new:
            self._model = self._model or self._load()
            found = self._model.find([photos[i] for i in new])
            fresh = {keys[i]: _detections_to_bytes(each) for i, each in zip(new, found, strict=True)}
            self._memory.put(fresh)
            known |= fresh
        return [_detections_from_bytes(known[key]) for key in keys]


class RememberedEmbedder:
    """Embed crops, asking the model only about those it has not seen."""

    def __init__(self, load: Callable[[], EmbedderModel], memory: Memory, fingerprint: str, suffix: str = "") -> None:
        """`load` is called when the first crop is new; `suffix` keeps apart what one model says in several ways."""
        self.fingerprint = fingerprint
        self._model_key = fingerprint + suffix
        self._load = load
        self._memory = memory
        self._model: EmbedderModel | None = None

    def embed(self, crops: Crops) -> Embeddings:
        keys = [f"embedder/{self._model_key}/{digest(crop)}" for crop in crops]
        known = self._memory.get(keys)
        new = [i for i, key in enumerate(keys) if key not in known]
        if new:
            self._model = self._model or self._load()
            fresh = {keys[i]: row.tobytes() for i, row in zip(new, self._model.embed(crops[new]), strict=True)}
            self._memory.put(fresh)
            known |= fresh
        return np.stack([np.frombuffer(known[key], np.float32) for key in keys])


def digest(pixels: Pixels) -> str:
    """Return the sha256 of pixels and their shape."""
    return hashlib.sha256(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _detections_to_bytes(detections: Sequence[Detection]) -> bytes:
    return json.dumps([[*each.box.as_tuple(), each.label, each.confidence] for each in detections]).encode()


def _detections_from_bytes(data: bytes) -> tuple[Detection, ...]:
    return tuple(Detection(Box(*edges), label, confidence) for *edges, label, confidence in json.loads(data))
