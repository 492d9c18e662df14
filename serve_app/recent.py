"""The last searches, as the log tells of them, without what could say whose they were."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

MOST = 200
MESSAGES = frozenset({"search", "similar", "problem"})
"""Lines of the log that tell of a request of a shopper."""
KEPT = ("code", "objects", "lists", "products", "degraded", "photo_bytes", "ms")
"""Their fields that are kept: no caller, no id that a client may have made, no product, no text of a refusal."""


class Recent(logging.Handler):
    """Keep the newest lines; give it to the logger of the HTTP interface."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[dict[str, Any]] = deque(maxlen=MOST)

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg in MESSAGES:
            fields = {name: getattr(record, name) for name in KEPT if hasattr(record, name)}
            self._lines.append({"at_ms": int(record.created * 1000), "what": record.msg, **fields})

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines, the newest first."""
        return list(reversed(self._lines))
