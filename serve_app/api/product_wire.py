"""Shapes of products as shops send and read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from serve_app.api.wire import (
    FacetsWire,
    IndexWire,
    MoneyWire,
    ProductWire,
    Wire,
    facets_wire,
    index_wire,
    product_wire,
    time_text,
)
from serve_app.changes import NO_LANGUAGE
from serve_app.domain import StoredView, View
from serve_app.market import Market
from serve_app.money import price_amount
from serve_app.pipeline import Answer, Stored
from serve_app.rules import NO_RULES, Rules


class StoredImageWire(Wire):
    image_id: str
    url: str | None = Field(description="where the image was fetched from; null where it was sent, or read from a file")


class StoredProductWire(Wire):
    product_id: str
    parent_id: str | None = Field(description="what colour variants of one style share")
    images: list[StoredImageWire]
    title: dict[str, str] = Field(
        description=f"by language; `{NO_LANGUAGE}` where the catalogue does not tell which", examples=[{"en": "Chair"}]
    )
    category: str | None = Field(description="the whole path", examples=["Living/Chairs"])
    price: MoneyWire | None = Field(description="what the shop charges")
    in_stock: bool
    attributes: dict[str, Any]


class ProductAnswer(Wire):
    request_id: str
    index: IndexWire
    updated_at: str = Field(description="RFC 3339; time of the newest change that the index has of the product")
    product: StoredProductWire


class SimilarAnswer(Wire):
    request_id: str
    product_id: str
    model: str = Field(description="fingerprint of the embedder")
    index: IndexWire
    products: list[ProductWire] = Field(description="best first, without the product itself")
    facets: FacetsWire | None = Field(None, description="counts over the list, where `facets` asks for them")
    next: str | None = Field(None, description="`cursor` of the next page; null where there is none")
    degraded: list[str] = Field(description="what the answer lacks, by the codes of a search")
    timings_ms: dict[str, float]


def product_answer(stored: Stored, request_id: str) -> ProductAnswer:
    """Put a product that the index has into its wire shape."""
    return ProductAnswer(
        request_id=request_id,
        index=index_wire(stored.collection, stored.watermark_ms),
        updated_at=time_text(max(view.updated_at for view in stored.rows)),
        product=_stored_product(stored.rows),
    )


def similar_answer(
    answer: Answer,
    product_id: str,
    request_id: str,
    market: Market,
    names: Sequence[str] = (),
    rules: Rules = NO_RULES,
) -> SimilarAnswer:
    """Put a page of similar products into its wire shape, as a shopper of a market sees it."""
    (entry,) = answer.lists
    return SimilarAnswer(
        request_id=request_id,
        product_id=product_id,
        model=answer.model,
        index=index_wire(answer.collection, answer.watermark_ms),
        products=[product_wire(hit, market, rules) for hit in entry.products or ()],
        facets=facets_wire(entry, names, market),
        next=entry.next,
        degraded=list(answer.degraded),
        timings_ms={name: round(value, 2) for name, value in answer.timings_ms.items()},
    )


def _stored_product(rows: Sequence[StoredView]) -> StoredProductWire:
    """Return what the newest row says of the product: a catalogue may say other things of each of its images."""
    newest = max(rows, key=lambda view: (view.updated_at, view.hit.view is View.WHOLE)).hit
    images = {view.hit.image_id: view.hit.data.get("image_url") for view in rows}
    amount = price_amount(newest.price, newest.currency)
    return StoredProductWire(
        product_id=newest.product_id,
        parent_id=newest.parent_id or None,
        images=[StoredImageWire(image_id=image_id, url=url) for image_id, url in sorted(images.items())],
        title=_titles(newest.data),
        category=newest.category or None,
        price=None if amount is None else MoneyWire(amount=amount, currency=newest.currency),
        in_stock=newest.in_stock,
        attributes=dict(newest.data.get("attributes") or {}),
    )


def _titles(data: Any) -> dict[str, str]:
    titles: dict[str, str] = dict(data.get("titles") or {})
    title = data.get("title")
    # A plain title that is the first of those by language was made of them.
    return titles if not title or title in titles.values() else {NO_LANGUAGE: title, **titles}
