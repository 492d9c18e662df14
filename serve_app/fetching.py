"""Downloads from servers that are not ours, each as safe as it is polite.

Nobody vouches for a URL in a feed or in a search: it may lead into this network, never end, or name a small shop's
server a million times. Every address is checked where its socket is made, so neither a name that resolves to another
address the second time, nor a redirect, nor an odd spelling of an address gets around it.
"""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from yarl import URL

from serve_app.addresses import AddressRefused, socket_to
from serve_app.config import FetchConfig
from serve_app.errors import FetchDenied, FetchFailed, FetchTimeout, PhotoTooLarge, UrlNotFound, UrlRefused
from serve_app.politeness import Host, Hosts, retry_after_s

FIRST_BACK_OFF_S = 0.25
LONGEST_BACK_OFF_S = 5.0
WORTH_ANOTHER_TRY_S = 1.0
LONGEST_HOLD_S = 600.0
"""How long a server's Retry-After keeps us away at most; one wrong header must not lose its host for good."""
MOST_URL_CHARS = 8000
HOST = re.compile(r"[a-z0-9_.:%-]+")
ALLOW_HOSTS = "fetch.allow_hosts"
REDIRECTS = {301, 302, 303, 307, 308}
PASSING = {429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Validators:
    """Say which version of a file is known; falsy where the server named none."""

    etag: str = ""
    last_modified: str = ""

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)

    def headers(self) -> dict[str, str]:
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Fetched:
    data: bytes
    validators: Validators
    content_type: str


def checked_url(config: FetchConfig, text: str, source: URL | None = None, hosts_setting: str = ALLOW_HOSTS) -> URL:
    """Return the URL that may be asked for, which `source` may have redirected to.

    Where its host leads is judged when it is connected to. Raises UrlRefused, which names the setting that the allowed
    hosts come from.
    """
    what = f"what {_shown(source)} redirects to" if source else "that"
    if len(text) > MOST_URL_CHARS:
        raise UrlRefused(f"{what} is a URL of more than {MOST_URL_CHARS} characters")
    try:
        url = (source or URL()).join(URL(text))
        # As the look-up does with a name too, where its error would be nobody's.
        (url.raw_host or "").encode("idna")
    except ValueError as error:
        raise UrlRefused(f"{what} is no URL") from error
    if url.scheme not in ("http", "https") or not HOST.fullmatch(url.raw_host or ""):
        raise UrlRefused(f"{what} is no http:// or https:// URL with a host")
    if source is not None and (source.scheme, url.scheme) == ("https", "http"):
        raise UrlRefused(f"{what} is http, after https; name a URL that stays with https")
    if "@" in url.raw_authority:
        raise UrlRefused(f"{_shown(url)} holds a user name or password; give the URL without")
    if config.allow_hosts and not any(_matches(_name(url), pattern) for pattern in config.allow_hosts):
        raise UrlRefused(f"{_shown(url)} is of a host that {hosts_setting} does not name")
    return url


