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
"""What a Shoplens service answers, and what it is sent of products."""

from __future__ import annotations

import base64
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in 0…1 of the upright photo."""
Scalar = str | bool | int | float


class Model(BaseModel):
    """Take what is known of an answer; a newer service may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Money(Model):
    amount: Decimal
    currency: str


class Price(Money):
    """What a shopper is shown; `original` is what the shop charges, where that is another currency."""

    formatted: str | None = None
    converted: bool = False
    rate_date: date | None = None
    rate_stale: bool = False
    original: Money | None = None


class Product(Model):
    product_id: str
    image_id: str
    image_url: str | None
    view: str
    score: float
    match: float | None
    """Chance that it is the right one, 0…1; None where the service can't tell."""
    title: str | None
    category: str | None
    in_stock: bool
    price: Price | None
    rule: str | None = None
    """Name of the shop's rule that moved it."""


class Count(Model):
    value: Scalar
    shown: str | None = None
    count: int


class PriceCount(Model):
    price_min: Decimal
    price_max: Decimal
    count: int


class PriceFacet(Model):
    currency: str | None
    ranges: list[PriceCount]


class Facets(Model):
    """How many products of a list are of each category, price or attribute's value."""

    products: int
    whole: bool
    category: list[Count] | None = None
    price: PriceFacet | None = None
    attributes: dict[str, list[Count]] = Field(default_factory=dict)


class Found(Model):
    """A thing in the photo, or the whole of it, with what is similar; without `products` where none was looked for."""

    object_id: str
    box: Box
    label: str | None
    confidence: float | None
    main: bool
    source: str
    products: list[Product] | None
    facets: Facets | None = None
    next: str | None
    """Cursor of the next page."""


class Photo(Model):
    token: str | None
    width: int
    height: int


class Index(Model):
    collection: str | None
    watermark: datetime | None


class Answer(Model):
    request_id: str
    photo: Photo
    model: str
    index: Index
    objects: list[Found]
    degraded: list[str]
    timings_ms: dict[str, float]


class Similar(Model):
    request_id: str
    product_id: str
    model: str
    index: Index
    products: list[Product]
    facets: Facets | None = None
    next: str | None
    degraded: list[str]
    timings_ms: dict[str, float]


class StoredImage(Model):
    image_id: str
    url: str | None


class StoredProduct(Model):
    product_id: str
    parent_id: str | None
    images: list[StoredImage]
    title: dict[str, str]
    category: str | None
    price: Money | None
    in_stock: bool
    attributes: dict[str, Any]


class ProductAnswer(Model):
    request_id: str
    index: Index
    updated_at: datetime
    product: StoredProduct


class Told(Model):
    """What went wrong; programs go by `code`, people by `detail`."""

    status: int
    code: str
    detail: str
    request_id: str = ""
    retry_after_ms: int | None = None


class Change(Model):
    """What became of a product: `stored`, `unchanged`, `stale` or `deleted`; None with a problem."""

    product_id: str | None
    status: str | None
    at: datetime | None
    problem: Told | None = None


class BatchAnswer(Model):
    request_id: str
    items: list[Change]


class Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageToStore(Sent):
    """An image by its address, or by its file, which is sent as base64."""

    image_id: str | None = None
    url: str | None = None
    image: bytes | None = None

    @field_serializer("image")
    def _as_base64(self, image: bytes | None) -> str | None:
        return None if image is None else base64.b64encode(image).decode()


class ProductToStore(Sent):
    """A product, as it is to be: what is left out, it does not have."""

    product_id: str
    images: list[ImageToStore]
    parent_id: str | None = None
    title: dict[str, str] = Field(default_factory=dict)
    category: str | None = None
    price: Money | None = None
    in_stock: bool = True
    attributes: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    at: datetime | None = None
    """When it came to be so; default: when the service is told."""


class ProductToDelete(Sent):
    product_id: str
    at: datetime | None = None


class Feedback(Sent):
    """What a shopper did with a list of an answer; `none_fits` names no product."""

    request_id: str
    """Of the answer."""
    event: Literal["click", "cart", "buy", "none_fits"]
    object_id: str | None = None
    """Whose list; left out for similar products."""
    product_id: str | None = None
    position: int | None = None
    """The product's place in that answer's list, counted from 1."""
    consent: bool = False
    """The shopper agrees that what was searched with is kept for some days."""


class FeedbackTaken(Model):
    request_id: str
    crop: bool
