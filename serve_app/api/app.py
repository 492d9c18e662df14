"""The ASGI application, put together from its routes."""

from __future__ import annotations

import re
import uuid
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app import __version__
from serve_app.api import health, page_routes, problems, search
from serve_app.api.examples import ANSWER
from serve_app.api.service import Service
from serve_app.api.uploads import JSON

REQUEST_ID = "X-Request-ID"
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def create_app(service: Service) -> FastAPI:
    """Return the application that answers for `service`."""
    app = Described(
        title="Shoplens",
        version=__version__,
        summary="Search by image for shops",
        license_info={"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
    )
    problems.install(app, lambda code: service.count(code, {}))
    app.include_router(search.router(service))
    app.include_router(health.router(service))
    app.include_router(page_routes.router(service))
    app.add_middleware(Identify)
    return app


class Described(FastAPI):
    """Give the description its answer's example whole: FastAPI leaves out what is null in it."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document["paths"][search.PATH]["post"]["responses"]["200"]["content"][JSON]["example"] = ANSWER
        return document


class Identify:
    """Give each request an id, the client's own where it sent a harmless one, and name it in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)
