"""POST /v1/feedback."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, ValidationError, model_validator

from serve_app.api.change_wire import ProductId, Sent
from serve_app.api.keys import Guard
from serve_app.api.parameters import reason_of
from serve_app.api.problems import request_id_of
from serve_app.api.schemas import schema_of
from serve_app.api.search import problems_of
from serve_app.api.service import Service
from serve_app.api.uploads import JSON, read_json
from serve_app.api.wire import Wire
from serve_app.callers import Caller
from serve_app.errors import BadParameter, PhotoTooLarge
from serve_app.feedback.records import FIRST_LIST, Act, Feedback
from serve_app.keys import Role
from serve_app.pipeline import MAX_RANKED

PATH = "/v1/feedback"
MAX_BODY_BYTES = 4096
EXAMPLES: dict[str, dict[str, Any]] = {
    "click": {
        "summary": "the second product of an object's list was clicked",
        "value": {
            "request_id": "e4b82cd9-024e-4760-97ac-18b94e516448",
            "object_id": "o0",
            "product_id": "208",
            "position": 2,
            "event": "click",
        },
    },
    "none fits": {
        "summary": "the shopper says that no product is right, and lets the shop keep what was searched with",
        "value": {
            "request_id": "e4b82cd9-024e-4760-97ac-18b94e516448",
            "object_id": "o0",
            "event": "none_fits",
            "consent": True,
        },
    },
}


class FeedbackBody(Sent):
    """What a shopper did with a list of an answer."""

    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="`request_id` of the answer")]
    object_id: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="whose list; leave it out for similar products")
    ] = FIRST_LIST
    product_id: ProductId | None = Field(None, description="left out for `none_fits` alone")
    position: int | None = Field(
        None, ge=1, le=MAX_RANKED, description="the product's place in the list of that answer, counted from 1"
    )
    event: Act
    consent: bool = Field(
        False, description="the shopper agrees that what was searched with is kept for some days, to find better"
    )

    @model_validator(mode="after")
    def _names_a_product(self) -> FeedbackBody:
        if self.event is Act.NONE_FITS and (self.product_id is not None or self.position is not None):
            raise ValueError("none_fits is about all of a list: it takes neither product_id nor position")
        if self.event is not Act.NONE_FITS and self.product_id is None:
            raise ValueError(f"{self.event} needs the product_id")
        return self

    def feedback(self) -> Feedback:
        return Feedback(
            self.request_id, self.object_id, self.event, self.product_id, self.position, consent=self.consent
        )


class FeedbackAnswer(Wire):
    request_id: str
    crop: bool = Field(description="whether what was searched with is kept")


def router(service: Service, guard: Guard) -> APIRouter:
    routes = APIRouter(tags=["feedback"])
    searching = guard.needs(Role.PUBLIC)

    @routes.post(
        PATH,
        status_code=202,
        responses=problems_of(400, 413, 415, 422, 500),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {JSON: {"schema": schema_of(FeedbackBody), "examples": EXAMPLES}},
            }
        },
        summary="Say what a shopper did with an answer",
    )
    async def feedback(request: Request, caller: Caller = searching) -> FeedbackAnswer:
        """Take what was clicked, put into the cart, bought, or that nothing fits. It is written within minutes."""
        body = read_feedback(await _read(request))
        kept = await service.feedback(caller, body.feedback())
        return FeedbackAnswer(request_id=request_id_of(request), crop=kept)

    return routes


async def _read(request: Request) -> Any:
    try:
        return await read_json(request, MAX_BODY_BYTES)
    except PhotoTooLarge as error:
        raise PhotoTooLarge("the body is larger than any feedback is; send one event") from error


def read_feedback(values: Any) -> FeedbackBody:
    """Return what was sent; raises BadParameter, which says what the first wrong value may be."""
    try:
        return FeedbackBody.model_validate(values)
    except ValidationError as error:
        raise BadParameter(reason_of(error, FeedbackBody)) from error
