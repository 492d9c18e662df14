"""The ASGI application, put together from its routes."""

from __future__ import annotations

import re
import uuid
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app import __version__
from serve_app.api import (
    admin,
    feedback,
    health,
    inference,
    page_routes,
    pictures,
    problems,
    products,
    search,
    search_batch,
    writing,
)
from serve_app.api.change_wire import BatchBody, ProductBody
from serve_app.api.examples import ANSWERS
from serve_app.api.feedback import FeedbackBody
from serve_app.api.keys import LIMIT, POLICY, Guard, TellLimits
from serve_app.api.parameters import Parameters
from serve_app.api.schemas import parts_of
from serve_app.api.service import Service
from serve_app.api.source import ARCHIVE
from serve_app.api.tensors import InferenceBody
from serve_app.api.uploads import JSON

REQUEST_ID = "X-Request-ID"
READABLE = (REQUEST_ID, "Retry-After", "Content-Language", "Server-Timing", LIMIT, POLICY)
"""Headers of an answer that pages of other origins may read."""
GZIP_BYTES = 1024
GZIP_LEVEL = 4
"""350 kB of JSON, the largest answer, take 2.5 ms and become 56 kB; level 9 takes 12 ms and makes 50 kB of them."""
PREFLIGHT_S = 600
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def create_app(service: Service) -> FastAPI:
    """Return the application that answers for `service`."""
    app = Described(
        title="Shoplens",
        version=__version__,
        summary="Search by image for shops",
        license_info={"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
    )
    app.state.source = service.page_settings.source_url or f"/{ARCHIVE}"
    problems.install(app, lambda code: service.count(code, {}))
    guard = Guard(service.access, service.quotas)
    app.include_router(search.router(service, guard))
    app.include_router(search_batch.router(service, guard))
    app.include_router(products.router(service, guard))
    app.include_router(writing.router(service, guard))
    app.include_router(feedback.router(service, guard))
    app.include_router(pictures.router(service, guard))
    app.include_router(health.router(service, guard))
    app.include_router(inference.router(service, guard))
    app.include_router(page_routes.router(service))
    app.include_router(admin.router(service, guard))
    app.add_middleware(TellLimits)
    app.add_middleware(GZipMiddleware, minimum_size=GZIP_BYTES, compresslevel=GZIP_LEVEL)
    if service.access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.access.origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", REQUEST_ID],
            expose_headers=READABLE,
            max_age=PREFLIGHT_S,
        )
    app.add_middleware(Identify)
    return app


class Described(FastAPI):
    """Give the description what FastAPI leaves out: parts of bodies, what is null in examples, the kind of problems."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        for path in document["paths"].values():
            for operation in path.values():
                for response in operation["responses"].values():
                    _name_problem(response)
        for body in (Parameters, ProductBody, BatchBody, InferenceBody, FeedbackBody):
            document["components"]["schemas"] |= parts_of(body)
        for (path, method), example in ANSWERS.items():
            document["paths"][path][method]["responses"]["200"]["content"][JSON]["example"] = example
        # FastAPI takes no address that is relative to the service.
        document["externalDocs"] = {"description": "Source code of the running version", "url": self.state.source}
        return document


def _name_problem(response: dict[str, Any]) -> None:
    """Let a problem have the media type that it is answered with."""
    described = response.get("content", {})
    for kind, shape in list(described.items()):
        if shape.get("schema", {}).get("$ref", "").endswith("/Problem"):
            described[problems.MEDIA_TYPE] = described.pop(kind)


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
