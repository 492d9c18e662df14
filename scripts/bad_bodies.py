"""Bodies of JSON, forms and products that no app would send."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

from scripts.bad_requests import (
    BAD,
    BATCH,
    JSON,
    NO_BODY,
    OK,
    PRODUCTS,
    RAW,
    BadRequest,
    good_image,
    good_photo,
    json_body,
)


def bodies() -> Iterator[BadRequest]:
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
    }.items():
        yield json_body("JSON", name, body)
    yield json_body("JSON", "no byte", b"", NO_BODY)
    yield json_body("JSON", "image as null", {"image": None}, NO_BODY)
    yield json_body("JSON", "image without a byte", {"image": ""}, NO_BODY)
    yield json_body("JSON", "data URL without data", {"image": "data:image/png;base64,"}, NO_BODY)
    yield json_body("JSON", "10,000 names", {f"a{i}": i for i in range(10_000)})
    yield json_body("JSON", "30 MB", b'{"image": "' + b"A" * 30_000_000 + b'"}', (413, "photo_too_large"))
    good = good_image()
    for name, images in {
        "none": [],
        "one": [good],
        "six": [good] * 6,
        "10,000": ["a"] * 10_000,
        "no list": good,
        "by name": {"0": good, "1": good},
        "lists of them": [[good], [good]],
        "null among them": [good, None],
        "no base64 among them": [good, "%%%"],
        "addresses": ["http://127.0.0.1/a.jpg"] * 2,
    }.items():
        yield json_body("JSON", f"images, {name}", {"images": images})
    yield json_body("JSON", "images, two", {"images": [good] * 2}, OK)
    yield json_body("JSON", "images, one without a byte", {"images": [good, ""]}, NO_BODY)
    yield json_body("JSON", "images, one that is none", {"images": [good, "bm8gcGhvdG8="]}, (422, "not_an_image"))
    yield json_body("JSON", "images beside an image", {"images": [good] * 2, "image": good})
    yield json_body("JSON", "images, two and one box", {"images": [good] * 2, "boxes": [[0, 0, 1, 1]]})
    for name, searches in {
        "none": [],
        "17": [{}] * 17,
        "no list": "x",
        "of lists": {"searches": 7},
    }.items():
        yield json_body("JSON", f"searches, {name}", {"searches": searches}, path=BATCH)
    yield json_body("JSON", "searches, of nothing", {"searches": [None, 7, "x"]}, OK, path=BATCH)
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


def forms() -> Iterator[BadRequest]:
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


def products() -> Iterator[BadRequest]:
    image = {"image": good_image()}
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
        yield json_body("product", f"batch, {name}", {"items": items}, path=f"{PRODUCTS}:batch")
    odd = [None, 7, {"event": "explode"}, {"product_id": "\ud800"}, {"event": "delete", "product_id": ""}]
    yield json_body("product", "batch of nothing", {"items": odd}, OK, path=f"{PRODUCTS}:batch")


MAKERS = (bodies, forms, products)
