"""Examples of the API's description; a test sends and reads them."""

from __future__ import annotations

from typing import Any

_SENT_BEFORE = "lT0kQvUl3WnqYk2aBrJx9w"
_CURSOR = "WyJsVDBrUXZVbDNXbnFZazJhQnJKeDl3IiwiYWJjIiwiZGVmIiwxMF0.c2lnbmF0dXJl"

REQUESTS: dict[str, dict[str, Any]] = {
    "photo": {"summary": "a photo", "value": {"image": "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q==", "top_k": 5}},
    "several photos": {
        "summary": "photos of one thing, searched together",
        "value": {"images": ["/9j/4AAQSkZJRgABAQAAAQABAAD/2Q==", "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q=="], "top_k": 5},
    },
    "url": {
        "summary": "a photo that the service fetches, from a host that its settings name",
        "value": {"url": "https://images.example.com/chair.jpg", "objects": "main"},
    },
    "moved box": {
        "summary": "a box that the shopper moved, in a photo that was sent before",
        "value": {"token": _SENT_BEFORE, "boxes": [[0.1, 0.2, 0.6, 0.9]]},
    },
    "boxes of a phone": {
        "summary": "what a phone found in its photo, all of it searched",
        "value": {
            "image": "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q==",
            "boxes": [[0.1, 0.2, 0.6, 0.9], [0.5, 0.5, 0.9, 0.9]],
            "box_source": "device",
            "objects": "all",
        },
    },
    "narrowed": {
        "summary": "shirts and tees in stock in red or blue up to 50 EUR, the cheapest of the similar ones first",
        "value": {
            "token": _SENT_BEFORE,
            "category": ["Men/Tops/Tees", "Men/Tops/Shirts"],
            "price_max": "50.00",
            "currency": "EUR",
            "in_stock": True,
            "attributes": {"colour": ["red", "blue"]},
            "group_by": "parent",
            "sort": "price_asc",
        },
    },
    "shown to a shopper": {
        "summary": "titles in German, prices in Swiss francs",
        "value": {"token": _SENT_BEFORE, "language": "de-CH", "currency": "CHF"},
    },
    "likely": {
        "summary": "products that are the right one with a chance of one half or more, where the model can tell",
        "value": {"token": _SENT_BEFORE, "min_match": 0.5},
    },
    "counted": {
        "summary": "the products of each list counted by category, price and colour",
        "value": {"token": _SENT_BEFORE, "facets": ["category", "price", "attr.colour"], "currency": "USD"},
    },
    "next page": {"summary": "the next page of a list", "value": {"cursor": _CURSOR, "top_k": 20}},
}

ANSWER: dict[str, Any] = {
    "request_id": "e4b82cd9-024e-4760-97ac-18b94e516448",
    "photo": {"token": _SENT_BEFORE, "width": 3024, "height": 4032},
    "model": "68b4adf81e49",
    "index": {"collection": "products_68b4adf81e49_20261123T134529Z", "watermark": "2026-11-23T13:48:02.113Z"},
    "objects": [
        {
            "object_id": "o0",
            "box": [0.12, 0.2, 0.61, 0.93],
            "label": "chair",
            "confidence": 0.83,
            "main": True,
            "source": "detector",
            "products": [
                {
                    "product_id": "208",
                    "image_id": "53319a479c5cfda653e5f1a4c86eec53",
                    "image_url": None,
                    "view": "object",
                    "score": 0.71,
                    "match": 0.83,
                    "title": "Oak chair",
                    "category": "Living/Chairs",
                    "in_stock": True,
                    "price": {
                        "amount": "22.49",
                        "currency": "USD",
                        "formatted": "$22.49",
                        "converted": True,
                        "rate_date": "2026-11-23",
                        "rate_stale": False,
                        "original": {"amount": "19.90", "currency": "EUR"},
                    },
                    "rule": "autumn",
                }
            ],
            "facets": {
                "products": 214,
                "whole": True,
                "category": [
                    {"value": "Living", "shown": "Living", "count": 214},
                    {"value": "Living/Chairs", "shown": "Living/Chairs", "count": 131},
                ],
                "price": {
                    "currency": "USD",
                    "ranges": [
                        {"price_min": "12.00", "price_max": "49.99", "count": 120},
                        {"price_min": "50.00", "price_max": "249.00", "count": 94},
                    ],
                },
                "attributes": {"colour": [{"value": "oak", "shown": None, "count": 80}]},
            },
            "next": _CURSOR,
        }
    ],
    "degraded": [],
    "timings_ms": {"decode": 3.1, "detect": 21.0, "embed": 14.2, "search": 2.4, "total": 40.7},
}

SEARCHES: dict[str, dict[str, Any]] = {
    "photos": {
        "summary": "a photo, and another one that was sent before",
        "value": {"searches": [{"image": "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q=="}, {"token": _SENT_BEFORE, "top_k": 5}]},
    }
}
"""Bodies of `POST /v1/search:batch`."""

