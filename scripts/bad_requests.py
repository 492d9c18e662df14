"""A request that no app would send, and the answers that it should have."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

from scripts.bad_photos import encoded, picture

SEARCH, BATCH, PRODUCTS = "/v1/search", "/v1/search:batch", "/v1/products"
JSON = {"content-type": "application/json"}
RAW = {"content-type": "application/octet-stream"}
OK = (200, "ok")
BAD = (422, "bad_parameter")
NO_BODY, NO_PRODUCT, NO_IMAGE = (400, "empty_body"), (404, "unknown_product"), (404, "unknown_image")
NO_PATH = (404, "not_found")
EXPIRED = (410, "photo_expired")
REFUSED = (422, "url_refused")
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


def good_photo() -> bytes:
    """Return a photo that nothing is wrong with."""
    return encoded(picture(), "JPEG")


def query(kind: str, text: str, *answers: Answer) -> BadRequest:
    return BadRequest(kind, text[:60], answers or (BAD,), path=f"{SEARCH}?{text}", body=good_photo(), headers=RAW)


def json_body(kind: str, name: str, body: object, *answers: Answer, path: str = SEARCH) -> BadRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return BadRequest(kind, name, answers or (BAD,), path=path, body=data, headers=JSON)


def good_image() -> str:
    return base64.b64encode(good_photo()).decode()
