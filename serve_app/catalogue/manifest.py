"""A catalogue's manifest, read into entries."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from dataclasses import field as dataclass_field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from serve_app.catalogue.formats import DUPLICATE_IMAGE_ID, REQUIRED, Raw, raw_rows
from serve_app.catalogue.seen import Seen
from serve_app.collection import NO_PRICE, default_image_id
from serve_app.errors import BadInput, BadManifest
from serve_app.money import minor_units, price_amount

OPTIONAL = ("image_id", "parent_id", "title", "category", "price", "currency", "in_stock")

BAD_ROW = "bad_row"
BAD_PRICE = "bad_price"
BAD_IN_STOCK = "bad_in_stock"
URL_UNSUPPORTED = "url_unsupported"

_TITLE = re.compile(r"title_([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*)")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
URL_SCHEMES = ("http", "https", "s3", "gs")
ROWS_AT_ONCE = 1024
"""Rows that are compared with those before them in one go."""
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
    at_ms: int | None = None
    """Time of the event that it comes from, since 1970 UTC; None in a manifest, which is of the time of its import."""

    def columns(self) -> dict[str, Any]:
        """Return the row of a manifest that says the same."""
        titles = {f"title_{language}": text for language, text in self.titles.items()}
        columns: dict[str, Any] = {
            "image": self.image,
            "product_id": self.product_id,
            "image_id": self.image_id,
            "parent_id": self.parent_id,
            "title": self.title,
            **titles,
            "category": self.category,
            "price": price_amount(self.price, self.currency),
            "currency": self.currency,
            "in_stock": self.in_stock,
        }
        return {name: value for name, value in columns.items() if value not in (None, "")} | dict(self.attributes)


@dataclass(frozen=True, slots=True)
class Problem:
    """Say why one row is not imported, with a stable code; `columns` are the row's, where it could be read."""

    row: int
    image: str
    product_id: str
    code: str
    reason: str
    columns: Mapping[str, Any] = dataclass_field(default_factory=dict)

    @property
    def image_id(self) -> str:
        """Return the id that the row's image has or would have; '' where that can't be told."""
        try:
            return _image_id(self.columns)
        except _BadRow:
            return ""


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

    All that grows with the manifest are the 16 bytes by which an image id that comes twice is told.
    """
    return checked(raw_rows(path))


def checked(rows: Iterable[Raw]) -> Iterator[Entry | Problem]:
    """Yield what rows say; of several with one image id, all but the first are problems."""
    seen = Seen()
    parsed = (entry(row, values) for row, values in rows)
    while some := list(islice(parsed, ROWS_AT_ONCE)):
        entries = [each for each in some if isinstance(each, Entry)]
        new = seen.add([each.image_id for each in entries])
        again = {each.row for each, is_new in zip(entries, new, strict=True) if not is_new}
        for each in some:
            yield _again(each) if isinstance(each, Entry) and each.row in again else each


def entry(row: int, values: Mapping[str, Any] | str) -> Entry | Problem:
    """Return what one row of a manifest says; `values` are its columns, or the reason why it can't be read."""
    if isinstance(values, str):
        return Problem(row, "", "", BAD_ROW, values)
    try:
        return _entry(row, values)
    except _BadRow as error:
        image, product_id = _shown(values.get("image")), _shown(values.get("product_id"))
        columns = {str(name): _plain(value) for name, value in values.items()}
        return Problem(row, image, product_id, error.code, error.reason, columns)


def image_ids(rows: Iterable[Raw]) -> Iterator[Sequence[str]]:
    """Yield, some at a time, the image ids that rows name, '' for a row whose image can't be told."""
    ids = (entry(row, values).image_id for row, values in rows)
    while some := list(islice(ids, ROWS_AT_ONCE)):
        yield some


def _again(entry: Entry) -> Problem:
    reason = f"the image_id {entry.image_id!r} is that of an earlier row, which is kept"
    return Problem(entry.row, entry.image, entry.product_id, DUPLICATE_IMAGE_ID, reason, entry.columns())


def _entry(row: int, values: Mapping[str, Any]) -> Entry:
    image, product_id = (_text(values, name) for name in REQUIRED)
    image_id = _image_id(values)
    url = _URL.match(image)
    if url and url[1].lower() not in URL_SCHEMES:
        raise _BadRow(URL_UNSUPPORTED, f"images can't be fetched by {url[1]}; known are {', '.join(URL_SCHEMES)}")
    titles = _titles(values)
    price, currency = _price(values)
    entry = Entry(
        row=row,
        image=image,
        product_id=product_id,
        image_id=image_id,
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


def _image_id(values: Mapping[str, Any]) -> str:
    image, product_id = (_text(values, name) for name in REQUIRED)
    if not image or not product_id:
        raise _BadRow(BAD_ROW, f"{'product_id' if image else 'image'} is missing")
    return _text(values, "image_id") or default_image_id(_utf8(product_id), _utf8(image))


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
