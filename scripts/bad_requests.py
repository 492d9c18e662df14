"""Requests that no app would send, and the answers that they should have."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from scripts.bad_photos import bad_photos, encoded, picture

SEARCH, BATCH, PRODUCTS = "/v1/search", "/v1/search:batch", "/v1/products"
JSON = {"content-type": "application/json"}
RAW = {"content-type": "application/octet-stream"}
OK = (200, "ok")
BAD = (422, "bad_parameter")
NO_BODY, NO_PRODUCT, NO_IMAGE = (400, "empty_body"), (404, "unknown_product"), (404, "unknown_image")
NO_PATH = (404, "not_found")
EXPIRED = (410, "photo_expired")
STATUSES = {
    "ok": 200,
    "empty_body": 400,
    "too_many_pixels": 413,
    "photo_too_large": 413,
    "unsupported_type": 415,
    "truncated": 422,
    "not_an_image": 422,
}
Answer = tuple[int, str]


@dataclass(frozen=True, slots=True)
class BadRequest:
    """Hold a request, and the answers it may have: status and code, `ok` where it is searched or stored."""

    kind: str
    name: str
    answers: tuple[Answer, ...]
    method: str = "POST"
    path: str = SEARCH
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def bad_requests(seed: int = 0) -> list[BadRequest]:
    """Return the corpus: photos that make a body of their own, and what else can be wrong with a request."""
    photos = [
        BadRequest(
            f"photo: {each.kind}",
            each.name,
            tuple((STATUSES[code], code) for code in each.codes),
            body=each.data,
            headers=RAW,
        )
        for each in bad_photos(seed)
    ]
    return photos + [request for maker in MAKERS for request in maker()]


def good_photo() -> bytes:
    """Return a photo that nothing is wrong with."""
    return encoded(picture(), "JPEG")


def _query(kind: str, text: str, *answers: Answer) -> BadRequest:
    return BadRequest(kind, text[:60], answers or (BAD,), path=f"{SEARCH}?{text}", body=good_photo(), headers=RAW)


def _json(kind: str, name: str, body: object, *answers: Answer, path: str = SEARCH) -> BadRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return BadRequest(kind, name, answers or (BAD,), path=path, body=data, headers=JSON)


def _image() -> str:
    return base64.b64encode(good_photo()).decode()


def _boxes() -> Iterator[BadRequest]:
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
        yield _query("box", f"box={quote(text)}")
    yield _query("box", "&".join(["box=0,0,1,1"] * 11))
    yield _query("box", "box=0,0,1,1&objects=whole")
    yield _query("box", "box=0,0,1e-300,1", OK, BAD)
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
        body = b'{"image": "' + _image().encode() + b'", "boxes": ' + boxes + b"}"
        yield _json("box", f"JSON, {name}", body)


def _numbers() -> Iterator[BadRequest]:
    for text in ("0", "-1", "101", "1000000000", "9" * 5000, "1.5", "NaN", "true", "", "1e3", "0x10", "1 or 1=1"):
        yield _query("number", f"top_k={quote(text)}")
    yield _query("number", "top_k=5&top_k=6")
    yield _query("number", f"top_k={quote('٥')}", OK, BAD)
    for text in ("min_score=nan", "min_score=-inf", "min_score=1e400", "objects=0", "objects=11", "objects=-1"):
        yield _query("number", text)
    for text in ("objects=1.0", f"objects={quote('²')}", f"objects={'9' * 5000}", "objects=", "sort=price_asc;--"):
        yield _query("number", text)
    for text in ("price_min=-1", "price_min=NaN", "price_max=Infinity", "price_min=1e999999999", "price_max=-0.01"):
        yield _query("number", f"{text}&currency=EUR")
    yield _query("number", "price_min=9&price_max=1&currency=EUR")
    yield _query("number", "price_min=1")
    yield _query("number", "price_min=1&currency=XXX", OK, BAD)
    yield _query("number", f"price_min={'9' * 400}&currency=EUR")
    yield _query("number", f"price_min=0.{'0' * 4000}1&currency=EUR", OK, BAD)
    yield _json("number", "JSON, top_k of 5,000 digits", b'{"token": "a", "top_k": ' + b"9" * 5000 + b"}")
    yield _json("number", "JSON, top_k as null", {"image": _image(), "top_k": None})
    yield _json("number", "JSON, top_k as list", {"image": _image(), "top_k": [5]})


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


def _filters() -> Iterator[BadRequest]:
    for text in INJECTIONS:
        long_or_nul = len(text.encode()) > 512 or "\0" in text
        answers = (BAD,) if long_or_nul else (OK,)
        yield _query("filter", f"category={quote(text)}", *answers)
        yield _query("filter", f"attr.colour={quote(text)}", *answers)
    for name in ('a"] == 1 or data["x', "a]", "a'", "a/b", "~a", "{a}", "a\nb", "a\\", "", "\0", "a" * 600):
        yield _query("filter", f"attr.{quote(name, safe='')}=1")
    yield _query("filter", "&".join(f"category=c{i}" for i in range(101)))
    yield _query("filter", "&".join(f"attr.a{i}=1" for i in range(101)))
    yield _query("filter", "&".join(f"attr.a=v{i}" for i in range(101)))
    yield _query("filter", "in_stock=maybe")
    yield _query("filter", "facets=" + quote("attr.a\nb"))
    yield _query("filter", "&".join(["facets=category"] * 11))
    yield _query("filter", "language=" + quote("../../etc/passwd"), OK, BAD)
    yield _query("filter", "language=" + "x" * 50)
    yield _query("filter", "currency=eur")
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
        body = b'{"image": "' + _image().encode() + b'", "attributes": {"a": ' + value + b"}}"
        yield _json("filter", f"JSON, {name}", body)


def _bodies() -> Iterator[BadRequest]:
    deep = 100_000
    for name, body in {
        "100,000 lists": b"[" * deep + b"]" * deep,
        "100,000 objects": b'{"a":' * deep + b"1" + b"}" * deep,
        "deep boxes": b'{"boxes": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        "cut off": b'{"image": "abc',
        "a list": b"[]",
        "a text": b'"image"',
        "a number": b"7",
        "null": b"null",
        "a number of 5,000 digits": b"9" * 5000,
        "no UTF-8": b'{"language": "\xff\xfe"}',
        "zeros": bytes(1000),
        "comment": b'{"top_k": 5 /* five */}',
        "a name that is unknown": b'{"__proto__": {}}',
        "a name of half a character": b'{"\\ud800": 1}',
        "a name of 100 kB": b'{"' + b"a" * 100_000 + b'": 1}',
        "an attribute of half a character": b'{"attributes": {"\\ud800": [null]}}',
        "half a character as language": b'{"language": "\\ud800\\udc"}',
        "half a character as token": b'{"token": "\\ud800"}',
        "image as list": b'{"image": [1]}',
        "image that is no base64": b'{"image": "%%%"}',
        "image of one character": b'{"image": "a"}',
        "image as address": b'{"image": "http://127.0.0.1/a.jpg"}',
        "url": b'{"url": "http://169.254.169.254/latest/meta-data"}',
    }.items():
        yield _json("JSON", name, body)
    yield _json("JSON", "no byte", b"", NO_BODY)
    yield _json("JSON", "image as null", {"image": None}, NO_BODY)
    yield _json("JSON", "image without a byte", {"image": ""}, NO_BODY)
    yield _json("JSON", "data URL without data", {"image": "data:image/png;base64,"}, NO_BODY)
    yield _json("JSON", "10,000 names", {f"a{i}": i for i in range(10_000)})
    yield _json("JSON", "30 MB", b'{"image": "' + b"A" * 30_000_000 + b'"}', (413, "photo_too_large"))
    for name, searches in {
        "none": [],
        "17": [{}] * 17,
        "no list": "x",
        "of lists": {"searches": 7},
    }.items():
        yield _json("JSON", f"searches, {name}", {"searches": searches}, path=BATCH)
    yield _json("JSON", "searches, of nothing", {"searches": [None, 7, "x"]}, OK, path=BATCH)
    packed = {**RAW, "content-encoding": "gzip"}
    yield BadRequest("body", "packed", ((422, "not_an_image"),), body=gzip.compress(good_photo()), headers=packed)
    yield BadRequest("body", "21 MiB", ((413, "photo_too_large"),), body=bytes(21 * 2**20), headers=RAW)
    yield BadRequest("body", "nothing", (NO_BODY,))
    for kind in (
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "application/json5",
        "\x7f",
        ",",
    ):
        # A control character in a header is refused below HTTP already, without a code.
        answers = ((415, "unsupported_type"), (400, "")) if kind == "\x7f" else ((415, "unsupported_type"),)
        yield BadRequest("body", f"as {kind!r}", answers, body=good_photo(), headers={"content-type": kind})


def _part(name: str, data: bytes, filename: str = "a.jpg") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    return b"--b\r\n" + head.encode() + data + b"\r\n"


def _forms() -> Iterator[BadRequest]:
    photo = good_photo()
    form = {"content-type": "multipart/form-data; boundary=b"}
    whole = _part("photo", photo) + b"--b--\r\n"
    for name, body in {
        "1,000 parts": b"".join(_part(f"f{i}", b"x") for i in range(1000)) + b"--b--\r\n",
        "1,000 photos": _part("photo", b"x") * 1000 + b"--b--\r\n",
        "two photos": _part("photo", photo) + whole,
        "another field": _part("photo", photo) + _part("top_k", b"5") + b"--b--\r\n",
        "header of 100 kB": b"--b\r\nX: " + b"a" * 100_000 + b"\r\n\r\nx\r\n--b--\r\n",
        "1,000 headers": b"--b\r\n" + b"X: a\r\n" * 1000 + b"\r\nx\r\n--b--\r\n",
        "no header": b"--b\r\n\r\nx\r\n--b--\r\n",
        "line ends of Unix": whole.replace(b"\r\n", b"\n"),
        "noise": bytes(range(256)) * 4,
    }.items():
        yield BadRequest("form", name, (BAD,), body=body, headers=form)
    yield BadRequest("form", "no part", (NO_BODY, BAD), body=b"--b--\r\n", headers=form)
    yield BadRequest("form", "photo without a byte", (NO_BODY,), body=_part("photo", b"") + b"--b--\r\n", headers=form)
    yield BadRequest("form", "no end", (OK, BAD, NO_BODY), body=_part("photo", photo), headers=form)
    for filename in ("../../etc/passwd", "a\\..\\b", "%00.jpg", "x" * 5000):
        body = _part("photo", photo, filename) + b"--b--\r\n"
        yield BadRequest("form", f"file named {filename[:20]}", (OK, BAD), body=body, headers=form)
    for boundary in ("", "; boundary=", "; boundary=" + "b" * 10_000, '; boundary="', "; boundary=b; boundary=c"):
        headers = {"content-type": f"multipart/form-data{boundary}"}
        yield BadRequest("form", f"boundary {boundary[:20]!r}", (BAD, NO_BODY, OK), body=whole, headers=headers)


def _ids() -> Iterator[BadRequest]:
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
        yield _json("id", f"token {token[:9]!r}", {"token": token}, BAD, EXPIRED)
        yield _json("id", f"cursor {token[:9]!r}", {"cursor": token}, BAD, EXPIRED)
    yield _json("id", "cursor of 2,000 characters", {"cursor": "x" * 2000})


def _headers() -> Iterator[BadRequest]:
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


REFUSED_URLS = (
    "http://127.0.0.1/a.jpg",
    "http://127.1/a.jpg",
    "http://0x7f000001/a.jpg",
    "http://2130706433/a.jpg",
    "http://0177.0.0.1/a.jpg",
    "http://0.0.0.0/a.jpg",
    "http://localhost/a.jpg",
    "http://[::1]/a.jpg",
    "http://[::ffff:127.0.0.1]/a.jpg",
    "http://[64:ff9b::7f00:1]/a.jpg",
    "http://[2002:7f00:1::]/a.jpg",
    "http://10.0.0.1/a.jpg",
    "http://172.16.0.1/a.jpg",
    "http://192.168.0.1/a.jpg",
    "http://100.64.0.1/a.jpg",
    "http://169.254.169.254/latest/meta-data/",
    "http://192.0.0.192/opc/v2/instance/",
    "http://168.63.129.16/metadata",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fe80::1%25eth0]/a.jpg",
    "http://224.0.0.1/a.jpg",
    "http://255.255.255.255/a.jpg",
    "http://93.184.216.34:22/",
    "http://93.184.216.34:6379/",
    "http://user:pass@93.184.216.34/a.jpg",
    "http://127.0.0.1#@93.184.216.34/",
    "http://[::1",
    "http://a b/",
    "http:///a.jpg",
    "http://" + "a" * 300 + ".example/",
)
UNREADABLE_URLS = (
    "file:///etc/passwd",
    "ftp://127.0.0.1/a.jpg",
    "gopher://127.0.0.1:6379/_INFO",
    "data:image/png;base64,AAAA",
    "javascript:alert(1)",
    "//127.0.0.1/a.jpg",
    "/etc/passwd",
    "http:" + "a" * 5000,
    "",
)


def _urls() -> Iterator[BadRequest]:
    refused = ((422, "url_refused"), (502, "fetch_failed"))
    for url in REFUSED_URLS:
        body = json.dumps({"images": [{"url": url}]}).encode()
        yield BadRequest("URL", url[:60], refused, "PUT", f"{PRODUCTS}/bad-url", body, JSON)
    for url in UNREADABLE_URLS:
        body = json.dumps({"images": [{"url": url}]}).encode()
        yield BadRequest("URL", url[:60], (BAD,), "PUT", f"{PRODUCTS}/bad-url", body, JSON)


def _products() -> Iterator[BadRequest]:
    image = {"image": _image()}
    for name, body in {
        "no image": {"images": []},
        "21 images": {"images": [image] * 21},
        "another id": {"images": [image], "product_id": "y"},
        "price of 40 digits": {"images": [image], "price": {"amount": "9" * 40, "currency": "EUR"}},
        "price that is none": {"images": [image], "price": {"amount": "NaN", "currency": "EUR"}},
        "currency that is none": {"images": [image], "price": {"amount": "1", "currency": "€"}},
        "200 attributes": {"images": [image], "attributes": {f"a{i}": 1 for i in range(200)}},
        "title without a language": {"images": [image], "title": {"../x": "a"}},
        "time that is none": {"images": [image], "at": "yesterday"},
        "half a character": {"images": [image], "parent_id": "\ud800"},
        "an id of half a character": {"images": [{**image, "image_id": "\ud800"}]},
        "a name of half a character": {"images": [image], "\ud800": 1},
    }.items():
        yield BadRequest("product", name, (BAD,), "PUT", f"{PRODUCTS}/x", json.dumps(body).encode(), JSON)
    for name, items in {"none": [], "101": [{}] * 101, "no list": 7}.items():
        yield _json("product", f"batch, {name}", {"items": items}, path=f"{PRODUCTS}:batch")
    odd = [None, 7, {"event": "explode"}, {"product_id": "\ud800"}, {"event": "delete", "product_id": ""}]
    yield _json("product", "batch of nothing", {"items": odd}, OK, path=f"{PRODUCTS}:batch")


MAKERS = (_boxes, _numbers, _filters, _bodies, _forms, _ids, _headers, _urls, _products)
