"""GET /v1/images/{image_id}."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from serve_app.api.etags import known_tags
from serve_app.api.keys import Guard
from serve_app.api.search import problems_of
from serve_app.api.service import Service
from serve_app.callers import Caller
from serve_app.keys import Role
from serve_app.pictures import Picture, Width

FRESH_S = 3600
JPEG = "image/jpeg"
_ANSWERS = {
    **problems_of(404, 422, 500, 503, 504),
    200: {"content": {JPEG: {"schema": {"type": "string", "format": "binary"}}}, "description": "A JPEG"},
    304: {"description": "The picture is the one whose ETag was sent"},
}


def router(service: Service, guard: Guard) -> APIRouter:
    routes = APIRouter(tags=["products"])

    @routes.get(
        "/v1/images/{image_id:path}",
        responses=_ANSWERS,
        response_class=Response,
        summary="A small picture of a catalogue image",
    )
    async def picture(
        image_id: str,
        request: Request,
        width: Annotated[Width, Query(description="the square that it fits into, px")] = Width.MEDIUM,
        # A page shows dozens at once, so that they are no requests of a quota.
        _caller: Caller = guard.knows(Role.PUBLIC),  # noqa: B008 - how FastAPI has it
    ) -> Response:
        """Return the picture of an image that was imported from a file below `page.image_folders`."""
        return picture_answer(await service.picture(image_id, width, known_tags(request)))

    return routes


def picture_answer(found: Picture) -> Response:
    """Return a picture, or 304 where the browser has it."""
    headers = {
        "ETag": found.etag,
        "Cache-Control": f"private, max-age={FRESH_S}",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if found.data is None:
        return Response(status_code=304, headers=headers)
    return Response(found.data, headers=headers, media_type=JPEG)
