"""Schemas of what is read by hand, as the API's description holds them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

_REFERENCE = "#/components/schemas/{model}"


def schema_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Return a model's schema, which refers to `parts_of` it among the description's components."""
    schema = _whole(kind)
    schema.pop("$defs", None)
    return schema


def parts_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the schemas that a model's schema refers to, by their names."""
    parts: dict[str, Any] = _whole(kind).get("$defs", {})
    return parts


def _whole(kind: type[BaseModel]) -> dict[str, Any]:
    return kind.model_json_schema(ref_template=_REFERENCE)