class Fetcher:
    """Fetch files from any number of hosts, within the limits of each.

    `share` is the part of the limits per host that this process may use, where several fetch for one import; each
    has one connection at least. `hosts_setting` names where `config.allow_hosts` came from.
    """

    def __init__(
        self,
        config: FetchConfig,
        *,
        share: float = 1.0,
        resolver: AbstractResolver | None = None,
        hosts_setting: str = ALLOW_HOSTS,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; it must be more than 0 and at most 1")
        slots = max(1, int(config.connections_per_host * share))
        self._config = config
        self._resolver = resolver
        self._hosts_setting = hosts_setting
        self._hosts = Hosts(lambda: Host(slots, config.requests_per_s_per_host * share))
        self._connections = asyncio.Semaphore(config.connections)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str, *, max_bytes: int, known: Validators | None = None) -> Fetched | None:
        """Return the file at `url`, or None where it is still the `known` one.

        Raises PhotoTooLarge above `max_bytes`, and FetchFailed or one of its subclasses for anything else.
        """
        attempts = AsyncRetrying(
            retry=retry_if_exception(self._is_worth_another_try),
            stop=stop_after_attempt(self._config.attempts),
            wait=wait_random_exponential(multiplier=FIRST_BACK_OFF_S, max=LONGEST_BACK_OFF_S),
            reraise=True,
        )
        return await attempts(self._attempt, url, max_bytes, known or Validators())

    def _is_worth_another_try(self, error: BaseException) -> bool:
        wait_s = error.retry_after_s if isinstance(error, FetchFailed) else None
        return wait_s is not None and wait_s <= self._config.longest_wait_s

    async def _attempt(self, text: str, max_bytes: int, known: Validators) -> Fetched | None:
        left_s = self._config.timeout_s
        url = checked_url(self._config, text, hosts_setting=self._hosts_setting)
        for _ in range(self._config.max_redirects + 1):
            # Waiting for a turn takes nothing from the time for the request: a full queue is no fault of the server's.
            async with self._turn(url) as host:
                began_s = time.monotonic()
                answer = await self._exchange(url, host, left_s, max_bytes, known)
                left_s -= time.monotonic() - began_s
            if not isinstance(answer, URL):
                return answer
            url = answer
        raise FetchFailed(f"{_shown(text)} redirects more than {self._config.max_redirects} times")

    @asynccontextmanager
    async def _turn(self, url: URL) -> AsyncIterator[Host]:
        longest_s = self._config.longest_wait_s
        with self._hosts.using(_name(url)) as host:
            async with host.slots:
                while wait_s := host.pace.take(time.monotonic()):
                    held_s = host.pace.held_s(time.monotonic())
                    if held_s > longest_s:
                        problem = f"{_name(url)} wants to be left alone for {held_s:.0f} s more"
                        raise FetchFailed(f"{problem}, longer than fetch.longest_wait_s").after(held_s)
                    await asyncio.sleep(wait_s)
                async with self._connections:
                    yield host

    async def _exchange(
        self, url: URL, host: Host, left_s: float, max_bytes: int, known: Validators
    ) -> Fetched | URL | None:
        """Send one request; returns the URL that it redirects to, if any."""
        headers = known.headers()
        if host.users == 1 and len(self._hosts) > self._config.connections:
            # Of so many hosts, each with a connection kept for later, more would stay open than a process may have.
            headers["Connection"] = "close"
        try:
            async with (
                asyncio.timeout(left_s),
                self._opened().get(url, headers=headers, allow_redirects=False) as answer,
            ):
                return await self._judged(answer, url, host, max_bytes, known)
        except TimeoutError as error:
            problem = f"{_shown(url)} takes longer than fetch.timeout_s or fetch.connect_timeout_s allow"
            raise FetchTimeout(problem).after(WORTH_ANOTHER_TRY_S) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error, url) from error

    async def _judged(
        self, answer: aiohttp.ClientResponse, url: URL, host: Host, max_bytes: int, known: Validators
    ) -> Fetched | URL | None:
        headers = answer.headers
        if answer.status == 200:
            data = await _read(answer, url, max_bytes)
            validators = Validators(_plain(headers.get("ETag", "")), _plain(headers.get("Last-Modified", "")))
            return Fetched(data, validators, _plain(headers.get("Content-Type", "")))
        if answer.status == 304 and known:
            return None
        if answer.status in REDIRECTS and "Location" in headers:
            return checked_url(self._config, headers["Location"], url, self._hosts_setting)
        problem = f"{_shown(url)} answers {answer.status}"
        if answer.status in (401, 403):
            raise FetchDenied(f"{problem}; its server has to let this machine, as fetch.user_agent, read it")
        if answer.status in (404, 410):
            raise UrlNotFound(f"{problem}; there is no such file")
        failure = FetchFailed(problem)
        if answer.status in PASSING:
            asked_s = retry_after_s(headers.get("Retry-After", ""), datetime.now(UTC))
            wait_s = min(asked_s or 0.0, LONGEST_HOLD_S)
            host.pace.hold(time.monotonic() + wait_s)
            failure.after(wait_s or WORTH_ANOTHER_TRY_S)
        raise failure

    def _opened(self) -> aiohttp.ClientSession:
        # Not in the constructor: a session belongs to the event loop it is made in.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # a turn is all that is waited for, outside of the request's time
                    resolver=self._resolver,
                    socket_factory=partial(socket_to, self._config),
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._config.connect_timeout_s),
                headers={
                    "User-Agent": self._config.user_agent,
                    "Accept": "image/*,*/*;q=0.5",
                    "Accept-Encoding": "identity",
                },
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


def _translated(error: aiohttp.ClientError | OSError, url: URL) -> FetchFailed:
    reason = getattr(error, "os_error", error)
    if isinstance(reason, AddressRefused):
        return UrlRefused(f"{_shown(url)} is refused: {reason}")
    if isinstance(error, aiohttp.InvalidURL):
        return UrlRefused(f"{_shown(url)} is no URL that can be asked for")
    if isinstance(error, aiohttp.ClientResponseError):
        return FetchFailed(f"{_shown(url)} is answered with what is no proper HTTP: {error.message}")
    failure = FetchFailed(f"{_shown(url)} can't be fetched: {str(reason) or type(reason).__name__}")
    is_for_good = isinstance(error, aiohttp.ClientConnectorCertificateError)
    return failure if is_for_good else failure.after(WORTH_ANOTHER_TRY_S)


async def _read(answer: aiohttp.ClientResponse, url: URL, max_bytes: int) -> bytes:
    """Return the body, unpacked; gives up as soon as more than `max_bytes` are there, packed or unpacked."""
    too_large = PhotoTooLarge(f"{_shown(url)} has more than the {max_bytes} bytes it may have")
    if (answer.content_length or 0) > max_bytes:
        raise too_large
    unpacking = _unpacking(answer, url)
    data = bytearray()
    received = 0
    async for chunk in answer.content.iter_any():
        received += len(chunk)
        try:
            data += unpacking.decompress(chunk, max_bytes + 1 - len(data)) if unpacking else chunk
        except zlib.error as error:
            raise FetchFailed(f"{_shown(url)} is damaged: {error}") from error
        if max(received, len(data)) > max_bytes:
            raise too_large
    if unpacking and not unpacking.eof:
        raise FetchFailed(f"{_shown(url)} ends early").after(WORTH_ANOTHER_TRY_S)
    return bytes(data)


def _unpacking(answer: aiohttp.ClientResponse, url: URL) -> Any:
    # Some servers pack although asked not to.
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    raise FetchFailed(f"{_shown(url)} is packed in a way that was not asked for: {_plain(encoding) or 'unknown'}")


def _plain(value: str) -> str:
    """Return a header's value, or nothing where it could not be stored and sent again."""
    return value if value.isascii() and value.isprintable() else ""


def _name(url: URL) -> str:
    return (url.raw_host or "").lower().rstrip(".")


def _matches(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def _shown(url: URL | str) -> str:
    """Return a URL without what may be secret in it."""
    url = URL(url)
    return str((url.with_user(None) if url.raw_host else url).with_query(None).with_fragment(None))
