"""Shapes of the HTTP answers; every field of version 1 is here, null until it is built."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from serve_app.calibration import SCORE_DIGITS, Chances
from serve_app.coverage import PARTIAL_INDEX
from serve_app.domain import Hit
from serve_app.facets import Count, facets
from serve_app.languages import DEFAULT, Reader
from serve_app.market import Market
from serve_app.pipeline import MAX_RANKED, NO_DETECTOR, NO_OBJECT, NO_TOKEN, Answer, ProductList
from serve_app.rules import NO_RULES, Rules

DEGRADED = {
    NO_OBJECT: "nothing was found, so the whole photo was searched",
    NO_DETECTOR: "the detector is away, so the whole photo was searched",
    PARTIAL_INDEX: "a part of the index did not answer",
    NO_TOKEN: "the photo could not be kept for further searches",
}
"""All codes that `degraded` may hold."""


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PhotoWire(Wire):
    token: str | None = Field(None, description="for further searches with this photo, without sending it again")
    width: int = Field(description="pixels, after EXIF's orientation was applied")
    height: int


class IndexWire(Wire):
    collection: str | None
    watermark: str | None = Field(None, description="RFC 3339; every write acknowledged before it was searched")


class MoneyWire(Wire):
    amount: str = Field(examples=["19.90"])
    currency: str = Field(examples=["EUR"])


class PriceWire(MoneyWire):
    formatted: str | None = Field(None, description="as readers of the language write it", examples=["19,90 €"])
    converted: bool = Field(False, description="whether this is not what the shop charges, but about the same")
    rate_date: str | None = Field(None, description="day of the exchange rate", examples=["2026-10-30"])
    rate_stale: bool = Field(False, description="whether that is longer ago than the shop finds right")
    original: MoneyWire | None = Field(None, description="what the shop charges, where the price is converted")


class ProductWire(Wire):
    product_id: str
    image_id: str
    image_url: str | None
    view: str = Field(description="which view of the catalogue image was found: `whole` or `object`")
    score: float = Field(description="cosine, -1 to 1; comparable inside one object's list only")
    match: float | None = Field(
        None,
        description="chance that this is the right product, 0 to 1; null where the model has no calibration curve, and "
        "among products like another one",
    )
    title: str | None
    category: str | None
    in_stock: bool
    price: PriceWire | None
    rule: str | None = Field(None, description="the shop's rule that moved the product among those about as similar")


class CountWire(Wire):
    value: str | bool | int | float = Field(description="as a filter takes it")
    shown: str | None = Field(None, description="a category's path in the reader's language")
    count: int


class PriceCountWire(Wire):
    price_min: str = Field(examples=["10.00"])
    price_max: str = Field(examples=["19.99"])
    count: int


class PriceFacetWire(Wire):
    currency: str | None = Field(description="of the prices, which is the one asked for, else the most frequent one")
    ranges: list[PriceCountWire] = Field(description="by the prices that are shown, both ends included")


class FacetsWire(Wire):
    products: int = Field(description="that were counted, 1,000 at most")
    whole: bool = Field(description="whether these are all that the search lets through")
    category: list[CountWire] | None = Field(None, description="each path and those above it, most frequent first")
    price: PriceFacetWire | None = None
    attributes: dict[str, list[CountWire]] = Field({}, description="by name, the most frequent values first")


class ObjectWire(Wire):
    object_id: str
    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1 in 0…1 of the oriented photo")
    label: str | None
    confidence: float | None
    main: bool
    source: str = Field(description="`detector`, `shopper`, `device` or `whole`")
    products: list[ProductWire] | None = Field(description="best first; null where the object was not searched")
    facets: FacetsWire | None = Field(None, description="counts over the list, where `facets` asks for them")
    next: str | None = Field(None, description="`cursor` of the next page; null where there is none")


class SearchAnswer(Wire):
    request_id: str
    photo: PhotoWire
    model: str = Field(description="fingerprint of the embedder")
    index: IndexWire
    objects: list[ObjectWire]
    degraded: list[str] = Field(
        description="what the answer lacks: " + "; ".join(f"`{code}`, {text}" for code, text in DEGRADED.items())
    )
    timings_ms: dict[str, float]


PLAIN = Market(Reader(DEFAULT))
"""Who says nothing of language or currency."""


def search_answer(
    answer: Answer, request_id: str, market: Market = PLAIN, names: Sequence[str] = (), rules: Rules = NO_RULES
) -> SearchAnswer:
    """Put a search's outcome into its wire shape, as a shopper of a market sees it, counted by `names`."""
    return SearchAnswer(
        request_id=request_id,
        photo=PhotoWire(token=answer.token, width=answer.width, height=answer.height),
        model=answer.model,
        index=index_wire(answer.collection, answer.watermark_ms),
        objects=[_object(i, entry, market, names, rules) for i, entry in enumerate(answer.lists)],
        degraded=list(answer.degraded),
        timings_ms={name: round(value, 2) for name, value in answer.timings_ms.items()},
    )


