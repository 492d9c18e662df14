"""The photo of a search that names a URL in place of it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serve_app.config import FetchConfig
from serve_app.domain import Terms
from serve_app.errors import FetchFailed, FetchTimeout, Overloaded, PhotoTooLarge, UrlRefused
from serve_app.fetching import Fetcher

SETTING = "fetch.search_hosts"
PART = 0.8
"""Part of a search's time that its photo may take to come: what is left is for searching."""
RETRY_AFTER_S = 1.0
BULK_SHARE = 0.5
"""Part of the places that searches of a batch may have: they leave the rest to shoppers."""
SMOOTHING = 0.2
LONGEST_RETRY_S = 60.0


def of_searches(config: FetchConfig) -> FetchConfig:
    """Return the settings with the hosts that searches may name as the only ones."""
    return config.model_copy(update={"allow_hosts": config.search_hosts})


class Places:
    """Bound how many searches wait for their photo; time comes in as seconds of a monotonic clock."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._until_s: list[float] = []
        self._bulk = 0
        self._typical_s = math.inf
        """How long a photo takes to come, lately; unknown before the first one."""

    @contextmanager
    def taken(self, terms: Terms, until_s: float) -> Iterator[None]:
        """Have a place, until `until_s` at most; raises Overloaded, with the seconds after which one is free."""
        now_s = self._clock()
        if len(self._until_s) >= self._most or (terms.bulk and self._bulk >= BULK_SHARE * self._most):
            problem = "too many searches wait for their photo to come from its url; try again later"
            raise Overloaded(f"{problem}, or send the photo itself").after(self._retry_s(now_s))
        self._until_s.append(until_s)
        self._bulk += terms.bulk
        try:
            yield
        finally:
            self._until_s.remove(until_s)
            self._bulk -= terms.bulk
            took_s = self._clock() - now_s
            known = math.isfinite(self._typical_s)
            self._typical_s = self._typical_s + SMOOTHING * (took_s - self._typical_s) if known else took_s

    def _retry_s(self, now_s: float) -> float:
        # When the first one has to give up, a place is free in any case.
        first_s = min(self._until_s, default=now_s) - now_s
        return max(RETRY_AFTER_S, min(self._typical_s, first_s, LONGEST_RETRY_S))


class PhotoUrls:
    """Fetch photos from the hosts that the settings name for searches, and from nowhere else."""

    def __init__(self, config: FetchConfig, max_bytes: int, fetcher: Fetcher | None = None) -> None:
        """Fetch with one's own `fetcher`, or with one whose settings are `of_searches`."""
        self._is_open = bool(config.search_hosts)
        self._max_bytes = max_bytes
        self._places = Places(config.max_searches)
        self._fetcher = fetcher or Fetcher(of_searches(config), hosts_setting=SETTING)

    async def photo(self, url: str, terms: Terms) -> bytes:
        """Return the file at `url`, which may have as many bytes as one that is sent.

        Raises UrlRefused, Overloaded where too many wait already, PhotoTooLarge, and FetchFailed or one of its
        subclasses where it can't be had in time.
        """
        if not self._is_open:
            raise UrlRefused(f"searches take no url here, because {SETTING} names no host; send the photo itself")
        left_s = PART * terms.left_s()
        try:
            with self._places.taken(terms, time.monotonic() + left_s):
                async with asyncio.timeout(left_s):
                    fetched = await self._fetcher.fetch(url, max_bytes=self._max_bytes)
        except TimeoutError as error:
            problem = "the photo at this url takes longer to come than a search may wait; send the photo itself"
            raise FetchTimeout(problem).after(RETRY_AFTER_S) from error
        except (FetchFailed, PhotoTooLarge) as error:
            told = type(error)(f"{error.message}; send another url, or the photo itself")
            told.retry_after_s = error.retry_after_s
            raise told from error
        return fetched.data if fetched is not None else b""

    async def close(self) -> None:
        await self._fetcher.close()
