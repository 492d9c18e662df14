"""Shapes of what /admin is told; no part of the API, and free to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from serve_app.api.wire import Wire, product_wire, product_wires
from serve_app.calibration import Chances
from serve_app.collection import IndexInfo
from serve_app.domain import Hit
from serve_app.market import Market
from serve_app.rules import Rules
from serve_app.side_by_side import Side
from serve_app.why import Place, Why


class KeyBody(Wire):
    key: str


def index_of(info: IndexInfo) -> dict[str, Any]:
    return asdict(info) | {"created": info.created.isoformat()}


def why_of(why: Why, market: Market, rules: Rules) -> dict[str, Any]:
    """Return why a product is where it is, as the page shows it."""
    rule = None if why.rule is None else {"name": why.rule.name, "action": str(why.rule.action)}
    return {
        "product": product_wire(why.product, market, rules).model_dump(exclude={"score", "view"}),
        "views": why.views,
        "rule": rule,
        "model": why.model,
        "collection": why.collection,
        "places": [_place(place, market, rules) for place in why.places],
    }


def side_of(side: Side, market: Market, rules: Rules) -> dict[str, Any]:
    """Return what one model found, as the page shows it."""
    lists = [
        {
            "object": entry.object.detection.label or str(entry.object.source),
            "main": entry.object.main,
            "products": _products(entry.products or (), entry.chances, market, rules),
        }
        for entry in side.lists
    ]
    return {"model": side.model, "collection": side.collection, "lists": lists}


def _place(place: Place, market: Market, rules: Rules) -> dict[str, Any]:
    detection = place.object.detection
    return {
        "object": detection.label or str(place.object.source),
        "box": detection.box.as_tuple(),
        "confidence": detection.confidence,
        "main": place.object.main,
        "reason": str(place.reason),
        "rank": place.rank,
        "score": round(place.score, 4),
        "view": str(place.best.view),
        "image_id": place.best.image_id,
        "instead": place.instead,
        "first": _products(place.first, place.chances, market, rules),
    }


def _products(hits: Sequence[Hit], chances: Chances | None, market: Market, rules: Rules) -> list[dict[str, Any]]:
    return [each.model_dump() for each in product_wires(hits, chances, market, rules)]