SEARCHED: dict[str, Any] = {
    "request_id": "e4b82cd9-024e-4760-97ac-18b94e516448",
    "searches": [
        {"answer": ANSWER, "problem": None},
        {
            "answer": None,
            "problem": {
                "type": "urn:shoplens:problem:photo_expired",
                "title": "Gone",
                "status": 410,
                "detail": "this photo is no longer here; send it again",
                "code": "photo_expired",
                "request_id": "e4b82cd9-024e-4760-97ac-18b94e516448",
                "retry_after_ms": None,
            },
        },
    ],
}

PRODUCT: dict[str, Any] = {
    "request_id": "0b6d7c3e-5a53-4f0e-9a55-7f0f1c0a4c11",
    "index": {"collection": "products_68b4adf81e49_20261123T134529Z", "watermark": "2026-11-23T13:48:02.113Z"},
    "updated_at": "2026-11-23T13:47:55.020Z",
    "product": {
        "product_id": "208",
        "parent_id": "oak-chairs",
        "images": [
            {"image_id": "53319a479c5cfda653e5f1a4c86eec53", "url": "https://images.example.com/208-front.jpg"},
            {"image_id": "front-sent", "url": None},
        ],
        "title": {"en": "Oak chair", "de": "Eichenstuhl"},
        "category": "Living/Chairs",
        "price": {"amount": "19.90", "currency": "EUR"},
        "in_stock": True,
        "attributes": {"colour": "oak", "legs": 4},
    },
}

SIMILAR: dict[str, Any] = {
    "request_id": "5be3e8a1-30a2-4f5b-8f0c-07c7d28b1e64",
    "product_id": "207",
    "model": "68b4adf81e49",
    "index": {"collection": "products_68b4adf81e49_20261123T134529Z", "watermark": "2026-11-23T13:48:02.113Z"},
    "products": [{**ANSWER["objects"][0]["products"][0], "match": None}],
    "facets": None,
    "next": _CURSOR,
    "degraded": [],
    "timings_ms": {"search": 4.1, "total": 4.1},
}

_CHAIR: dict[str, Any] = {
    "images": [{"url": "https://images.example.com/208-front.jpg"}, {"url": "https://images.example.com/208-side.jpg"}],
    "parent_id": "oak-chairs",
    "title": {"en": "Oak chair", "de": "Eichenstuhl"},
    "category": "Living/Chairs",
    "price": {"amount": "19.90", "currency": "EUR"},
    "in_stock": True,
    "attributes": {"colour": "oak", "legs": 4},
}

PRODUCTS: dict[str, dict[str, Any]] = {
    "images by address": {"summary": "a product whose images are fetched", "value": _CHAIR},
    "images sent": {
        "summary": "a product whose image comes with it, changed at a time of the shop's own",
        "value": {
            "images": [{"image_id": "front-sent", "image": "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q=="}],
            "title": {"und": "Philips 208"},
            "at": "2026-11-23T13:47:55Z",
        },
    },
}
"""Bodies of `PUT /v1/products/{product_id}`."""

BATCHES: dict[str, dict[str, Any]] = {
    "changes": {
        "summary": "one product put, another one removed",
        "value": {
            "items": [
                {"event": "upsert", "product_id": "208", **_CHAIR},
                {"event": "delete", "product_id": "207", "at": "2026-11-23T13:47:55Z"},
            ]
        },
    }
}

CHANGED: dict[str, Any] = {
    "product_id": "208",
    "status": "stored",
    "at": "2026-11-23T13:47:55.020Z",
    "request_id": "5be3e8a1-30a2-4f5b-8f0c-07c7d28b1e64",
}

BATCH: dict[str, Any] = {
    "request_id": "5be3e8a1-30a2-4f5b-8f0c-07c7d28b1e64",
    "items": [
        {"product_id": "208", "status": "stored", "at": "2026-11-23T13:47:55.020Z", "problem": None},
        {
            "product_id": "209",
            "status": None,
            "at": None,
            "problem": {
                "type": "urn:shoplens:problem:not_found",
                "title": "Unprocessable Content",
                "status": 422,
                "detail": "image 2 of 2: https://images.example.com/209.jpg is not there (404)",
                "code": "not_found",
                "request_id": "5be3e8a1-30a2-4f5b-8f0c-07c7d28b1e64",
                "retry_after_ms": None,
            },
        },
    ],
}

ANSWERS: dict[tuple[str, str], dict[str, Any]] = {
    ("/v1/search", "post"): ANSWER,
    ("/v1/search:batch", "post"): SEARCHED,
    ("/v1/products/{product_id}", "get"): PRODUCT,
    ("/v1/products/{product_id}", "put"): CHANGED,
    ("/v1/products/{product_id}", "delete"): CHANGED | {"status": "deleted"},
    ("/v1/products:batch", "post"): BATCH,
    ("/v1/products/{product_id}/similar", "get"): SIMILAR,
}
"""What is answered with 200, by path and method."""
