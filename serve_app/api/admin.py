"""/admin: the page for the shop's own people, and what it asks for."""

from __future__ import annotations

import html
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serve_app import __version__
from serve_app.api.admin_session import Session, token_of
from serve_app.api.admin_wire import KeyBody, index_of, side_of, why_of
from serve_app.api.etags import known_tags
from serve_app.api.keys import Guard
from serve_app.api.page_routes import CHECK_EACH_TIME, FOREVER, MEDIA_TYPES, answer, pictures_policy, read_assets
from serve_app.api.pictures import picture_answer
from serve_app.api.query_string import merged, query_values
from serve_app.api.search import market_of, parameters_of
from serve_app.api.service import Service
from serve_app.api.uploads import read_upload
from serve_app.callers import Caller
from serve_app.errors import BadParameter, EmptyBody
from serve_app.market import Market
from serve_app.pictures import Width
from serve_app.pipeline import Query

PRIVATE = {"Cache-Control": "no-store"}


def router(service: Service, guard: Guard) -> APIRouter:
    routes = APIRouter(prefix="/admin", include_in_schema=False)
    session = Session(service.access, guard)
    _add_page(routes, service)
    _add_session(routes, session)
    _add_answers(routes, service, session)
    return routes


def policy(service: Service) -> str:
    """Return what browsers may load for the page: its own files alone, and pictures from where the shop's are."""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {pictures_policy(service.page_settings)}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _add_page(routes: APIRouter, service: Service) -> None:
    assets = read_assets("admin_page")
    text = assets.files["index.html"].decode().replace("{{@assets}}", html.escape(f"admin/files/{assets.version}"))

    @routes.get("")
    async def page(request: Request) -> Response:
        headers = {"Content-Security-Policy": policy(service), "Referrer-Policy": "no-referrer"}
        return answer(request, text.encode(), "text/html", CHECK_EACH_TIME, headers)

    @routes.get("/files/{version}/{name}")
    async def file(request: Request, version: str, name: str) -> Response:
        data, media_type = assets.files.get(name), MEDIA_TYPES.get(f".{name.rpartition('.')[2]}")
        if data is None or media_type is None:
            raise HTTPException(404)
        return answer(request, data, media_type, FOREVER if version == assets.version else CHECK_EACH_TIME)


def _add_session(routes: APIRouter, session: Session) -> None:
    @routes.get("/session")
    async def who(request: Request, caller: Caller = session.admin) -> Response:
        return _told({"name": caller.name, "has_key": caller.has_key, "csrf": token_of(request)})

    @routes.post("/session")
    async def enter(request: Request, body: KeyBody) -> Response:
        response = _told({})
        session.begin(request, response, body.key)
        return response

    @routes.delete("/session")
    async def leave(_caller: Caller = session.admin) -> Response:
        response = _told({})
        session.end(response)
        return response


def _add_answers(routes: APIRouter, service: Service, session: Session) -> None:
    @routes.get("/overview")
    async def overview(_caller: Caller = session.admin) -> Response:
        index, missing = service.index(), service.ready()
        return _told(
            {
                "version": __version__,
                "model": service.fingerprint,
                "collection": index.collection,
                "reason": index.reason if missing is None else missing.reason,
                "rules": len(service.rules().rules),
                "indexes": [index_of(info) for info in await service.backstage.indexes()],
            }
        )

    @routes.get("/searches")
    async def searches(_caller: Caller = session.admin) -> Response:
        return _told(service.backstage.searches())

    @routes.get("/imports")
    async def imports(_caller: Caller = session.admin) -> Response:
        return _told([asdict(each) for each in await service.backstage.imports()])

    @routes.get("/imports/{name}")
    async def left_out(name: str, _caller: Caller = session.admin) -> Response:
        return _told([asdict(each) for each in await service.backstage.left_out(name)])

    @routes.get("/imports/{name}/{row}/picture")
    async def picture(name: str, row: int, request: Request, _caller: Caller = session.admin) -> Response:
        return picture_answer(await service.backstage.picture(name, row, known_tags(request)))

    @routes.get("/images/{image_id:path}")
    async def image(image_id: str, request: Request, _caller: Caller = session.admin) -> Response:
        return picture_answer(await service.picture(image_id, Width.SMALL, known_tags(request)))

    @routes.post("/why")
    async def why(request: Request, _caller: Caller = session.admin) -> Response:
        product_id, photo, query, market = await _asked(
            request, service, "product_id", "the product that is asked about"
        )
        found = await service.backstage.why(photo, product_id, query)
        return _told(why_of(found, market, service.rules()))

    @routes.get("/shadow")
    async def shadow(_caller: Caller = session.admin) -> Response:
        return _told({"model": service.fingerprint, "shadow": asdict(service.backstage.shadow())})

    @routes.get("/models")
    async def models(_caller: Caller = session.admin) -> Response:
        return _told([asdict(each) for each in await service.backstage.models()])

    @routes.post("/compare")
    async def compare(request: Request, _caller: Caller = session.admin) -> Response:
        model, photo, query, market = await _asked(request, service, "model", "the fingerprint of the other model")
        sides = await service.backstage.compare(photo, model, query)
        return _told([side_of(side, market, service.rules()) for side in sides])


async def _asked(request: Request, service: Service, name: str, what: str) -> tuple[str, bytes, Query, Market]:
    """Return a parameter of the request's own, the photo, and what a shopper would have asked."""
    others = [(key, value) for key, value in request.query_params.multi_items() if key != name]
    named = request.query_params.get(name)
    if not named:
        raise BadParameter(f"{name} is missing: it names {what}")
    upload = await read_upload(request, service.max_body_bytes)
    parameters = parameters_of(service, merged(query_values(others), upload.values))
    market = market_of(service, request, parameters)
    if upload.photo is None:
        raise EmptyBody("the request has no photo; choose one")
    return named, upload.photo, parameters.query(market), market


def _told(values: Any) -> JSONResponse:
    return JSONResponse(values, headers=PRIVATE)
