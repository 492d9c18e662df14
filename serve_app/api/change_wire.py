"""Shapes of changes that shops send, and of what became of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from serve_app.api.parameters import Scalar, first_message, reason_of
from serve_app.api.problems import Problem, problem_of
from serve_app.api.wire import Wire, time_text
from serve_app.changes import Change, Changed, GivenImage, Put, Removal, Result
from serve_app.collection import MAX_IMAGE_ID_BYTES
from serve_app.errors import BadParameter

MOST_IMAGES = 20
MOST_ITEMS = 100
MOST_ATTRIBUTES = 100
PRODUCT_ID_BYTES = 256
_LANGUAGE = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$"


def _file(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("has to be a text of base64")  # noqa: TRY004 - pydantic takes a ValueError for the caller's
    try:
        data = base64.b64decode(value.partition(",")[2] if value.startswith("data:") else value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is no base64") from error
    if not data:
        raise ValueError("is empty")
    return data


def _bounded(most_bytes: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text.encode()) > most_bytes:
            raise ValueError(f"takes more than {most_bytes} bytes")
        if text != text.strip() or "\0" in text:
            raise ValueError("begins or ends with a space, or holds a NUL")
        return text

    return AfterValidator(check)


ProductId = Annotated[
    str,
    Field(min_length=1, max_length=PRODUCT_ID_BYTES, description=f"up to {PRODUCT_ID_BYTES} bytes of UTF-8"),
    _bounded(PRODUCT_ID_BYTES),
]
ImageId = Annotated[
    str,
    Field(min_length=1, max_length=MAX_IMAGE_ID_BYTES),
    _bounded(MAX_IMAGE_ID_BYTES),
]
Moment = Annotated[
    AwareDatetime | None,
    Field(description="RFC 3339; when the change was made, default now: an older one never overwrites a newer one"),
]


class Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageBody(Sent):
    """An image by its address or by its file."""

    image_id: ImageId | None = Field(None, description="default: made of the product's id and of `url` or the file")
    url: str | None = Field(None, pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://", max_length=4000, description="https or http")
    image: Annotated[bytes | None, BeforeValidator(_file, json_schema_input_type=str)] = Field(
        None, description="the file, a JPEG, PNG, WebP, AVIF or HEIC, as base64"
    )

    @model_validator(mode="after")
    def _has_one(self) -> ImageBody:
        if (self.url is None) == (self.image is None):
            raise ValueError("an image has either a url or its file as image, base64")
        return self


class PriceBody(Sent):
    amount: Decimal = Field(ge=0, max_digits=20, description="in the currency's units, as text", examples=["19.90"])
    currency: str = Field(pattern="^[A-Z]{3}$", description="ISO 4217", examples=["EUR"])


class ProductBody(Sent):
    """A product, as it is to be: what is left out, it does not have."""

    product_id: ProductId | None = Field(None, description="in a PUT the address tells it, so it may be left out")
    parent_id: str | None = Field(None, max_length=256, description="what colour variants of one style share")
    images: tuple[ImageBody, ...] = Field(min_length=1, max_length=MOST_IMAGES)
    title: dict[Annotated[str, Field(pattern=_LANGUAGE)], str] = Field(
        {}, description="by language; `und` where that is not known", examples=[{"en": "Chair"}]
    )
    category: str | None = Field(None, max_length=512, description="the whole path", examples=["Living/Chairs"])
    price: PriceBody | None = None
    in_stock: bool = True
    attributes: dict[str, Scalar | list[Scalar]] = Field({}, max_length=MOST_ATTRIBUTES)
    at: Moment = None

    def change(self, product_id: str | None = None) -> Put:
        """Return what is asked for; raises BadParameter where the id is missing, or another than the address says."""
        named = self.product_id if product_id is None else product_id
        if named is None:
            raise BadParameter("product_id is missing; each item needs one")
        if self.product_id not in (None, named):
            raise BadParameter(f"the body is about product {self.product_id!r}, the address about another one")
        return Put(
            product_id=named,
            images=tuple(GivenImage(each.url or "", each.image or b"", each.image_id) for each in self.images),
            parent_id=self.parent_id or "",
            titles=self.title,
            category=self.category or "",
            price=None if self.price is None else (format(self.price.amount, "f"), self.price.currency),
            in_stock=self.in_stock,
            attributes=self.attributes,
            at_ms=milliseconds(self.at),
        )


class UpsertItem(ProductBody):
    event: Literal["upsert"] = "upsert"
    product_id: ProductId


class DeleteItem(Sent):
    event: Literal["delete"]
    product_id: ProductId
    at: Moment = None

    def change(self) -> Removal:
        return Removal(self.product_id, milliseconds(self.at))


Body = TypeVar("Body", bound=Sent)


class BatchBody(Sent):
    """Changes of several products; of one product, the last one wins."""

    items: list[UpsertItem | DeleteItem] = Field(min_length=1, max_length=MOST_ITEMS)


class ChangeWire(Wire):
    product_id: str | None
    status: Result | None = Field(
        description="`stored`; `unchanged`, it was so; `stale`, a newer change has been there; `deleted`; null where "
        "there is a problem"
    )
    at: str | None = Field(description="RFC 3339; the time that the change is of")


class ChangeAnswer(ChangeWire):
    request_id: str


class ItemWire(ChangeWire):
    problem: Problem | None = Field(description="why the item was not stored")


class BatchAnswer(Wire):
    request_id: str
    items: list[ItemWire] = Field(description="in the order in which they were sent")


_PRODUCT_ID: TypeAdapter[str] = TypeAdapter(ProductId)


def check_product_id(product_id: str) -> None:
    """Raise BadParameter where an address names what can be no product."""
    try:
        _PRODUCT_ID.validate_python(product_id)
    except ValidationError as error:
        raise BadParameter(f"product_id: {first_message(error)}") from error


def read_product(values: Any) -> ProductBody:
    """Return a product; raises BadParameter, which says what the first wrong value may be."""
    return _read(ProductBody, values)


def read_items(values: Any) -> list[Any]:
    """Return the items of a batch, each still to be read; raises BadParameter."""
    if not isinstance(values, Mapping) or set(values) != {"items"} or not isinstance(values["items"], list):
        raise BadParameter('the body is {"items": […]}, each like {"event": "delete", "product_id": "7"}')
    if not 1 <= len(values["items"]) <= MOST_ITEMS:
        raise BadParameter(f"a batch has 1 to {MOST_ITEMS} items, not {len(values['items'])}; send several batches")
    return values["items"]


def read_item(values: Any) -> Change:
    """Return what an item of a batch asks for; raises BadParameter."""
    if not isinstance(values, Mapping):
        raise BadParameter('an item has to be an object, like {"event": "delete", "product_id": "7"}')
    if values.get("event", "upsert") not in ("upsert", "delete"):
        raise BadParameter("event is upsert or delete")
    if values.get("event") == "delete":
        return _read(DeleteItem, values).change()
    return _read(UpsertItem, values).change()


def change_answer(changed: Changed, request_id: str) -> ChangeAnswer:
    return ChangeAnswer(
        request_id=request_id,
        product_id=changed.product_id,
        status=changed.result,
        at=time_text(changed.at_ms),
    )


def item_wire(changed: Changed, request_id: str) -> ItemWire:
    """Return what a batch answers for one change."""
    return ItemWire(
        product_id=changed.product_id or None,
        status=changed.result,
        at=None if changed.refusal is not None else time_text(changed.at_ms),
        problem=None if changed.refusal is None else problem_of(changed.refusal, request_id),
    )


def milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _read(kind: type[Body], values: Any) -> Body:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise BadParameter(reason_of(error, kind)) from error
