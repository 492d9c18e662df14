# Copyright 2026 The Shoplens authors
# SPDX-License-Identifier: Apache-2.0
#
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0, or in
# LICENSES/Apache-2.0.txt of this project.
#
# Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on
# an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the
# specific language governing permissions and limitations under the License.
"""Requests to a Shoplens service, before they are sent."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict
from urllib.parse import quote

from serve_app.client.shapes import Box, Feedback, ProductToDelete, ProductToStore, Scalar


class Narrowed(TypedDict, total=False):
    """What a search may be asked for beside its photo; the service's description says what each does."""

    top_k: int
    category: str | Sequence[str]
    price_min: Decimal | str | int
    price_max: Decimal | str | int
    currency: str
    language: str
    in_stock: bool
    attributes: Mapping[str, Scalar | Sequence[Scalar]]
    group_by: Literal["product", "parent"]
    sort: Literal["similarity", "price_asc", "price_desc"]
    facets: Sequence[str]
    min_score: float
    consistency: Literal["bounded", "strong"]


class Searched(Narrowed, total=False):
    """What of the photo is searched, too."""

    token: str
    url: str
    objects: int | Literal["main", "whole", "all"]
    boxes: Sequence[Box]
    box_source: Literal["shopper", "device"]
    min_match: float


class Shown(TypedDict, total=False):
    """How a further page is shown."""

    top_k: int
    language: str
    currency: str


Params = list[tuple[str, str | int | float | bool | None]]
"""As httpx names them; here all are text."""


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    params: Params = field(default_factory=list)
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def _params(given: Mapping[str, Any]) -> Params:
    """Return parameters as a query string has them."""
    params: Params = []
    for name, value in given.items():
        if name == "boxes":
            params += [("box", ",".join(repr(float(each)) for each in box)) for box in value]
        elif name == "attributes":
            params += [(f"attr.{key}", _text(each)) for key, values in value.items() for each in _each(values)]
        else:
            params += [(name, _text(each)) for each in _each(value)]
    return params


def _each(value: Any) -> Sequence[Any]:
    return [value] if isinstance(value, str) or not isinstance(value, Sequence) else value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def search(photo: bytes | Sequence[bytes] | None, given: Mapping[str, Any]) -> Call:
    named: dict[str, Any] = {name: value for name, value in given.items() if name in ("token", "url")}
    if (photo is not None) + len(named) != 1:
        raise ValueError("a search takes a photo, or several, the token of one that was sent before, or the url of one")
    if isinstance(photo, bytes):
        return Call("POST", "/v1/search", _params(given), photo, {"Content-Type": "application/octet-stream"})
    if photo is not None:
        return _search_in_json({"images": [base64.b64encode(each).decode() for each in photo]}, given)
    if "url" in named:
        # In the body, because queries are written into logs on the way, and a URL may be signed.
        return _search_in_json(named, {name: value for name, value in given.items() if name != "url"})
    return Call("POST", "/v1/search", _params(given))


def _search_in_json(sent: Mapping[str, Any], given: Mapping[str, Any]) -> Call:
    return Call("POST", "/v1/search", _params(given), json.dumps(sent).encode(), {"Content-Type": "application/json"})


def page(cursor: str, given: Mapping[str, Any]) -> Call:
    return Call("POST", "/v1/search", _params({"cursor": cursor, **given}))


def product(product_id: str) -> Call:
    return Call("GET", _path(product_id))


def similar(product_id: str, given: Mapping[str, Any]) -> Call:
    return Call("GET", f"{_path(product_id)}/similar", _params(given))


def put(product: ProductToStore, key: str | None) -> Call:
    body = product.model_dump_json(exclude_unset=True).encode()
    return Call("PUT", _path(product.product_id), [], body, _once(key))


def delete(product_id: str, at: datetime | None, key: str | None) -> Call:
    return Call("DELETE", _path(product_id), [] if at is None else [("at", at.isoformat())], None, _once(key))


def _path(product_id: str) -> str:
    return f"/v1/products/{quote(product_id, safe='')}"


def batch(changes: Sequence[ProductToStore | ProductToDelete], key: str | None) -> Call:
    items = []
    for change in changes:
        event = "delete" if isinstance(change, ProductToDelete) else "upsert"
        body = change.model_dump_json(exclude_unset=True)
        items.append(f'{{"event":"{event}",{body[1:]}')
    return Call("POST", "/v1/products:batch", [], f'{{"items":[{",".join(items)}]}}'.encode(), _once(key))


def feedback(given: Feedback) -> Call:
    body = given.model_dump_json(exclude_unset=True).encode()
    return Call("POST", "/v1/feedback", [], body, {"Content-Type": "application/json"})


def _once(key: str | None) -> dict[str, str]:
    """Return headers by which a write that is sent again takes effect once."""
    return {"Content-Type": "application/json", "Idempotency-Key": key or uuid.uuid4().hex}
