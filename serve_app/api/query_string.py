"""Parameters as they stand in a query string."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from serve_app.api.parameters import MOST_OBJECTS, Parameters, Scalar
from serve_app.api.schemas import schema_of
from serve_app.api.uploads import IMAGES
from serve_app.errors import BadParameter

BOX, ATTRIBUTE = "box", "attr."
"""What boxes and attributes are called in a query string, where each is repeated with its name."""
REPEATED = (BOX, "category", "facets")
QUERY_NAMES = {"boxes": BOX, "attributes": f"{ATTRIBUTE}NAME"}


def query_values(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of a query string by the names of `Parameters`.

    Raises BadParameter for names that are unknown or not built yet, and for those that are wrongly repeated.
    """
    values: dict[str, Any] = {}
    for name, text in items:
        if name.startswith(ATTRIBUTE):
            readings = values.setdefault("attributes", {}).setdefault(name.removeprefix(ATTRIBUTE), [])
            readings += _readings(text)
        elif name in REPEATED:
            values.setdefault("boxes" if name == BOX else name, []).append(text)
        else:
            _check_name(name)
            if name in values:
                raise BadParameter(f"{name} is given more than once; give it once")
            values[name] = text
    return values


def _readings(text: str) -> list[Scalar]:
    """Return what a text of a query string may stand for: a catalogue has sizes as texts or as numbers."""
    readings: list[Scalar] = [text]
    if text in ("true", "false"):
        readings.append(text == "true")
    elif re.fullmatch(r"-?\d{1,15}", text):
        readings.append(int(text))
    elif re.fullmatch(r"-?\d{1,15}\.\d{1,15}", text):
        readings.append(float(text))
    return readings


def _check_name(name: str) -> None:
    if name == IMAGES:
        raise BadParameter(f"{IMAGES} are sent in a JSON body, each as base64")
    if name not in Parameters.model_fields or name in QUERY_NAMES:
        known = ", ".join(QUERY_NAMES.get(field, field) for field in Parameters.model_fields)
        raise BadParameter(f"there is no parameter {name!r}; known are {known}")


def merged(query: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a query string and of a JSON body; raises BadParameter for what both hold."""
    twice = sorted(query.keys() & body.keys())
    if twice:
        raise BadParameter(f"{twice[0]} stands in the query string and in the body; give it once")
    return {**query, **body}


def query_documentation(*, only: Iterable[str] = (), but: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the parameters, those of `only` where it names any, as OpenAPI describes those of a query string."""
    described = schema_of(Parameters)["properties"]
    wanted, left_out = tuple(only) or tuple(described), tuple(but)
    return [
        _documented(QUERY_NAMES.get(name, name), dict(schema))
        for name, schema in described.items()
        if name in wanted and name not in left_out
    ]


def _documented(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    description = schema.pop("description")
    schema.pop("title", None)
    if name == BOX:
        schema = {"type": "array", "items": {"type": "string"}, "maxItems": MOST_OBJECTS}
        description += "; repeatable, written like 0.1,0.2,0.6,0.9"
    if name == QUERY_NAMES["attributes"]:
        schema = {"type": "array", "items": {"type": "string"}}
        description = "only products whose attribute NAME, a column of the catalogue, is one of these; repeatable"
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
