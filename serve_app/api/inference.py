"""/v2/models: detector and embedder alone, by the Open Inference Protocol.

Programs that speak to KServe, Triton or Seldon speak to these too: https://github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from serve_app import __version__
from serve_app.api.keys import Guard
from serve_app.api.problems import problem_response, request_id_of
from serve_app.api.schemas import schema_of
from serve_app.api.service import Service
from serve_app.api.tensors import (
    IMAGE,
    MOST_PHOTOS,
    InferenceBody,
    InferenceProblem,
    InferenceWire,
    ModelReadyWire,
    ModelWire,
    OutputWire,
    ServerWire,
    TensorWire,
    floats,
    read_request,
    wanted_only,
)
from serve_app.api.uploads import JSON, read_json
from serve_app.callers import Caller
from serve_app.domain import EMBEDDING_DIM
from serve_app.errors import ShoplensError, UnknownModel
from serve_app.keys import Role
from serve_app.pipeline import Sighting

log = logging.getLogger(__name__)

MODEL = "/v2/models/{name}"
VERSION = MODEL + "/versions/{version}"
PLATFORM = "pytorch"
_TOLD_HEADERS = ("Retry-After", "WWW-Authenticate")
_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": InferenceProblem, "description": "What went wrong"}
    for status in (400, 401, 403, 404, 413, 415, 422, 429, 500, 503, 504)
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: _REFUSED[404]}
_BODY = {"requestBody": {"required": True, "content": {JSON: {"schema": schema_of(InferenceBody)}}}}

Infer = Callable[[tuple[bytes, ...]], Awaitable[list[OutputWire]]]


@dataclass(frozen=True, slots=True)
class Model:
    """Describe a model, and how it is asked."""

    name: str
    version: str
    stage: str
    most: int
    outputs: tuple[TensorWire, ...]
    infer: Infer

    def wire(self) -> ModelWire:
        photos = TensorWire(name=IMAGE, datatype="BYTES", shape=[1 if self.most == 1 else -1])
        return ModelWire(
            name=self.name, versions=[self.version], platform=PLATFORM, inputs=[photos], outputs=list(self.outputs)
        )


def models_of(service: Service) -> dict[str, Model]:
    """Return the models of a service by their names."""

    async def see(photos: tuple[bytes, ...]) -> list[OutputWire]:
        return _seen(await service.see(photos[0]))

    async def embed(photos: tuple[bytes, ...]) -> list[OutputWire]:
        rows = (await service.embed(photos)).embeddings
        return [floats("embedding", rows.shape, rows.ravel().tolist())]

    found = (
        TensorWire(name="box", datatype="FP32", shape=[-1, 4]),
        TensorWire(name="confidence", datatype="FP32", shape=[-1]),
        TensorWire(name="label", datatype="BYTES", shape=[-1]),
        TensorWire(name="size", datatype="INT32", shape=[2]),
    )
    embedded = (TensorWire(name="embedding", datatype="FP32", shape=[-1, EMBEDDING_DIM]),)
    return {
        "detector": Model("detector", service.detector_sha256[:12], "Detector", 1, found, see),
        "embedder": Model("embedder", service.fingerprint, "Embedder", MOST_PHOTOS, embedded, embed),
    }


def _seen(sighting: Sighting) -> list[OutputWire]:
    found = sighting.detections
    return [
        floats("box", [len(found), 4], [edge for each in found for edge in each.box.as_tuple()]),
        floats("confidence", [len(found)], [each.confidence or 0.0 for each in found]),
        OutputWire(name="label", datatype="BYTES", shape=[len(found)], data=[each.label for each in found]),
        OutputWire(name="size", datatype="INT32", shape=[2], data=[sighting.width, sighting.height]),
    ]


def router(service: Service, guard: Guard) -> APIRouter:
    """Return the routes, whose errors are in the protocol's shape."""
    routes = APIRouter(tags=["models"], route_class=_telling_errors(service))
    models = models_of(service)
    searching = guard.needs(Role.SEARCH)

    def model_of(name: str, version: str | None) -> Model:
        model = models.get(name)
        if model is None:
            raise UnknownModel(f"there is no model of this name; known are {', '.join(models)}")
        if version not in (None, model.version):
            raise UnknownModel(f"the model {name} has the version {model.version} alone")
        return model

    @routes.get("/v2", summary="Which server is this?")
    async def server() -> ServerWire:
        return ServerWire(name="shoplens", version=__version__, extensions=[])

    @routes.get(VERSION, include_in_schema=False)
    @routes.get(MODEL, summary="What a model takes and gives", responses=_UNKNOWN)
    async def metadata(name: str, version: str | None = None) -> ModelWire:
        return model_of(name, version).wire()

    @routes.get(f"{VERSION}/ready", include_in_schema=False, response_model=ModelReadyWire)
    @routes.get(f"{MODEL}/ready", summary="Is a model there?", response_model=ModelReadyWire, responses=_UNKNOWN)
    async def ready(name: str, version: str | None = None) -> Response:
        """Answer from what is watched in the background; a model that is at zero is there, and starts when asked."""
        is_ready = service.is_there(model_of(name, version).stage)
        return JSONResponse({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    @routes.post(f"{VERSION}/infer", include_in_schema=False, response_model_exclude_none=True)
    @routes.post(
        f"{MODEL}/infer",
        summary="Ask a model",
        responses=_REFUSED,
        openapi_extra=_BODY,
        response_model_exclude_none=True,
    )
    async def infer(
        name: str, request: Request, version: str | None = None, caller: Caller = searching
    ) -> InferenceWire:
        """Return what the detector finds in one photo, or the embedding of the whole of each of up to ten.

        Such requests wait for the searches of shoppers. No index is needed, and nothing of the photos is kept.
        """
        model = model_of(name, version)
        values = await read_json(request, service.max_body_bytes)
        asked = await asyncio.to_thread(read_request, values, model.most, service.max_body_bytes)
        wanted_only([OutputWire(**each.model_dump(), data=[]) for each in model.outputs], asked.wanted)
        if len(asked.photos) > 1:
            await guard.charge(request, caller, len(asked.photos) - 1)
        outputs = wanted_only(await model.infer(asked.photos), asked.wanted)
        service.count("ok", {})
        log.info("inference", extra=_log_fields(request, caller, model, asked.photos))
        return InferenceWire(model_name=name, model_version=model.version, id=asked.id, outputs=outputs)

    return routes


def _log_fields(request: Request, caller: Caller, model: Model, photos: tuple[bytes, ...]) -> dict[str, Any]:
    return {
        "request_id": request_id_of(request),
        "caller": caller.name,
        "code": "ok",
        "model": model.name,
        "photos": len(photos),
        "photo_bytes": sum(map(len, photos)),
    }


def _telling_errors(service: Service) -> type[APIRoute]:
    """Return routes that answer errors of ours as the protocol has it."""

    class Telling(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handle(request)
                except ShoplensError as error:
                    request_id = request_id_of(request)
                    service.count(error.code, {})
                    fields = {"request_id": request_id, "code": error.code, "detail": error.message}
                    log.info("problem", extra=fields)
                    told = problem_response(error, request_id).headers
                    headers = {name: told[name] for name in _TOLD_HEADERS if name in told}
                    return JSONResponse({"error": error.message}, error.status, headers)

            return answer

    return Telling
