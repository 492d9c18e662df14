"""A catalogue's manifest, read into entries."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field
from decimal import Decimal
from pathlib import Path
from typing import Any

from serve_app.catalogue.formats import REQUIRED, raw_rows
from serve_app.collection import NO_PRICE, default_image_id
from serve_app.errors import BadInput, BadManifest
from serve_app.market import minor_units

OPTIONAL = ("image_id", "parent_id", "title", "category", "price", "currency", "in_stock")

BAD_ROW = "bad_row"
BAD_PRICE = "bad_price"
BAD_IN_STOCK = "bad_in_stock"
DUPLICATE_IMAGE_ID = "duplicate_image_id"
URL_UNSUPPORTED = "url_unsupported"

_TITLE = re.compile(r"title_([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold one image of a catalogue, as the manifest's row `row` describes it.

    `price` counts minor units, NO_PRICE where there is none; `titles` go by language, `attributes` by column.
    """

    row: int
    image: str
    product_id: str
    image_id: str
    parent_id: str = ""
    title: str | None = None
    titles: Mapping[str, str] = dataclass_field(default_factory=dict)
    category: str = ""
    price: int = NO_PRICE
    currency: str = ""
    in_stock: bool = True
    attributes: Mapping[str, Any] = dataclass_field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Say why one row is not imported, with a stable code."""

    row: int
    image: str
    product_id: str
    code: str
    reason: str


class _BadRow(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def count(path: Path) -> int:
    """Return the number of rows, readable or not; raises BadManifest, also for a manifest without any."""
    rows = sum(1 for _ in raw_rows(path))
    if not rows:
        what = "no image in it or in its folders" if path.is_dir() else "no rows"
        raise BadManifest(f"{path} has {what}; give a manifest, or a folder FOLDER/PRODUCT_ID/*.jpg")
    return rows


def read(path: Path) -> Iterator[Entry | Problem]:
    """Yield what each row says, in order; raises BadManifest where the path is no manifest.

    All that grows with the manifest is 16 bytes for each image id, by which one that comes twice is told.
    """
    seen: set[bytes] = set()
    for row, values in raw_rows(path):
        if isinstance(values, str):
            yield Problem(row, "", "", BAD_ROW, values)
            continue
        try:
            entry = _entry(row, values)
            _refuse_twice(entry, seen)
        except _BadRow as error:
            yield Problem(row, _shown(values.get("image")), _shown(values.get("product_id")), error.code, error.reason)
        else:
            yield entry


def base_folder(path: Path) -> Path:
    """Return the folder that the images of a manifest are relative to."""
    return (path if path.is_dir() else path.parent).resolve()


def _refuse_twice(entry: Entry, seen: set[bytes]) -> None:
    digest = hashlib.blake2b(entry.image_id.encode(), digest_size=16).digest()
    if digest in seen:
        raise _BadRow(DUPLICATE_IMAGE_ID, f"the image_id {entry.image_id!r} is that of an earlier row, which is kept")
    seen.add(digest)


def _entry(row: int, values: Mapping[str, Any]) -> Entry:
    image, product_id = (_text(values, name) for name in REQUIRED)
    if not image or not product_id:
        raise _BadRow(BAD_ROW, f"{'product_id' if image else 'image'} is missing")
    if _URL.match(image):
        raise _BadRow(URL_UNSUPPORTED, "images at URLs can't be imported yet; download them and name the files")
    titles = _titles(values)
    price, currency = _price(values)
    entry = Entry(
        row=row,
        image=image,
        product_id=product_id,
        image_id=_text(values, "image_id") or default_image_id(_utf8(product_id), _utf8(image)),
        parent_id=_text(values, "parent_id"),
        title=_text(values, "title") or next(iter(titles.values()), None),
        titles=titles,
        category="/".join(part for part in map(str.strip, _text(values, "category").split("/")) if part),
        price=price,
        currency=currency,
        in_stock=_in_stock(values.get("in_stock")),
        attributes=_attributes(values),
    )
    _utf8(json.dumps(asdict(entry), ensure_ascii=False))
    return entry


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if _absent(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        # A column of integers that has gaps comes from pandas as floats.
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Decimal)):
        raise _BadRow(BAD_ROW, f"{name} is {_shown(value)}, not a text")
    return str(value).strip()


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value == ""


def _titles(values: Mapping[str, Any]) -> dict[str, str]:
    titles = {}
    for name in values:
        match = _TITLE.fullmatch(name)
        text = _text(values, name) if match else ""
        if match and text:
            titles[match[1].replace("_", "-")] = text
    return titles


def _price(values: Mapping[str, Any]) -> tuple[int, str]:
    amount, currency = _text(values, "price"), _text(values, "currency")
    if amount and not currency:
        raise _BadRow(BAD_PRICE, f"the price {amount} has no currency; add a column currency, like EUR")
    if not currency:
        return NO_PRICE, ""
    try:
        # Without a price, the currency is checked all the same.
        minor = minor_units(amount or "0", currency)
    except BadInput as error:
        raise _BadRow(BAD_PRICE, error.message) from error
    return (minor if amount else NO_PRICE), currency


def _in_stock(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if _absent(value) or (isinstance(value, str) and not value.strip()):
        return True
    known = _BOOLEANS.get(str(value).strip().lower())
    if known is None:
        raise _BadRow(BAD_IN_STOCK, f"in_stock is {_shown(value)}; write true or false")
    return known


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _plain(value)
        for name, value in values.items()
        if name and name not in REQUIRED and name not in OPTIONAL and not _TITLE.fullmatch(name) and not _absent(value)
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it; dates and the like of Parquet become texts."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value.adjusted()) < 15 else float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, (str, bool, int, float)) or value is None else str(value)


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _BadRow(BAD_ROW, "a text holds half of a character, which UTF-8 can't") from error
    return text


def _shown(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 200 else text[:199] + "…"
