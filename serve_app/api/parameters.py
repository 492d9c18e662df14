"""What a search may be asked for: names, ranges, and how they stand in a query string."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema

from serve_app.domain import Box, Source
from serve_app.errors import BadParameter
from serve_app.objects import Focus
from serve_app.pipeline import Query

MOST_OBJECTS = 10
NOT_YET = frozenset({
    "category", "price_min", "price_max", "in_stock", "group_by", "language", "currency", "min_match",
    "sort", "images", "url", "attributes",
})  # fmt: skip
"""Names that version 1 reserves; refused, rather than ignored, until they work."""

RANDOM_TEXT = "^[A-Za-z0-9_-]{1,64}$"
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
    cursor: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="an object's `next`: answers with the next page of its products, as they are now; needs no photo. "
        "Other parameters than `top_k` are left out, or repeated as they were",
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
    min_score: float | None = Field(
        None, ge=-1, le=1, allow_inf_nan=False, description="products with a lower cosine are left out"
    )
    consistency: Literal["bounded", "strong"] = Field(
        "bounded", description="`strong` sees every write acknowledged before the search, and takes up to a second more"
    )

    def query(self) -> Query:
        """Return what is asked for; raises BadParameter where two parameters contradict each other."""
        return Query(
            top_k=self.top_k,
            focus=self._focus(),
            min_score=self.min_score,
            strong=self.consistency == "strong",
        )

    @property
    def asks_beside_a_cursor(self) -> bool:
        """Tell whether more is given than a cursor and what may differ from page to page."""
        return bool(self.model_fields_set - {"cursor", "token", "top_k"})

    def _focus(self) -> Focus:
        if "box_source" in self.model_fields_set and not self.boxes:
            raise BadParameter("box_source says who drew the boxes; give a box, or leave it out")
        if self.boxes and self.objects == "whole":
            raise BadParameter("objects=whole searches the whole photo; give it without a box, or the box without it")
        named = {"whole": 0, "main": MOST_OBJECTS, "all": MOST_OBJECTS}
        searched = named[self.objects] if isinstance(self.objects, str) else self.objects
        return Focus(searched, self.objects == "main", self.boxes, Source(self.box_source))


QUERY_NAMES = {"boxes": "box"}
"""Parameters that are called otherwise in a query string, where each value is repeated with its name."""
_JSON_NAMES = {query: name for name, query in QUERY_NAMES.items()}


def query_values(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of a query string by the names of `Parameters`.

    Raises BadParameter for names that are unknown or not built yet, and for repeated ones.
    """
    values: dict[str, Any] = {}
    for given, text in items:
        name = _JSON_NAMES.get(given, given)
        _check_name(given, name)
        if given in _JSON_NAMES:
            values.setdefault(name, []).append(text)
        elif name in values:
            raise BadParameter(f"{name} is given more than once; give it once")
        else:
            values[name] = text
    return values


def _check_name(given: str, name: str) -> None:
    if given in NOT_YET or given.startswith("attr."):
        raise BadParameter(f"{given} is not available yet; leave it out")
    if name not in Parameters.model_fields or given in QUERY_NAMES:
        known = ", ".join(QUERY_NAMES.get(field, field) for field in Parameters.model_fields)
        raise BadParameter(f"there is no parameter {given!r}; known are {known}")


def read_parameters(values: Mapping[str, Any]) -> Parameters:
    """Return the parameters with these values; raises BadParameter, which says what the first wrong one may be."""
    for name in values:
        if name in NOT_YET:
            raise BadParameter(f"{name} is not available yet; leave it out")
    try:
        return Parameters.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(Parameters.model_fields)
            raise BadParameter(f"there is no parameter {name!r}; known are {known}") from error
        raise BadParameter(f"{name}: {first['msg'].removeprefix('Value error, ')}") from error


def merged(query: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a query string and of a JSON body; raises BadParameter for what both hold."""
    twice = sorted(query.keys() & body.keys())
    if twice:
        raise BadParameter(f"{twice[0]} stands in the query string and in the body; give it once")
    return {**query, **body}


def body_schema() -> dict[str, Any]:
    """Return the schema of a JSON body."""
    schema = Parameters.model_json_schema()
    image = {"type": "string", "contentEncoding": "base64", "description": "a JPEG, PNG or WebP photo"}
    return {**schema, "title": "Search", "properties": {"image": image, **schema["properties"]}}


def query_documentation() -> list[dict[str, Any]]:
    """Return the parameters as OpenAPI describes those of a query string."""
    described = Parameters.model_json_schema()["properties"]
    return [_documented(QUERY_NAMES.get(name, name), dict(schema)) for name, schema in described.items()]


def _documented(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    description = schema.pop("description")
    schema.pop("title", None)
    if name == "box":
        schema = {"type": "array", "items": {"type": "string"}, "maxItems": MOST_OBJECTS}
        description += "; repeatable, written like 0.1,0.2,0.6,0.9"
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
