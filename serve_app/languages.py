"""The languages that texts are in, and which of them a reader gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from serve_app.errors import BadParameter

DEFAULT = "en"
"""What every fallback ends with before the shop's own text."""

LANGUAGES: Mapping[str, str] = {
    "ar": "العربية",
    "de": "Deutsch",
    "en": "English",
    "es": "Español",
    "fr": "Français",
    "he": "עברית",
    "hi": "हिन्दी",
    "id": "Indonesia",
    "it": "Italiano",
    "ja": "日本語",
    "ko": "한국어",
    "nl": "Nederlands",
    "pl": "Polski",
    "pt": "Português",
    "ru": "Русский",
    "sv": "Svenska",
    "th": "ไทย",
    "tr": "Türkçe",
    "vi": "Tiếng Việt",
    "zh": "中文",
}
"""Each language by its own name."""
RIGHT_TO_LEFT = frozenset({"ar", "he"})

REGIONAL: Mapping[str, str] = {
    tag: tag.replace("-", "_")
    for tag in ("de-AT", "de-CH", "en-AU", "en-CA", "en-GB", "en-IN", "es-MX", "fr-BE", "fr-CA", "fr-CH",
                "nl-BE", "pt-PT")
} | {"zh-HK": "zh_Hant_HK", "zh-TW": "zh_Hant_TW"}  # fmt: skip
"""Where prices are written in another way than in the language's largest country, with Babel's name of each."""

_PARENTS: Mapping[str, tuple[str, ...]] = {"zh-TW": ("zh-Hant",), "zh-HK": ("zh-Hant-HK", "zh-Hant")}
"""What is tried between a tag and its language."""
_ALIASES = {"iw": "he", "in": "id", "cmn": "zh", "zh-hant": "zh-TW", "zh-hant-tw": "zh-TW", "zh-hant-hk": "zh-HK"}
"""Names that browsers send or sent for the same."""
_TAGS = {tag.lower(): tag for tag in (*LANGUAGES, *REGIONAL)}

_TAG = re.compile(r"[A-Za-z]{1,8}(?:[-_][A-Za-z0-9]{1,8})*")
_RANGE = re.compile(rf"\s*({_TAG.pattern}|\*)\s*(?:;\s*[qQ]\s*=\s*([01](?:\.\d{{0,3}})?)\s*)?")
MAX_HEADER = 1_000
"""Characters of an Accept-Language header that are read."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Say in which language, and by which country's custom, someone reads."""

    tag: str
    """A language, or one with a region of REGIONAL: `de`, `de-AT`."""

    @property
    def language(self) -> str:
        return self.tag.partition("-")[0]

    @property
    def direction(self) -> str:
        return "rtl" if self.language in RIGHT_TO_LEFT else "ltr"

    @property
    def babel(self) -> str:
        """Return Babel's name of the locale."""
        return REGIONAL.get(self.tag, self.tag)

    @property
    def chain(self) -> tuple[str, ...]:
        """Return the tags that a text is looked for in, in order; then comes the shop's own text."""
        return tuple(dict.fromkeys((self.tag, *_PARENTS.get(self.tag, ()), self.language, DEFAULT)))


def reader(language: str | None, accept_language: str | None = None, *, default: str = DEFAULT) -> Reader:
    """Return who reads: by the language that was asked for, else by the browser's header, else by default.

    Raises BadParameter where the language that was asked for is none of LANGUAGES.
    """
    if language is not None:
        tag = _known(language) if _TAG.fullmatch(language) else None
        if tag is None:
            raise BadParameter(
                f"there are no texts in the language {language[:40]!r}; known are {', '.join(LANGUAGES)}"
            )
        return Reader(tag)
    for wanted in _wanted(accept_language or ""):
        tag = default if wanted == "*" else _known(wanted)
        if tag is not None:
            return Reader(tag)
    return Reader(default)


def translated(texts: Mapping[str, str], chain: tuple[str, ...]) -> str | None:
    """Return the first text of a chain; a language also takes the text of any of its regions."""
    for name in _preferred(tuple(texts), chain):
        if texts[name]:
            return texts[name]
    return None


@lru_cache(maxsize=1024)
def _preferred(names: tuple[str, ...], chain: tuple[str, ...]) -> tuple[str, ...]:
    """Return which texts to try, best first; the products of a shop mostly have the same languages."""
    folded = {name: name.lower().replace("_", "-") for name in names}
    found: dict[str, None] = {}
    for tag in chain:
        found |= dict.fromkeys(name for name in names if folded[name] == tag.lower())
        if tag in LANGUAGES:
            found |= dict.fromkeys(name for name in names if folded[name].startswith(f"{tag}-"))
    return tuple(found)


def _known(tag: str) -> str | None:
    """Return the longest beginning of a tag that is known: RFC 4647's lookup."""
    parts = tag.lower().replace("_", "-").split("-")
    while parts:
        name = "-".join(parts)
        name = _ALIASES.get(name, name)
        if name.lower() in _TAGS:
            return _TAGS[name.lower()]
        parts.pop()
    return None


def _wanted(header: str) -> list[str]:
    """Return the languages of an Accept-Language header (RFC 9110), most wanted first, without what can't be read."""
    ranges: list[tuple[float, str]] = []
    for part in header[:MAX_HEADER].split(","):
        match = _RANGE.fullmatch(part)
        if match:
            ranges.append((float(match[2] or 1), match[1]))
    return [name for quality, name in sorted(ranges, key=lambda each: -each[0]) if 0 < quality <= 1]
