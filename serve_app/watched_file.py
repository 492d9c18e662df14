"""A file that is read again when it has changed, so that what it holds comes and goes while the service runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from serve_app.errors import BadConfig

log = logging.getLogger(__name__)

T = TypeVar("T")
Stamp = tuple[int, int, int]


class WatchedFile(Generic[T]):
    """Hold what was read from a file last."""

    def __init__(self, path: Path, read: Callable[[Path], T], what: str, otherwise: T | None = None) -> None:
        """Name the file by `what` in the log; without `otherwise`, read it now and raise BadConfig where that fails.

        `otherwise` holds until the file is there and can be read, so that no replica fails to start for want of it.
        """
        self._path = path
        self._read = read
        self._what = what
        self._stamp = self._now() if otherwise is None else None
        self._value = read(path) if otherwise is None else otherwise

    def current(self) -> T:
        """Return what the file holds now; what it held last, with a line in the log, where it can't be used."""
        stamp = self._now()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._value = self._read(self._path)
                log.info("%s read anew", self._what)
            except BadConfig as error:
                log.error("%s stay as they were", self._what, extra={"reason": error.message})
        return self._value

    def _now(self) -> Stamp | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino)
