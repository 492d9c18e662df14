"""PUT and DELETE /v1/products/{product_id}, and POST /v1/products:batch."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from serve_app.api.audit import Write, audited
from serve_app.api.change_wire import (
    BatchAnswer,
    BatchBody,
    ChangeAnswer,
    Moment,
    ProductBody,
    change_answer,
    check_product_id,
    item_wire,
    milliseconds,
    read_item,
    read_items,
    read_product,
)
from serve_app.api.examples import BATCHES, PRODUCTS
from serve_app.api.keys import Guard
from serve_app.api.problems import refusal_response, request_id_of, writable
from serve_app.api.products import PATH
from serve_app.api.schemas import schema_of
from serve_app.api.search import problems_of
from serve_app.api.service import Service
from serve_app.api.uploads import JSON, read_json
from serve_app.changes import Change, Changed, Refusal, Removal
from serve_app.errors import BadParameter, StageUnavailable

log = logging.getLogger(__name__)

Work = Callable[[int], Awaitable[tuple[Sequence[Changed], Response]]]
"""Does what a request asks for, as of a time in milliseconds since 1970 UTC."""

BATCH_PATH = "/v1/products:batch"
KEY, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
_KEY = re.compile(r"[!-~]{1,255}")
_PROBLEMS = problems_of(400, 408, 413, 415, 422, 500, 502, 503, 504)
_KEY_PARAMETER = {
    "name": KEY,
    "in": "header",
    "required": False,
    "description": "text of your own, another one for each request: sent again with it, a request takes effect once",
    "schema": {"type": "string", "maxLength": 255},
}


def router(service: Service, guard: Guard) -> APIRouter:
    """Return the routes that change products."""
    routes = APIRouter(tags=["products"])
    _add_put(routes, service, audited(guard, "put"))
    _add_delete(routes, service, audited(guard, "delete"))
    _add_batch(routes, service, audited(guard, "batch"))
    return routes


def _add_put(routes: APIRouter, service: Service, writing: Any) -> None:
    @routes.put(
        PATH,
        response_model=ChangeAnswer,
        responses=_PROBLEMS,
        openapi_extra=_body(ProductBody, PRODUCTS),
        summary="Let a product be so",
    )
    async def put(product_id: str, request: Request, write: Write = writing) -> Response:
        """Store the product, all of it, and answer once that is done. Images that are left out are removed.

        An image that is there already is not embedded again, and one at a URL is only fetched where it changed.
        """
        check_product_id(product_id)
        values = await read_json(request, service.max_body_bytes)
        return await _one(service, write, request, read_product(values).change(product_id), values)


def _add_delete(routes: APIRouter, service: Service, writing: Any) -> None:
    @routes.delete(
        PATH,
        response_model=ChangeAnswer,
        responses=_PROBLEMS,
        openapi_extra={"parameters": [_KEY_PARAMETER]},
        summary="Let a product go",
    )
    async def delete(
        product_id: str, request: Request, at: Annotated[Moment, Query()] = None, write: Write = writing
    ) -> Response:
        """Remove the product and answer once that is done.

        What is not there is `unchanged`. The removal is remembered, so that an older change brings nothing back.
        """
        check_product_id(product_id)
        return await _one(service, write, request, Removal(product_id, milliseconds(at)), milliseconds(at))


def _add_batch(routes: APIRouter, service: Service, writing: Any) -> None:
    @routes.post(
        BATCH_PATH,
        response_model=BatchAnswer,
        responses=_PROBLEMS,
        openapi_extra=_body(BatchBody, BATCHES),
        summary="Change several products",
    )
    async def batch(request: Request, write: Write = writing) -> Response:
        """Store and remove products, and answer what became of each item once that is done.

        An item that can't be stored has a problem, and keeps none of the others from being stored.
        """
        values = await read_json(request, service.max_body_bytes)
        items = [_change(item) for item in read_items(values)]

        async def work(at_ms: int) -> tuple[Sequence[Changed], Response]:
            changed = await _write_all(service, items, at_ms)
            request_id = request_id_of(request)
            answer = BatchAnswer(request_id=request_id, items=[item_wire(each, request_id) for each in changed])
            return changed, JSONResponse(answer.model_dump(mode="json"))

        return await _once(service, write, request, values, work)


def _change(item: Any) -> Change | Changed:
    """Return what an item asks for, or why that can't be told."""
    try:
        return read_item(item)
    except BadParameter as error:
        named = item.get("product_id") if isinstance(item, dict) else None
        return Changed(writable(named[:200]) if isinstance(named, str) else "", 0, refusal=Refusal.of(error))


async def _write_all(service: Service, items: Sequence[Change | Changed], at_ms: int) -> list[Changed]:
    """Write the items that can be, and return what became of all in their order."""
    written = iter(await service.write([item for item in items if not isinstance(item, Changed)], at_ms))
    return [item if isinstance(item, Changed) else next(written) for item in items]


async def _one(service: Service, write: Write, request: Request, change: Change, values: Any) -> Response:
    async def work(at_ms: int) -> tuple[Sequence[Changed], Response]:
        (changed,) = await service.write([change], at_ms)
        request_id = request_id_of(request)
        if changed.refusal is not None:
            return [changed], refusal_response(changed.refusal, request_id)
        return [changed], JSONResponse(change_answer(changed, request_id).model_dump(mode="json"))

    return await _once(service, write, request, values, work)


async def _once(service: Service, write: Write, request: Request, values: Any, work: Work) -> Response:
    """Do what a request asks for, once for its Idempotency-Key where it has one, and note what became of it.

    What is sent again is of the time that it came first, so it never undoes what came in between. An answer with
    problems that may pass is not kept for those who ask again.
    """
    key, at_ms = request.headers.get(KEY), time.time_ns() // 10**6
    if key is not None:
        if not _KEY.fullmatch(key):
            raise BadParameter(f"{KEY} is 1 to 255 visible characters of ASCII")
        signature = json.dumps([request.method, request.url.path, values], sort_keys=True).encode()
        begun = await service.begin(write.caller.owner, key, signature, at_ms)
        if begun.answer is not None:
            return _answered_before(begun.answer)
        at_ms = begun.at_ms
    changed, response = await work(at_ms)
    _note(write, changed)
    if key is not None and not any(each.refusal is not None and each.refusal.may_pass for each in changed):
        await _keep(service, write.caller.owner, key, response)
    return response


async def _keep(service: Service, owner: str, key: str, response: Response) -> None:
    kept = [response.status_code, response.media_type, bytes(response.body).decode()]
    try:
        await service.end(owner, key, json.dumps(kept).encode())
    except StageUnavailable:
        # A repeat is of the same time, and so changes nothing.
        log.warning("answer not kept for repeats")


def _answered_before(kept: bytes) -> Response:
    status, media_type, body = json.loads(kept)
    return Response(body, status, {REPLAYED: "true"}, media_type)


def _note(write: Write, changed: Sequence[Changed]) -> None:
    for each in changed:
        outcome = each.refusal.code if each.refusal is not None else str(each.result)
        write.note(each.product_id, outcome, failed=each.refusal is not None)


def _body(kind: type[BaseModel], examples: dict[str, Any]) -> dict[str, Any]:
    """Describe a body of JSON, and the key that may come with it."""
    return {
        "parameters": [_KEY_PARAMETER],
        "requestBody": {"required": True, "content": {JSON: {"schema": schema_of(kind), "examples": examples}}},
    }
