"""POST /v1/search."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from serve_app import pipeline
from serve_app.api import keys
from serve_app.api.examples import REQUESTS
from serve_app.api.keys import Guard
from serve_app.api.parameters import Parameters, body_schema, read_parameters
from serve_app.api.problems import Problem, request_id_of
from serve_app.api.query_string import merged, query_documentation, query_values
from serve_app.api.service import Service
from serve_app.api.uploads import FIELD, FORM, IMAGES, JSON, RAW, Upload, read_upload
from serve_app.api.wire import SearchAnswer, search_answer
from serve_app.calibration import no_curve
from serve_app.callers import Caller
from serve_app.domain import Source
from serve_app.errors import BadParameter, EmptyBody, Forbidden
from serve_app.keys import Role
from serve_app.market import Market

log = logging.getLogger(__name__)

PATH = "/v1/search"
URL = "url"
ACCEPT_LANGUAGE = "Accept-Language"
_STATUSES = {
    400: "empty_body",
    404: "unknown_product, unknown_image",
    408: "upload_timeout",
    410: "photo_expired",
    413: "photo_too_large, too_many_pixels",
    415: "unsupported_type",
    422: "bad_parameter, not_an_image, truncated; of a url: url_refused, not_found, fetch_denied",
    500: "internal",
    502: "fetch_failed",
    503: "index_missing, milvus_unavailable, stage_unavailable",
    504: "deadline_exceeded, fetch_timeout",
}


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a guarded route answers with these statuses, and those of its guard."""
    described = {
        status: {"model": Problem, "description": f"Problem with code {_STATUSES[status]}"} for status in statuses
    }
    return keys.PROBLEMS | described


PROBLEMS = problems_of(400, 408, 410, 413, 415, 422, 500, 502, 503, 504)
_PHOTO = {"type": "string", "format": "binary", "description": "JPEG, PNG, WebP, AVIF or HEIC"}
_BODY = {
    "parameters": query_documentation(),
    "requestBody": {
        "required": False,
        "description": "The photo; nothing where a token, a url or a cursor is given",
        "content": {
            FORM: {"schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _PHOTO}}},
            "image/*": {"schema": _PHOTO},
            RAW: {"schema": _PHOTO},
            JSON: {"schema": body_schema(), "examples": REQUESTS},
        },
    },
}


def router(service: Service, guard: Guard) -> APIRouter:
    routes = APIRouter()
    searching = guard.needs(Role.PUBLIC)

    @routes.post(PATH, responses=PROBLEMS, openapi_extra=_BODY, summary="Search with a photo")
    async def search(request: Request, response: Response, caller: Caller = searching) -> SearchAnswer:
        """Return, for each object found in the photo and for the whole of it, the most similar products."""
        request_id = request_id_of(request)
        # Before the body: nobody should upload a photo only to learn that a parameter is wrong.
        _check_input(caller, request.query_params)
        values = query_values(request.query_params.multi_items())
        market_of(service, request, parameters_of(service, values))
        upload = await read_upload(request, service.max_body_bytes)
        _check_input(caller, upload.values)
        parameters = parameters_of(service, merged(values, upload.values))
        market = market_of(service, request, parameters)
        if upload.together:
            await guard.charge(request, caller, len(upload.together) - 1)
        answer = await answer_of(service, caller.owner, upload, parameters, market)
        service.count("ok", answer.timings_ms, answer.degraded)
        log.info("search", extra=log_fields(request_id, caller, answer, upload.size_bytes))
        show_market(response, market)
        show_timings(response, answer)
        service.show(caller.owner, request_id, answer, further=parameters.cursor is not None)
        return search_answer(answer, request_id, market, parameters.facets, service.rules())

    return routes


def parameters_of(service: Service, values: Mapping[str, Any]) -> Parameters:
    """Return the parameters of a search; raises BadParameter, also for a chance that this service can't tell."""
    parameters = read_parameters(values)
    if parameters.min_match is not None and not service.tells_matches:
        raise BadParameter(no_curve(service.fingerprint))
    return parameters


def market_of(service: Service, request: Request, parameters: Parameters) -> Market:
    """Return the market that a request is for; raises BadParameter."""
    return service.markets.of(parameters.language, request.headers.get(ACCEPT_LANGUAGE), parameters.currency)


def _check_input(caller: Caller, names: Container[str]) -> None:
    """Raise Forbidden where a caller who has no key would let the service fetch for them."""
    if caller.role is Role.PUBLIC and URL in names:
        raise Forbidden("without an API key a search takes no url; send the photo itself")


def show_market(response: Response, market: Market) -> None:
    """Say in the headers for which language an answer is, and that another reader may get another one."""
    response.headers["Content-Language"] = market.reader.tag
    response.headers["Vary"] = ACCEPT_LANGUAGE


def show_timings(response: Response, answer: pipeline.Answer) -> None:
    """Say in a header how long the stages took, as browsers show it: https://www.w3.org/TR/server-timing/."""
    timings = (f"{name};dur={milliseconds:.1f}" for name, milliseconds in answer.timings_ms.items())
    response.headers["Server-Timing"] = ", ".join(timings)


async def answer_of(
    service: Service,
    owner: str,
    upload: Upload,
    parameters: Parameters,
    market: Market,
    *,
    bulk: bool = False,
) -> pipeline.Answer:
    """Search as one request asks; raises BadParameter and EmptyBody where it asks for nothing, or for two things."""
    query, token, url = parameters.query(market), parameters.token, parameters.url
    photo, together = upload.photo, upload.together or None
    if parameters.cursor is not None:
        if any(each is not None for each in (photo, together, url)):
            raise BadParameter("the request has a photo, or the url of one, and a cursor; a page needs no photo")
        beside = query if parameters.asks_beside_a_cursor else None
        return await service.page(owner, parameters.cursor, parameters.top_k, beside, bulk=bulk)
    sent = (("a photo", photo), (IMAGES, together), ("a token", token), ("a url", url))
    given = [name for name, value in sent if value is not None]
    if len(given) > 1:
        raise BadParameter(f"the request has {given[0]} and {given[1]}; send the one that is to be searched with")
    if token is not None:
        return await service.search_again(owner, token, query, bulk=bulk)
    if url is not None:
        return await service.search_url(owner, url, query, bulk=bulk)
    if together is not None:
        parameters.check_together(len(together))
        return await service.search_together(owner, together, query, bulk=bulk)
    if photo is None:
        raise EmptyBody(f"the request has no photo; send it as multipart field {FIELD!r}, or alone as the body")
    return await service.search(owner, photo, query, bulk=bulk)


def log_fields(request_id: str, caller: Caller, answer: pipeline.Answer, size_bytes: int) -> dict[str, Any]:
    """Return what the log says of one search."""
    lists = [entry.products for entry in answer.lists if entry.products is not None]
    return {
        "request_id": request_id,
        "caller": caller.name,
        "code": "ok",
        "photo_bytes": size_bytes,
        "objects": sum(entry.object.source is Source.DETECTOR for entry in answer.lists),
        "lists": len(lists),
        "products": sum(len(products) for products in lists),
        "degraded": list(answer.degraded),
        "ms": {name: round(value, 2) for name, value in answer.timings_ms.items()},
    }
