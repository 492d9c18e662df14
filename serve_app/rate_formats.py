"""Files of exchange rates, read: the European Central Bank's, and plain CSV."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from xml.etree import ElementTree

from serve_app.errors import BadInput
from serve_app.money import digits_of
from serve_app.rates import BASE, Rate

ECB = "European Central Bank, euro foreign exchange reference rates"
COLUMNS = ("currency", "per_eur", "date", "source")
MAX_BYTES = 64 << 20
"""The bank's whole history since 1999 takes 2 MB."""
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_RATE = re.compile(r"\d{1,12}(?:\.\d{1,12})?")
_TEXTS_LIMIT = 200


def parse_rates(content: bytes) -> list[Rate]:
    """Return the rates of a file, of each currency the newest.

    Known are the bank's `eurofxref` files as XML, CSV or zipped CSV, of one day or of many, of which the newest day
    counts, and CSV with the columns of COLUMNS. Raises BadInput with the line that can't be read.
    """
    text = _text(content)
    if text.lstrip().startswith("<"):
        return _ecb_xml(text)
    lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text))]
    header = lines[0] if lines else []
    if header[:1] == ["Date"]:
        return _ecb_csv(header, lines[1:])
    if set(COLUMNS) <= set(header):
        return _plain(header, lines[1:])
    raise BadInput(f"the file is none of the European Central Bank's, and no CSV with the columns {','.join(COLUMNS)}")


def plain_csv(rates: Iterable[Rate]) -> str:
    """Return rates as plain CSV, which `parse_rates` reads back as they were."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rate in sorted(rates, key=lambda each: each.currency):
        writer.writerow([rate.currency, _decimal(rate.per_eur), rate.day.isoformat(), rate.source])
    return written.getvalue()


def _text(content: bytes) -> str:
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                members = [member for member in archive.infolist() if member.filename.endswith(".csv")]
                if len(members) != 1 or members[0].file_size > MAX_BYTES:
                    raise BadInput("the archive must hold one CSV file, as the European Central Bank's does")
                content = archive.read(members[0])
        return content.decode("utf-8-sig")
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"the file of rates is neither text nor a whole archive: {error}") from error


def _ecb_xml(text: str) -> list[Rate]:
    if "<!DOCTYPE" in text:
        # The parser would expand entities without end; the bank's files declare none.
        raise BadInput("the XML declares a document type, which no file of the European Central Bank does")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  without a document type there is nothing to expand
    except ElementTree.ParseError as error:
        raise BadInput(f"the XML can't be read: {error}") from error
    days = {
        _day(time, "the XML"): cube
        for cube in root.iter("{http://www.ecb.int/vocabulary/2002-08-01/eurofxref}Cube")
        if (time := cube.get("time"))
    }
    if not days:
        raise BadInput("the XML holds no day of the European Central Bank's rates")
    newest = max(days)
    return _checked(
        Rate(_currency(cube.get("currency", ""), "the XML"), _rate(cube.get("rate", ""), "the XML"), newest, ECB)
        for cube in days[newest]
    )


def _ecb_csv(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[Rate]:
    days = {_day(line[0], f"line {number}"): line for number, line in enumerate(lines, start=2) if line and line[0]}
    if not days:
        raise BadInput("the file holds no day of rates")
    newest = max(days)
    where = f"the line of {newest}"
    return _checked(
        Rate(_currency(currency, where), _rate(value, where), newest, ECB)
        for currency, value in zip(header[1:], days[newest][1:], strict=False)
        if currency and value not in ("", "N/A")
    )


def _plain(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[Rate]:
    rates = []
    for number, line in enumerate(lines, start=2):
        where = f"line {number}"
        if not any(line):
            continue
        values = dict(zip(header, line, strict=False))
        missing = [name for name in COLUMNS if not values.get(name)]
        if missing:
            raise BadInput(f"{where} has no {' and no '.join(missing)}; a rate without its day and source is not used")
        source = values["source"]
        if len(source) > _TEXTS_LIMIT or not source.isprintable():
            raise BadInput(
                f"{where} has a source of more than {_TEXTS_LIMIT} characters, or of some that can't be shown"
            )
        rates.append(
            Rate(
                _currency(values["currency"], where),
                _rate(values["per_eur"], where),
                _day(values["date"], where),
                source,
            )
        )
    return _checked(rates)


def _checked(rates: Iterable[Rate]) -> list[Rate]:
    newest: dict[str, Rate] = {}
    for rate in rates:
        known = newest.get(rate.currency)
        if rate.currency == BASE:
            if rate.per_eur != 1:
                raise BadInput("one euro is one euro; leave the line of EUR out")
        elif known is not None and known.day == rate.day and known.per_eur != rate.per_eur:
            raise BadInput(f"there are two rates of {rate.currency} for {rate.day}; leave one out")
        elif known is None or rate.day > known.day:
            newest[rate.currency] = rate
    if not newest:
        raise BadInput("the file holds no rate")
    return list(newest.values())


def _currency(text: str, where: str) -> str:
    try:
        digits_of(text)
    except BadInput as error:
        raise BadInput(f"{where}: {error.message}") from error
    return text


def _rate(text: str, where: str) -> Fraction:
    if not _RATE.fullmatch(text) or not (value := Fraction(text)):
        raise BadInput(f"{where}: {text[:40]!r} is no rate; write how many units one euro is, like 1.0876")
    return value


def _day(text: str, where: str) -> date:
    for read in _DAYS:
        try:
            return read(text)
        except ValueError:
            continue
    raise BadInput(f"{where}: {text[:40]!r} is no day; write it like 2026-10-30")


def _in_words(text: str) -> date:
    """Read the bank's `30 October 2026`, whatever the machine's own language is."""
    day, month, year = text.split()
    return date(int(year), _MONTHS.index(month) + 1, int(day))


_DAYS: tuple[Callable[[str], date], ...] = (date.fromisoformat, _in_words)


def _decimal(value: Fraction) -> str:
    # Exact: every rate was written with at most twelve decimals.
    scaled = value * 10**12
    if scaled.denominator != 1:
        raise BadInput(f"the rate {value} has more than twelve decimals")
    try:
        return f"{Decimal(scaled.numerator).scaleb(-12).normalize():f}"
    except InvalidOperation as error:
        raise BadInput(f"the rate {value} is too large") from error
