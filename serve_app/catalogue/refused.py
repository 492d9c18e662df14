"""Events that could not be applied, kept with their reasons, to be looked at and sent again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from logging.handlers import RotatingFileHandler
from pathlib import Path

from serve_app.catalogue.report import Outcome

FILE_BYTES, FILES = 64 * 2**20, 4
"""A feed that goes wrong for weeks fills no disk; a topic still has the events."""


class RefusedEvents:
    """Append to a file of JSON lines, made by the first; beyond FILE_BYTES it goes on in another, and the oldest goes.

    Each line holds `row`, `code`, `reason` and `event`, which is what may be sent again once it is mended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handler: RotatingFileHandler | None = None

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Keep problems; they outlive this process once this returns."""
        for each in outcomes:
            about = {"row": each.row, "code": each.code, "reason": each.reason, "event": dict(each.columns)}
            line = json.dumps(about, ensure_ascii=False, default=str)
            self._file().emit(logging.makeLogRecord({"msg": "%s", "args": (line,)}))

    def close(self) -> None:
        if self._handler is not None:
            self._handler.close()

    def _file(self) -> RotatingFileHandler:
        if self._handler is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._handler = RotatingFileHandler(self.path, maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8")
        return self._handler
