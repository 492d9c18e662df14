"""What a search may be asked for: names, ranges, and how they stand in a query string."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from serve_app.api.schemas import schema_of
from serve_app.domain import Box, Source
from serve_app.errors import BadParameter
from serve_app.filters import Filter
from serve_app.market import Market
from serve_app.money import PriceRange, minor_units
from serve_app.objects import Focus
from serve_app.pipeline import Query
from serve_app.ranking import Sort

Scalar = StrictStr | StrictBool | StrictInt | StrictFloat

MOST_OBJECTS = 10
MOST_IMAGES = 5
"""Photos of one thing that are searched together."""

RANDOM_TEXT = "^[A-Za-z0-9_-]{1,64}$"
MOST_FACETS = 10
FACET = r"^(category|price|attr\.[^\n]{1,200})$"
OUTSIDE = 1e-6
"""How far rounding on a phone may put a corner outside of the photo."""

_BOX_WORDS = "write it like 0.1,0.2,0.6,0.9: x0,y0,x1,y1 in 0…1 of the photo, x0 below x1, y0 below y1"


def _objects(value: Any) -> Any:
    text = str(value)
    if text in ("main", "whole", "all"):
        return text
    if not isinstance(value, (bool, float)) and text.isdecimal() and 1 <= int(text) <= MOST_OBJECTS:
        return int(text)
    raise ValueError(f"is main, whole, all, or a number from 1 to {MOST_OBJECTS}")


def _box(value: Any) -> Box:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or len(parts) != 4 or any(isinstance(part, bool) for part in parts):
        raise ValueError(_BOX_WORDS)
    try:
        corners = [float(part) for part in parts]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(_BOX_WORDS) from error
    if not all(math.isfinite(corner) and -OUTSIDE <= corner <= 1 + OUTSIDE for corner in corners):
        raise ValueError(_BOX_WORDS)
    box = Box(*(min(1.0, max(0.0, corner)) for corner in corners))
    if not (box.x0 < box.x1 and box.y0 < box.y1):
        raise ValueError(_BOX_WORDS)
    return box


Objects = Annotated[
    str | int,
    BeforeValidator(_objects),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": ["main", "whole", "all"]},
                {"type": "integer", "minimum": 1, "maximum": MOST_OBJECTS},
            ],
        }
    ),
]
GivenBox = Annotated[
    Box,
    PlainValidator(_box),
    WithJsonSchema(
        {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 4, "maxItems": 4}
    ),
]


class Parameters(BaseModel):
    """What a search may be asked for, by the names of a JSON body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str | None = Field(
        None,
        pattern=RANDOM_TEXT,
        description="`photo.token` of an earlier answer: searches with that photo, which need not be sent again",
    )
    url: str | None = Field(
        None,
        min_length=1,
        max_length=4000,
        description="http or https address of the photo, which the service fetches; only from hosts that its settings "
        "name, and not for callers without an API key",
    )
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="an object's `next`: answers with the next page of its products, as they are now; needs no photo. "
        "Other parameters than `top_k`, `language` and `currency` are left out, or all repeated as they were",
    )
    top_k: int = Field(10, ge=1, le=100, description="products per list")
    objects: Objects = Field(
        3,
        description="which objects are searched: so many of the best, or `all`, and the whole photo; `main`, the main "
        "list alone; `whole`, the whole photo alone, without looking for objects. Of given boxes, the first ones",
    )
    boxes: tuple[GivenBox, ...] = Field(
        (),
        max_length=MOST_OBJECTS,
        description="search exactly what these hold, and look for no objects: x0, y0, x1, y1 in 0…1 of the photo",
    )
    box_source: Literal["shopper", "device"] = Field("shopper", description="who drew the boxes")
    category: tuple[str, ...] = Field(
        (), description="only products of these categories, or below them: a whole path like Men/Tops; repeatable"
    )
    price_min: Decimal | None = Field(None, ge=0, description="only products that cost at least this, in `currency`")
    price_max: Decimal | None = Field(None, ge=0, description="only products that cost at most this, in `currency`")
    currency: str | None = Field(
        None,
        pattern="^[A-Z]{3}$",
        description="ISO 4217 code of what prices are shown in, and price_min, price_max and a sort by price are in; "
        "default: each price in the shop's own",
    )
    language: str | None = Field(
        None,
        min_length=1,
        max_length=40,
        description="of titles, categories and the way prices are written, like de or de-AT; default: as "
        "Accept-Language says",
    )
    in_stock: bool | None = Field(None, description="only products that are in stock, or only those that are not")
    attributes: dict[str, tuple[Scalar, ...]] = Field(
        {}, description="only products that have, for each name, one of these values"
    )
    group_by: Literal["product", "parent"] = Field(
        "product", description="`parent`: products of one parent, as the colours of one style, are one"
    )
    sort: Sort = Field(Sort.SIMILARITY, description="by price: among products that are about equally similar")
    facets: tuple[Annotated[str, Field(pattern=FACET)], ...] = Field(
        (),
        max_length=MOST_FACETS,
        description="counts the products of each list, up to 1,000, by `category`, `price` or attributes, `attr.NAME`, "
        "on its first page; repeatable",
    )
    min_score: float | None = Field(
        None, ge=-1, le=1, allow_inf_nan=False, description="products with a lower cosine are left out"
    )
    min_match: float | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="products with a lower `match` are left out; only where the model has a calibration curve",
    )
    consistency: Literal["bounded", "strong"] = Field(
        "bounded", description="`strong` sees every write acknowledged before the search, and takes up to a second more"
    )

    def query(self, market: Market) -> Query:
        """Return what a market's shopper asks for; raises BadParameter where two parameters contradict each other."""
        prices, by_price = self._prices(market), self.sort is not Sort.SIMILARITY
        return Query(
            top_k=self.top_k,
            focus=self._focus(),
            min_score=self.min_score,
            min_match=self.min_match,
            wanted=Filter(
                categories=self.category,
                prices=() if prices is None else market.prices(prices.low, prices.high),
                in_stock=self.in_stock,
                attributes=tuple(self.attributes.items()),
            ),
            strong=self.consistency == "strong",
            by_parent=self.group_by == "parent",
            sort=self.sort,
            currency=market.currency if by_price else None,
            facets=self.facets,
            prices=prices,
            worths=market.worths() if by_price else (),
        )

    @property
    def asks_beside_a_cursor(self) -> bool:
        """Tell whether more is given than a cursor and what may differ from page to page."""
        return bool(self.model_fields_set - {"cursor", "token", "top_k", "language", "currency"})

    def check_together(self, photos: int) -> None:
        """Raise BadParameter for what can't be asked of so many photos of one thing."""
        if "objects" in self.model_fields_set and self.objects not in ("main", "whole"):
            raise BadParameter(
                "images show one thing, which objects=main searches for, or objects=whole by all of them"
            )
        if self.boxes and len(self.boxes) != photos:
            raise BadParameter(
                f"there are {photos} images and {len(self.boxes)} boxes; give each image its box, or none"
            )

    @field_validator("category", "facets", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("attributes", mode="before")
    @classmethod
    def _each_one_or_more(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: each if isinstance(each, (list, tuple)) else (each,) for name, each in value.items()}

    def _prices(self, market: Market) -> PriceRange | None:
        if self.price_min is None and self.price_max is None:
            return None
        if market.currency is None:
            raise BadParameter("price_min and price_max need a currency, like EUR")
        high = None if self.price_max is None else minor_units(self.price_max, market.currency)
        return PriceRange(market.currency, minor_units(self.price_min or Decimal(0), market.currency), high)

    def _focus(self) -> Focus:
        if "box_source" in self.model_fields_set and not self.boxes:
            raise BadParameter("box_source says who drew the boxes; give a box, or leave it out")
        if self.boxes and self.objects == "whole":
            raise BadParameter("objects=whole searches the whole photo; give it without a box, or the box without it")
        named = {"whole": 0, "main": MOST_OBJECTS, "all": MOST_OBJECTS}
        searched = named[self.objects] if isinstance(self.objects, str) else self.objects
        return Focus(searched, self.objects == "main", self.boxes, Source(self.box_source))


def read_parameters(values: Mapping[str, Any]) -> Parameters:
    """Return the parameters with these values; raises BadParameter, which says what the first wrong one may be."""
    try:
        return Parameters.model_validate(dict(values))
    except ValidationError as error:
        raise BadParameter(reason_of(error, Parameters)) from error


def reason_of(error: ValidationError, kind: type[BaseModel]) -> str:
    """Return what the first wrong value of a model may be."""
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return f"there is no parameter {name!r}; known are {', '.join(kind.model_fields)}"
    return f"{name}: {first_message(error)}" if name else first_message(error)


def first_message(error: ValidationError) -> str:
    return error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")


def body_schema() -> dict[str, Any]:
    """Return the schema of a JSON body."""
    schema = schema_of(Parameters)
    image = {"type": "string", "contentEncoding": "base64", "description": "a JPEG, PNG, WebP, AVIF or HEIC photo"}
    images = {
        "type": "array",
        "items": {"type": "string", "contentEncoding": "base64"},
        "minItems": 2,
        "maxItems": MOST_IMAGES,
        "description": "several photos of one thing, each of which counts as a search: answered with one list, that of "
        "what is like any of them. `boxes`, if any, are one for each",
    }
    return {**schema, "title": "Search", "properties": {"image": image, "images": images, **schema["properties"]}}
