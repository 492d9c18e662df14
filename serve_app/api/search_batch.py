"""POST /v1/search:batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from serve_app.api.examples import SEARCHES
from serve_app.api.keys import Guard
from serve_app.api.parameters import MOST_IMAGES, body_schema
from serve_app.api.problems import Problem, problem_of, request_id_of
from serve_app.api.query_string import merged, query_documentation, query_values
from serve_app.api.search import ACCEPT_LANGUAGE, answer_of, log_fields, market_of, parameters_of, problems_of
from serve_app.api.service import Service
from serve_app.api.uploads import IMAGES, JSON, of_values, read_json
from serve_app.api.wire import SearchAnswer, Wire, search_answer
from serve_app.callers import Caller
from serve_app.changes import Refusal
from serve_app.errors import BadParameter, ShoplensError
from serve_app.keys import Role

log = logging.getLogger(__name__)

PATH = "/v1/search:batch"
MOST_SEARCHES = 16
AT_ONCE = 4
"""Searches of one request that are in work at a time: the others of it fill no queue."""
ONE_ONLY = ("token", "url", "cursor")
"""Parameters that belong to one search, and so to none of the query string."""
_PROBLEMS = problems_of(400, 408, 413, 415, 422, 500)
_BODY = {
    "parameters": query_documentation(but=ONE_ONLY),
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "title": "Searches",
                    "required": ["searches"],
                    "additionalProperties": False,
                    "properties": {
                        "searches": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": MOST_SEARCHES,
                            "items": body_schema(),
                        }
                    },
                },
                "examples": SEARCHES,
            }
        },
    },
}


class SearchedWire(Wire):
    answer: SearchAnswer | None = Field(description="as `POST /v1/search` gives it")
    problem: Problem | None = Field(description="why there is none")


class SearchesAnswer(Wire):
    request_id: str
    searches: list[SearchedWire] = Field(description="in the order in which they were sent")


def router(service: Service, guard: Guard) -> APIRouter:
    routes = APIRouter()
    searching = guard.needs(Role.SEARCH)

    @routes.post(PATH, responses=_PROBLEMS, openapi_extra=_BODY, summary="Search with several photos")
    async def search_batch(request: Request, response: Response, caller: Caller = searching) -> SearchesAnswer:
        """Return an answer or a problem for each search. They wait for the searches of shoppers."""
        values = query_values(request.query_params.multi_items())
        alone = next((name for name in ONE_ONLY if name in values), None)
        if alone is not None:
            raise BadParameter(f"{alone} belongs to one of the searches; give it there")
        market_of(service, request, parameters_of(service, values))
        searches = _searches(await read_json(request, service.max_body_bytes))
        photos = sum(map(_photos, searches))
        if photos > 1:
            await guard.charge(request, caller, photos - 1)
        free = asyncio.Semaphore(AT_ONCE)

        async def one(search: Any) -> SearchedWire:
            async with free:
                return await _search(service, caller, request, values, search)

        response.headers["Vary"] = ACCEPT_LANGUAGE
        searched = await asyncio.gather(*(one(search) for search in searches))
        return SearchesAnswer(request_id=request_id_of(request), searches=list(searched))

    return routes


async def _search(
    service: Service, caller: Caller, request: Request, common: Mapping[str, Any], search: Any
) -> SearchedWire:
    request_id = request_id_of(request)
    try:
        if not isinstance(search, dict):
            raise BadParameter('a search has to be an object, like {"image": "…", "top_k": 5}')
        upload = of_values(search, service.max_body_bytes)
        parameters = parameters_of(service, merged(common, upload.values))
        market = market_of(service, request, parameters)
        answer = await answer_of(service, caller.owner, upload, parameters, market, bulk=True)
    except ShoplensError as error:
        service.count(error.code, {})
        log.info("problem", extra={"request_id": request_id, "code": error.code, "detail": error.message})
        return SearchedWire(answer=None, problem=problem_of(Refusal.of(error), request_id))
    service.count("ok", answer.timings_ms, answer.degraded)
    log.info("search", extra=log_fields(request_id, caller, answer, upload.size_bytes))
    shown = search_answer(answer, request_id, market, parameters.facets, service.rules())
    return SearchedWire(answer=shown, problem=None)


def _photos(search: Any) -> int:
    """Return how many photos a search counts as."""
    images = search.get(IMAGES) if isinstance(search, dict) else None
    return max(1, min(len(images), MOST_IMAGES)) if isinstance(images, list) else 1


def _searches(values: Any) -> list[Any]:
    if not isinstance(values, dict) or set(values) != {"searches"} or not isinstance(values["searches"], list):
        raise BadParameter('the body is {"searches": […]}, each like {"image": "…", "top_k": 5}')
    if not 1 <= len(values["searches"]) <= MOST_SEARCHES:
        raise BadParameter(f"1 to {MOST_SEARCHES} searches go together, not {len(values['searches'])}")
    return list(values["searches"])
