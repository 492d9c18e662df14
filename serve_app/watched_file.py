"""A file that is read again when it has changed, so that what it holds comes and goes while the service runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from serve_app.errors import BadConfig

log = logging.getLogger(__name__)

T = TypeVar("T")
Stamp = tuple[int, int, int]


class WatchedFile(Generic[T]):
    """Hold what was read from a file last."""

    def __init__(
        self, path: Path, read: Callable[[Path], T], what: str, otherwise: T | None = None, *, aside: bool = False
    ) -> None:
        """Name the file by `what` in the log; without `otherwise`, read it now and raise BadConfig where that fails.

        `otherwise` holds until the file is there and can be read, so that no replica fails to start for want of it.
        Where it is read `aside`, a change takes effect a moment after it was noticed: a thread reads it.
        """
        self._path = path
        self._read = read
        self._what = what
        self._aside = aside
        self._reading: threading.Thread | None = None
        self._stamp = self._now() if otherwise is None else None
        self._value = read(path) if otherwise is None else otherwise
        self._was_asked = otherwise is None

    def current(self) -> T:
        """Return what the file holds now; what it held last, with a line in the log, where it can't be used."""
        stamp = self._now()
        if stamp != self._stamp and (self._reading is None or not self._reading.is_alive()):
            self._stamp = stamp
            # The first time at once: nobody is to be answered as though there were no file.
            if self._aside and self._was_asked:
                self._reading = threading.Thread(target=self._take, name=f"read {self._what}", daemon=True)
                self._reading.start()
            else:
                self._take()
        self._was_asked = True
        return self._value

    def _take(self) -> None:
        try:
            self._value = self._read(self._path)
            log.info("%s read anew", self._what)
        except BadConfig as error:
            log.error("%s stay as they were", self._what, extra={"reason": error.message})

    def _now(self) -> Stamp | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino)
