"""Who calls, and what they may do."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from serve_app.config import AuthConfig, Config
from serve_app.errors import BadConfig, Forbidden, KeyRequired, KeyUnknown, OriginRefused
from serve_app.keeping import NOBODY
from serve_app.keys import Key, KeyRing, Role, parse_keys, read_keys
from serve_app.quotas import Quota
from serve_app.watched_file import WatchedFile

ANY_ORIGIN = "*"
_SCHEME = "bearer"
_NETWORK_BITS = 64
"""Of an IPv6 address, what a provider gives one customer: the rest is theirs to change."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Hold what of a request tells who makes it."""

    authorization: str = ""
    host: str = ""
    origin: str = ""
    """Empty where no browser says from which page the request comes."""
    from_own_page: bool = False
    """Whether a browser says that the page is the service's own: it names no origin in a GET for its own."""
    peer: str = ""
    """Address that the connection comes from; empty where that is not known."""
    forwarded_for: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Say who makes a request, in words of the log, and what is theirs."""

    name: str
    role: Role
    owner: str = NOBODY
    """Who photos, rankings and quotas belong to."""
    quota: Quota | None = None
    """None where nobody counts."""
    has_key: bool = False


class Access:
    """Know callers by their key, or as those that need none."""

    def __init__(self, config: AuthConfig, keys: Callable[[], KeyRing], *, loopback: bool) -> None:
        self._config = config
        self._keys = keys
        self._is_laptop = loopback and not len(keys()) and not config.anonymous_search and not config.public
        self.origins = config.origins

    def caller(self, asking: Asking) -> Caller:
        """Return who asks; raises KeyUnknown, KeyRequired and OriginRefused."""
        if asking.authorization:
            return self._of_key(_key_text(asking.authorization))
        if self._config.anonymous_search:
            return Caller("anonymous", Role.SEARCH)
        if self._config.public:
            return self._public(asking)
        if self._is_laptop:
            return Caller("laptop", Role.ADMIN if _is_from_here(asking) else Role.SEARCH)
        raise KeyRequired("this needs an API key; send it as the header `Authorization: Bearer KEY`")

    def allow(self, caller: Caller, needed: Role) -> None:
        """Raise Forbidden or KeyRequired where a caller may not do what needs this role."""
        if caller.role.covers(needed):
            return
        if caller.has_key:
            raise Forbidden(f"the key {caller.name} has the role {caller.role}; this needs one with the role {needed}")
        if len(self._keys()):
            raise KeyRequired(f"this needs a key with the role {needed}; send it as `Authorization: Bearer KEY`")
        if caller.role is Role.SEARCH and self._is_laptop:
            raise Forbidden("a page of another site may only search here; ask from this machine, without a browser")
        raise Forbidden(
            f"this needs a key with the role {needed}, and this service has no keys; its operator makes one with "
            f"`shoplens keys new --role {needed}` and names the file of its line in auth.keys_file"
        )

    def _of_key(self, text: str) -> Caller:
        key = self._keys().find(text)
        if key is None:
            raise KeyUnknown("this API key is not known here, or not any more; ask who gave it to you for another")
        return Caller(key.name, key.role, key.owner, self._quota(key), has_key=True)

    def _quota(self, key: Key) -> Quota:
        return Quota("key", key.per_minute or self._config.requests_per_minute_per_key)

    def _public(self, asking: Asking) -> Caller:
        own = asking.from_own_page and not asking.origin
        if not own and not self._may_come_from(asking.origin, asking.host):
            said = f"pages of {asking.origin}" if asking.origin else "callers that are no page"
            raise OriginRefused(f"{said} may not search here without an API key; auth.origins names those that may")
        whose = _network(client_address(asking, self._config.trusted_proxies))
        owner = f"address:{hashlib.sha256(whose.encode()).hexdigest()[:16]}"
        return Caller("public", Role.PUBLIC, owner, Quota("address", self._config.requests_per_minute_per_address))

    def _may_come_from(self, origin: str, host: str) -> bool:
        if not origin:
            return False
        return ANY_ORIGIN in self.origins or origin in self.origins or urlsplit(origin).netloc == host


def make_access(config: Config) -> Access:
    """Return who may call as the settings say.

    Raises BadConfig where the keys can't be read, or where others than this machine would be answered unasked.
    """
    auth = config.auth
    keys = _keys(auth)
    loopback = ipaddress.ip_address(config.http.host).is_loopback
    if not (loopback or len(keys()) or auth.anonymous_search or auth.public):
        raise BadConfig(
            f"the service would listen on {config.http.host}, where others can reach it, and has no API keys; make one "
            "with `shoplens keys new --role search` and name the file of its line in auth.keys_file, or set "
            "auth.anonymous_search to let everyone search"
        )
    return Access(auth, keys, loopback=loopback)


def _keys(auth: AuthConfig) -> Callable[[], KeyRing]:
    if auth.keys_file is None:
        given = parse_keys(auth.keys.get_secret_value())
        return lambda: given
    file = WatchedFile(auth.keys_file, read_keys, "keys")
    if not len(file.current()):
        raise BadConfig(f"{auth.keys_file} of auth.keys_file holds no key; `shoplens keys new` prints a line for it")
    return file.current


def client_address(asking: Asking, trusted: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> str:
    """Return the address of who asks: the last one that no trusted proxy has; '' where there is none to tell."""
    address = asking.peer
    for named in reversed([part.strip() for part in asking.forwarded_for.split(",") if part.strip()]):
        if not _is_in(address, trusted):
            return address
        address = named
    return address


def _is_in(text: str, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in networks)


def _network(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        # What calls itself by something else shares one quota with all that do.
        return "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, _NETWORK_BITS), strict=False))


def _key_text(authorization: str) -> str:
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != _SCHEME or not text.strip():
        raise KeyUnknown("the header Authorization can't be read; write it as `Authorization: Bearer KEY`")
    return text.strip()


def _is_from_here(asking: Asking) -> bool:
    """Tell whether a request is this machine's own, not that of a site that a browser on it shows.

    Such a site reaches loopback too: by a form, or under a name of its own that it lets point to 127.0.0.1.
    """
    name = urlsplit(f"//{asking.host}").hostname or ""
    try:
        is_loopback = name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
    return is_loopback and (not asking.origin or urlsplit(asking.origin).netloc == asking.host)
