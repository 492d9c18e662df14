"""POST /v1/search."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from serve_app import pipeline
from serve_app.api.problems import Problem, request_id_of
from serve_app.api.service import Service
from serve_app.api.uploads import FIELD, read_photo
from serve_app.api.wire import SearchAnswer, search_answer
from serve_app.domain import Source
from serve_app.errors import BadParameter

log = logging.getLogger(__name__)

NOT_YET = frozenset({
    "cursor", "objects", "box", "box_source", "category", "price_min", "price_max", "in_stock", "group_by",
    "language", "currency", "min_match", "sort", "image", "images", "url", "token", "boxes",
    "attributes",
})  # fmt: skip
"""Names that version 1 reserves; refused, rather than ignored, until they work."""

_STATUSES = {
    400: "empty_body",
    413: "photo_too_large, too_many_pixels",
    415: "unsupported_type",
    422: "bad_parameter, not_an_image, truncated",
    429: "overloaded",
    500: "internal",
    503: "index_missing, milvus_unavailable, stage_unavailable",
    504: "deadline_exceeded",
}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": f"Problem with code {codes}"} for status, codes in _STATUSES.items()
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "string", "format": "binary", "description": "JPEG, PNG or WebP"}},
                }
            }
        },
    }
}


class SearchParameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(10, ge=1, le=100, description="products per list")
    min_score: float | None = Field(
        None, ge=-1, le=1, allow_inf_nan=False, description="products with a lower cosine are left out"
    )
    consistency: Literal["bounded", "strong"] = Field(
        "bounded", description="`strong` sees every write acknowledged before the search, and takes up to a second more"
    )


def check_names(request: Request) -> None:
    """Refuse parameters that are repeated, or not built yet, in words that say so.

    Runs before validation, whose own message for either would mislead.
    """
    for name, count in Counter(key for key, _ in request.query_params.multi_items()).items():
        if name in NOT_YET or name.startswith("attr."):
            raise BadParameter(f"{name} is not available yet; leave it out")
        if name not in SearchParameters.model_fields:
            known = ", ".join(SearchParameters.model_fields)
            raise BadParameter(f"there is no parameter {name!r}; known are {known}")
        if count > 1:
            raise BadParameter(f"{name} is given {count} times; give it once")


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post(
        "/v1/search",
        responses=PROBLEMS,
        openapi_extra=_BODY,
        summary="Search with a photo",
        dependencies=[Depends(check_names)],
    )
    async def search(request: Request, parameters: Annotated[SearchParameters, Query()]) -> SearchAnswer:
        """Return, for each object found in the photo and for the whole of it, the most similar products."""
        request_id = request_id_of(request)
        photo = await read_photo(request, service.max_body_bytes)
        query = pipeline.Query(
            top_k=parameters.top_k, min_score=parameters.min_score, strong=parameters.consistency == "strong"
        )
        answer = await service.search(photo, query)
        service.count("ok", answer.timings_ms, answer.degraded)
        log.info("search", extra=_log_fields(request_id, answer, len(photo)))
        return search_answer(answer, request_id)

    return routes


def _log_fields(request_id: str, answer: pipeline.Answer, size_bytes: int) -> dict[str, Any]:
    lists = [entry.products for entry in answer.lists if entry.products is not None]
    return {
        "request_id": request_id,
        "code": "ok",
        "photo_bytes": size_bytes,
        "objects": sum(entry.object.source is Source.DETECTOR for entry in answer.lists),
        "lists": len(lists),
        "products": sum(len(products) for products in lists),
        "degraded": list(answer.degraded),
        "ms": {name: round(value, 2) for name, value in answer.timings_ms.items()},
    }
