"""Texts of the page, names of detected things: gettext catalogues, read.

Each catalogue names the origin of its translations in its header. Those that no speaker has checked are marked fuzzy;
unlike other readers of gettext, this one uses them: the alternative would be English.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from serve_app.languages import DEFAULT

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog

PAGE = "page"
LABELS = "labels"

PLURALS: Mapping[str, tuple[str, ...]] = {
    "ar": ("zero", "one", "two", "few", "many", "other"),
    "he": ("one", "two", "other"),
    "pl": ("one", "few", "many"),
    "ru": ("one", "few", "many"),
    **dict.fromkeys(("es", "fr", "it", "pt"), ("one", "many", "other")),
    **dict.fromkeys(("de", "en", "hi", "nl", "sv", "tr"), ("one", "other")),
    **dict.fromkeys(("id", "ja", "ko", "th", "vi", "zh"), ("other",)),
}
"""What each plural form of a catalogue is for: CLDR's categories of whole numbers, as `Intl.PluralRules` names them."""

Text = str | Mapping[str, str]
"""A text, or one for each plural category."""


@lru_cache(maxsize=2)
def template(domain: str) -> Catalog:
    """Return the catalogue of a domain in English, without translations."""
    return _read(f"{domain}.pot", None)


@lru_cache(maxsize=64)
def catalogue(domain: str, language: str) -> Catalog:
    """Return the translations of a domain, PAGE or LABELS, into one of LANGUAGES."""
    if language == DEFAULT:
        return template(domain)
    return _read(f"{language}/LC_MESSAGES/{domain}.po", language)


@lru_cache(maxsize=64)
def texts(domain: str, language: str) -> Mapping[str, Text]:
    """Return all texts of a domain by their English original; what is not translated yet is English."""
    translations = catalogue(domain, language)
    originals = [message.id for message in template(domain) if message.id]
    return {_original(original): _text(translations.get(original), original, language) for original in originals}


def label(name: str, language: str) -> str:
    """Return what a thing that the detector found is called; its own name where it is not known."""
    text = texts(LABELS, language).get(name, name)
    return text if isinstance(text, str) else name


def unchecked(domain: str, language: str) -> int:
    """Return how many translations no speaker of the language has checked."""
    return sum(message.fuzzy for message in catalogue(domain, language) if message.id)


def _read(name: str, language: str | None) -> Catalog:
    # Imported here because only who shows texts needs it.
    from babel.messages.pofile import read_po

    with files("serve_app").joinpath("locales").joinpath(*name.split("/")).open("rb") as file:
        return read_po(file, locale=language)


def _original(identifier: str | Sequence[str]) -> str:
    return identifier if isinstance(identifier, str) else identifier[0]


def _text(found: object, identifier: str | Sequence[str], language: str) -> Text:
    translated = getattr(found, "string", "")
    if isinstance(identifier, str):
        return translated or identifier
    if not isinstance(translated, (tuple, list)) or not all(translated):
        one, other = identifier
        return {category: one if category == "one" else other for category in PLURALS[language]}
    return dict(zip(PLURALS[language], translated, strict=True))
