"""The photo of a search that names a URL in place of it."""

from __future__ import annotations

import asyncio

from serve_app.config import FetchConfig
from serve_app.domain import Terms
from serve_app.errors import FetchFailed, FetchTimeout, PhotoTooLarge, UrlRefused
from serve_app.fetching import Fetcher

SETTING = "fetch.search_hosts"
PART = 0.8
"""Part of a search's time that its photo may take to come: what is left is for searching."""
RETRY_AFTER_S = 1.0


def of_searches(config: FetchConfig) -> FetchConfig:
    """Return the settings with the hosts that searches may name as the only ones."""
    return config.model_copy(update={"allow_hosts": config.search_hosts})


class PhotoUrls:
    """Fetch photos from the hosts that the settings name for searches, and from nowhere else."""

    def __init__(self, config: FetchConfig, max_bytes: int, fetcher: Fetcher | None = None) -> None:
        """Fetch with one's own `fetcher`, or with one whose settings are `of_searches`."""
        self._is_open = bool(config.search_hosts)
        self._max_bytes = max_bytes
        self._fetcher = fetcher or Fetcher(of_searches(config), hosts_setting=SETTING)

    async def photo(self, url: str, terms: Terms) -> bytes:
        """Return the file at `url`, which may have as many bytes as one that is sent.

        Raises UrlRefused, PhotoTooLarge, and FetchFailed or one of its subclasses where it can't be had in time.
        """
        if not self._is_open:
            raise UrlRefused(f"searches take no url here, because {SETTING} names no host; send the photo itself")
        try:
            async with asyncio.timeout(PART * terms.left_s()):
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
