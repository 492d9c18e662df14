"""Boxes, numbers and filters that no app would send."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from scripts.bad_requests import BAD, OK, BadRequest, good_image, json_body, query


def boxes() -> Iterator[BadRequest]:
    for text in (
        "nan,0,1,1",
        "0,0,inf,1",
        "-0.5,0,1,1",
        "0,0,1.5,1",
        "0.9,0,0.1,1",
        "0,0,0,0",
        "0,0,1",
        "0,0,1,1,1",
        "",
        "a,b,c,d",
        "1e309,0,1,1",
        "0x0,0,1,1",
        "0,0,1,1;drop",
        "0,0,1,1\0",
    ):
        yield query("box", f"box={quote(text)}")
    yield query("box", "&".join(["box=0,0,1,1"] * 11))
    yield query("box", "box=0,0,1,1&objects=whole")
    yield query("box", "box=0,0,1e-300,1", OK, BAD)
    for name, boxes in {
        "NaN": b"[[NaN, 0, 1, 1]]",
        "Infinity": b"[[0, 0, Infinity, 1]]",
        "null": b"[[null, 0, 1, 1]]",
        "true": b"[[false, false, true, true]]",
        "texts": b'[["0", "0", "1", "x"]]',
        "an object": b'[{"x0": 0}]',
        "nested": b"[[[0, 0, 1, 1]]]",
        "none": b"null",
        "a number": b"7",
        "a number of 300 digits": b"[[0, 0, 1, 1" + b"0" * 300 + b"]]",
    }.items():
        body = b'{"image": "' + good_image().encode() + b'", "boxes": ' + boxes + b"}"
        yield json_body("box", f"JSON, {name}", body)


def numbers() -> Iterator[BadRequest]:
    for text in ("0", "-1", "101", "1000000000", "9" * 5000, "1.5", "NaN", "true", "", "1e3", "0x10", "1 or 1=1"):
        yield query("number", f"top_k={quote(text)}")
    yield query("number", "top_k=5&top_k=6")
    yield query("number", f"top_k={quote('٥')}", OK, BAD)
    for text in ("min_score=nan", "min_score=-inf", "min_score=1e400", "objects=0", "objects=11", "objects=-1"):
        yield query("number", text)
    for text in ("min_match=nan", "min_match=1.1", "min_match=-1", "min_match="):
        yield query("number", text)
    for text in ("objects=1.0", f"objects={quote('²')}", f"objects={'9' * 5000}", "objects=", "sort=price_asc;--"):
        yield query("number", text)
    for text in ("price_min=-1", "price_min=NaN", "price_max=Infinity", "price_min=1e999999999", "price_max=-0.01"):
        yield query("number", f"{text}&currency=EUR")
    yield query("number", "price_min=9&price_max=1&currency=EUR")
    yield query("number", "price_min=1")
    yield query("number", "price_min=1&currency=XXX", OK, BAD)
    yield query("number", f"price_min={'9' * 400}&currency=EUR")
    yield query("number", f"price_min=0.{'0' * 4000}1&currency=EUR", OK, BAD)
    yield json_body("number", "JSON, top_k of 5,000 digits", b'{"token": "a", "top_k": ' + b"9" * 5000 + b"}")
    yield json_body("number", "JSON, top_k as null", {"image": good_image(), "top_k": None})
    yield json_body("number", "JSON, top_k as list", {"image": good_image(), "top_k": [5]})


INJECTIONS = (
    '" or 1 == 1 or "" == "',
    "' or ''=''",
    'Men" and in_stock == true',
    "x\\",
    'x\\" or row_id != \\"',
    "Men/%",
    "Men\n or true",
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/a}",
    "$(id)",
    "'; DROP TABLE products; --",
    "\u202eneM",
    "\ufeffMen",
    "Men\u0000",
    "𝕸𝖊𝖓",
    "e\u0301" * 200,
)


def filters() -> Iterator[BadRequest]:
    for text in INJECTIONS:
        long_or_nul = len(text.encode()) > 512 or "\0" in text
        answers = (BAD,) if long_or_nul else (OK,)
        yield query("filter", f"category={quote(text)}", *answers)
        yield query("filter", f"attr.colour={quote(text)}", *answers)
    for name in ('a"] == 1 or data["x', "a]", "a'", "a/b", "~a", "{a}", "a\nb", "a\\", "", "\0", "a" * 600):
        yield query("filter", f"attr.{quote(name, safe='')}=1")
    yield query("filter", "&".join(f"category=c{i}" for i in range(101)))
    yield query("filter", "&".join(f"attr.a{i}=1" for i in range(101)))
    yield query("filter", "&".join(f"attr.a=v{i}" for i in range(101)))
    yield query("filter", "in_stock=maybe")
    yield query("filter", "facets=" + quote("attr.a\nb"))
    yield query("filter", "&".join(["facets=category"] * 11))
    yield query("filter", "language=" + quote("../../etc/passwd"), OK, BAD)
    yield query("filter", "language=" + "x" * 50)
    yield query("filter", "currency=eur")
    for name, value in {
        "NaN": b"NaN",
        "too large": b"1e400",
        "of 30 digits": b"9" * 30,
        "an object": b'{"$gt": 0}',
        "nested": b"[[1]]",
        "null": b"null",
        "no value": b"[]",
        "half a character": b'"\\ud800"',
    }.items():
        body = b'{"image": "' + good_image().encode() + b'", "attributes": {"a": ' + value + b"}}"
        yield json_body("filter", f"JSON, {name}", body)


MAKERS = (boxes, numbers, filters)