def index_wire(collection: str | None, watermark_ms: int) -> IndexWire:
    return IndexWire(collection=collection, watermark=time_text(watermark_ms))


def time_text(milliseconds: int) -> str:
    """Return a time since 1970 UTC as RFC 3339 writes it."""
    moment = datetime.fromtimestamp(milliseconds / 1e3, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def facets_wire(entry: ProductList, names: Sequence[str], market: Market) -> FacetsWire | None:
    """Count a list's products by names; None where nothing is to be counted, or the list was counted before."""
    if not names or entry.fixed is None:
        return None
    found = facets(entry.fixed.hits, names, market, whole=entry.fixed.whole and len(entry.fixed.hits) < MAX_RANKED)
    return FacetsWire(
        products=found.products,
        whole=found.whole,
        category=None if found.category is None else _counts(found.category),
        price=None
        if found.price is None
        else PriceFacetWire(
            currency=found.currency,
            ranges=[PriceCountWire(price_min=each.low, price_max=each.high, count=each.count) for each in found.price],
        ),
        attributes={name: _counts(counts) for name, counts in found.attributes},
    )


def _counts(counts: Sequence[Count]) -> list[CountWire]:
    return [CountWire(value=each.value, shown=each.shown, count=each.count) for each in counts]


def _object(position: int, entry: ProductList, market: Market, names: Sequence[str], rules: Rules) -> ObjectWire:
    detection = entry.object.detection
    return ObjectWire(
        object_id=entry.object_id or f"o{position}",
        box=detection.box.as_tuple(),
        label=detection.label,
        confidence=detection.confidence,
        main=entry.object.main,
        source=entry.object.source,
        products=None if entry.products is None else product_wires(entry.products, entry.chances, market, rules),
        facets=facets_wire(entry, names, market),
        next=entry.next,
    )


def product_wires(hits: Sequence[Hit], chances: Chances | None, market: Market, rules: Rules) -> list[ProductWire]:
    """Put products of one list into their wire shape, each with its chance where that can be told."""
    matches = [None] * len(hits) if chances is None else chances.matches(hits)
    return [product_wire(hit, market, rules, match) for hit, match in zip(hits, matches, strict=True)]


def product_wire(hit: Hit, market: Market, rules: Rules = NO_RULES, match: float | None = None) -> ProductWire:
    """Put one product into its wire shape, as a shopper of a market sees it."""
    return ProductWire(
        product_id=hit.product_id,
        image_id=hit.image_id,
        image_url=hit.data.get("image_url"),
        view=hit.view,
        score=round(hit.score, SCORE_DIGITS),
        match=match,
        title=market.title(hit.data),
        category=market.category(hit.category, hit.data),
        in_stock=hit.in_stock,
        price=_price(hit, market),
        rule=_rule(hit, rules),
    )


def _rule(hit: Hit, rules: Rules) -> str | None:
    found = rules.rule(hit)
    return None if found is None else found.name


def _price(hit: Hit, market: Market) -> PriceWire | None:
    price = market.price(hit.price, hit.currency)
    if price is None:
        return None
    return PriceWire(
        amount=price.amount,
        currency=price.currency,
        formatted=price.formatted,
        converted=price.converted,
        rate_date=None if price.rate_date is None else price.rate_date.isoformat(),
        rate_stale=price.stale,
        original=None if price.original is None else MoneyWire(amount=price.original[0], currency=price.original[1]),
    )
