"""Ids, paths and headers that no app would send."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from scripts.bad_requests import (
    BAD,
    EXPIRED,
    NO_IMAGE,
    NO_PATH,
    NO_PRODUCT,
    OK,
    PRODUCTS,
    RAW,
    BadRequest,
    good_photo,
    json_body,
)


def ids() -> Iterator[BadRequest]:
    names = {
        "path": "../../etc/passwd",
        "path of Windows": "..\\..\\windows\\win.ini",
        "path, packed twice": "%2e%2e%2fetc%2fpasswd",
        "path with dots": "a/./../b",
        "absolute path": "//etc/passwd",
        "address": "http://127.0.0.1/",
        "injection": '" or product_id != "',
        "injection with a backslash": '\\" or 1 == 1 or \\"',
        "emoji": "🪑" * 20,
        "right to left": "\u202egpj.exe",
        "joined": "a\u200d\u200db",
        "no character": "\ufffe\uffff",
        "half of one": "\ufffd",
        "zero": "a\0b",
        "line end": "a\r\nSet-Cookie: x",
        "300 characters": "a" * 300,
        "300 characters of 4 bytes": "🪑" * 300,
    }
    for name, text in names.items():
        path = f"{PRODUCTS}/{quote(text, safe='')}"
        yield BadRequest("id", name, (NO_PRODUCT, BAD), "GET", path)
        yield BadRequest("id", f"{name}, similar", (NO_PRODUCT, BAD), "GET", f"{path}/similar")
    for path in (f"{PRODUCTS}/%ff%fe", f"{PRODUCTS}/%", f"{PRODUCTS}/%zz"):
        yield BadRequest("id", path, (NO_PRODUCT, BAD), "GET", path)
    for path in ("/page/../../etc/passwd", "/page/x/..%2f..%2fconfig.py", "/%00"):
        yield BadRequest("id", path, (NO_PATH,), "GET", path)
    for path in ("/v1/images/..%2f..%2fetc%2fpasswd", "/v1/images/a%00"):
        yield BadRequest("id", path, (NO_PATH, NO_IMAGE), "GET", path)
    for token in ("a", "../a", "a\0", "🪑", "x" * 65, "' or ''='"):
        yield json_body("id", f"token {token[:9]!r}", {"token": token}, BAD, EXPIRED)
        yield json_body("id", f"cursor {token[:9]!r}", {"cursor": token}, BAD, EXPIRED)
    yield json_body("id", "cursor of 2,000 characters", {"cursor": "x" * 2000})


def headers() -> Iterator[BadRequest]:
    photo = good_photo()
    given = {
        "id of two lines": {"x-request-id": "a\tb"},
        "id of 1,000 characters": {"x-request-id": "a" * 1000},
        "1,000 languages": {"accept-language": ",".join(["de;q=0.1"] * 1000)},
        "language that is none": {"accept-language": "../../etc/passwd;q=NaN,*;q=9"},
        "forwarded": {"x-forwarded-for": "127.0.0.1, ::1", "x-forwarded-host": "evil.example", "host": "evil.example"},
        "range": {"range": "bytes=0-,0-,0-"},
        "expectation": {"expect": "200-ok"},
        "40 headers": {f"x-{i}": "a" * 50 for i in range(40)},
    }
    for name, headers in given.items():
        yield BadRequest("header", name, (OK,), body=photo, headers=RAW | headers)
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
        yield BadRequest("header", f"method {method}", ((405, "method_not_allowed"),), method)


MAKERS = (ids, headers)
