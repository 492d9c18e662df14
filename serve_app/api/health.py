"""Liveness, readiness and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from serve_app.api.keys import PROBLEMS, Guard
from serve_app.api.service import Service
from serve_app.callers import Caller
from serve_app.keys import Role


def router(service: Service, guard: Guard) -> APIRouter:
    routes = APIRouter(tags=["operation"])
    operating = guard.needs(Role.ADMIN)

    @routes.get("/v2/health/live", summary="Is the process up?")
    async def live() -> dict[str, str | bool]:
        return {"status": "live", "live": True}

    @routes.get("/v2/health/ready", summary="Can it search?", responses={503: {"description": "Not yet, and why"}})
    async def ready() -> Response:
        """Answer from what is watched in the background; no model and no index is asked."""
        missing = service.ready()
        if missing is None:
            return JSONResponse(
                {"status": "ready", "ready": True, "model": service.fingerprint, **_collection(service)}
            )
        return JSONResponse({"status": "not ready", "ready": False, "reason": missing.reason}, status_code=503)

    @routes.get(
        "/metrics", summary="Prometheus metrics of this node", response_class=PlainTextResponse, responses=PROBLEMS
    )
    async def metrics(_caller: Caller = operating) -> str:
        return await service.metrics()

    return routes


def _collection(service: Service) -> dict[str, str | None]:
    return {"collection": service.index().collection}
