"""GET /v1/products/{product_id}, and what is similar to it."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from serve_app import pipeline
from serve_app.api.keys import Guard
from serve_app.api.parameters import Parameters, read_parameters
from serve_app.api.problems import request_id_of
from serve_app.api.product_wire import ProductAnswer, SimilarAnswer, product_answer, similar_answer
from serve_app.api.query_string import QUERY_NAMES, query_documentation, query_values
from serve_app.api.search import market_of, problems_of, show_market, show_timings
from serve_app.api.service import Service
from serve_app.callers import Caller
from serve_app.errors import BadParameter
from serve_app.keys import Role
from serve_app.market import Market

log = logging.getLogger(__name__)

PATH = "/v1/products/{product_id:text}"
"""An id may hold slashes, as it stands or as %2F, and line ends."""
OF_PHOTOS = ("token", "url", "objects", "boxes", "box_source", "min_match")
"""Parameters of a search that say something of its photo, or of how likely a product is what it shows."""
_READ = problems_of(404, 422, 500, 503, 504)
_PAGED = problems_of(404, 410, 422, 500, 503, 504)


class AnyText(Convertor[str]):
    """Match a part of a path that may hold anything; Starlette's `path` holds one line."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def router(service: Service, guard: Guard) -> APIRouter:
    register_url_convertor("text", AnyText())
    routes = APIRouter(tags=["products"])
    searching = guard.needs(Role.PUBLIC)

    @routes.get(
        f"{PATH}/similar",
        responses=_PAGED,
        openapi_extra={"parameters": query_documentation(but=OF_PHOTOS)},
        summary="Products like this one",
    )
    async def similar(
        product_id: str, request: Request, response: Response, caller: Caller = searching
    ) -> SimilarAnswer:
        """Return the products that are most like this one, which is not among them.

        All images of the product are searched with, and a product's score is the best over them.
        """
        parameters = read_parameters(_values(request, Parameters.model_fields.keys() - OF_PHOTOS))
        market = market_of(service, request, parameters)
        answer = await _similar(service, caller.owner, product_id, parameters, market)
        service.count("ok", answer.timings_ms, answer.degraded)
        log.info(
            "similar",
            extra={
                "request_id": request_id_of(request),
                "caller": caller.name,
                "code": "ok",
                "product_id": product_id,
            },
        )
        show_market(response, market)
        show_timings(response, answer)
        request_id, further = request_id_of(request), parameters.cursor is not None
        service.show(caller.owner, request_id, answer, further=further, like=product_id)
        return similar_answer(answer, product_id, request_id, market, parameters.facets, service.rules())

    @routes.get(
        PATH,
        responses=_READ,
        openapi_extra={"parameters": query_documentation(only=("consistency",))},
        summary="What the index has of a product",
    )
    async def product(product_id: str, request: Request, _caller: Caller = searching) -> ProductAnswer:
        """Return the product as its shop describes it: titles in all languages, the price that is charged."""
        parameters = read_parameters(_values(request, {"consistency"}))
        stored = await service.product(product_id, strong=parameters.consistency == "strong")
        return product_answer(stored, request_id_of(request))

    return routes


async def _similar(
    service: Service, owner: str, product_id: str, parameters: Parameters, market: Market
) -> pipeline.Answer:
    query = parameters.query(market)
    if parameters.cursor is None:
        return await service.similar(owner, product_id, query)
    beside = query if parameters.asks_beside_a_cursor else None
    return await service.similar_page(owner, product_id, parameters.cursor, parameters.top_k, beside)


def _values(request: Request, known: set[str]) -> dict[str, Any]:
    """Return the values of the query string; raises BadParameter for what means nothing here."""
    values = query_values(request.query_params.multi_items())
    for name in values:
        if name not in known:
            names = ", ".join(QUERY_NAMES.get(each, each) for each in Parameters.model_fields if each in known)
            raise BadParameter(f"there is no parameter {QUERY_NAMES.get(name, name)!r} here; known are {names}")
    return values
