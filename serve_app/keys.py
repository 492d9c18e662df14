"""API keys, of which the service knows only the hashes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from serve_app.errors import BadConfig

PREFIX = "shoplens_"
"""What every key begins with, so that scanners of repositories know one that was left there."""
KEY_BYTES = 32
LONGEST_KEY = 200
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = "a line has to be `NAME ROLE sha256:HASH`, with a number of requests a minute behind it or not"


class Role(StrEnum):
    """What a caller may do; each may do what the ones before it may."""

    PUBLIC = "public"
    SEARCH = "search"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


KEY_ROLES = (Role.SEARCH, Role.WRITE, Role.ADMIN)
"""Roles that a key may have: a page in a browser can keep no secret, so that `public` callers have none."""


@dataclass(frozen=True, slots=True)
class Key:
    """Name a key and what it may do; what a caller sends is not kept."""

    name: str
    role: Role
    sha256: str
    per_minute: int | None = None
    """Requests a minute; None for as many as the settings give each key."""

    @property
    def owner(self) -> str:
        """What photos and quotas of this key go by."""
        return f"key:{self.sha256[:16]}"

    @property
    def line(self) -> str:
        """Return the key as it stands in a file of keys."""
        rate = "" if self.per_minute is None else f" {self.per_minute}"
        return f"{self.name} {self.role} sha256:{self.sha256}{rate}"


class KeyRing:
    """Hold the keys that are known."""

    def __init__(self, keys: tuple[Key, ...] = ()) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, text: str) -> Key | None:
        """Return the key that a caller sent, None for an unknown one; takes the same time whichever it is.

        One round of sha256 is enough: a key is 256 random bits, which nobody can go through as they can passwords.
        """
        sent, found = _sha256(text[: LONGEST_KEY + 1]), None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, sent):
                found = key
        return found


NO_KEYS = KeyRing()


def new_key(name: str, role: Role, per_minute: int | None = None) -> tuple[str, Key]:
    """Return a new key as its caller sends it, and as the service knows it; raises BadConfig for a bad name."""
    if role not in KEY_ROLES:
        raise BadConfig(f"{role} callers have no key; roles of keys are {', '.join(KEY_ROLES)}")
    if not _NAME.fullmatch(name) or name.startswith(PREFIX):
        raise BadConfig(f"{name!r} is no name of a key; use up to 64 letters, digits, dots and dashes")
    text = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return text, Key(name, role, _sha256(text), per_minute)


def parse_keys(text: str) -> KeyRing:
    """Read a file of keys, one a line, `#` before what is none; raises BadConfig, which shows no text of a line."""
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            keys.append(_parse(line.split(), number))
    names = [key.name for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise BadConfig(f"two keys are named {name}; give each a name of its own")
    return KeyRing(tuple(keys))


def _parse(words: list[str], number: int) -> Key:
    if words[0].startswith(PREFIX):
        raise BadConfig(f"line {number} of the keys begins with a key, which nobody should keep: {_LINE}")
    if len(words) not in (3, 4) or not _NAME.fullmatch(words[0]):
        raise BadConfig(f"line {number} of the keys can't be read: {_LINE}")
    name, role, hashed = words[:3]
    if role not in KEY_ROLES:
        raise BadConfig(f"the key {name} has no known role; roles of keys are {', '.join(KEY_ROLES)}")
    found = _HASH.fullmatch(hashed)
    if found is None:
        raise BadConfig(f"the key {name} has no hash: {_LINE}; `shoplens keys new` makes one")
    rate = words[3] if len(words) == 4 else None
    if rate is not None and not (rate.isdecimal() and 1 <= int(rate) <= 10**9):
        raise BadConfig(f"the key {name} has no number of requests a minute: {_LINE}")
    return Key(name, Role(role), found[1], None if rate is None else int(rate))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_keys(path: Path) -> KeyRing:
    """Return the keys of a file; raises BadConfig where it can't be used."""
    try:
        return parse_keys(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"auth.keys_file can't be read: {error}") from error
