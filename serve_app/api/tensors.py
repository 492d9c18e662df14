"""Shapes of the Open Inference Protocol: https://github.com/kserve/open-inference-protocol."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.errors import BadParameter, EmptyBody, PhotoTooLarge

IMAGE = "image"
BINARY = ("binary_data", "binary_data_output")
"""Parameters of an extension that sends tensors as bytes after the JSON, which is not spoken here."""
MOST_PHOTOS = 10
"""Of one request: as many as the objects of one search."""
DIGITS = 8
"""Decimals of a float32 that is below 1."""

Datatype = Literal["BYTES", "FP32", "INT32"]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InputTensor(_Given):
    name: str = Field(description=f"`{IMAGE}`")
    shape: list[int] = Field(max_length=2, description="[n], or [n, 1]")
    datatype: str = Field(description="`BYTES`")
    parameters: dict[str, Any] = Field({}, description="not read")
    data: list[str] = Field(max_length=MOST_PHOTOS, description="JPEG, PNG or WebP photos, as base64")


class WantedOutput(_Given):
    name: str
    parameters: dict[str, Any] = {}


class InferenceBody(_Given):
    id: str | None = Field(None, max_length=256, description="comes back with the answer")
    parameters: dict[str, Any] = Field({}, description="not read")
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[WantedOutput] = Field([], max_length=8, description="default: all")


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorWire(_Told):
    name: str
    datatype: Datatype
    shape: list[int] = Field(description="-1 stands for any number")


class OutputWire(TensorWire):
    data: list[Any] = Field(description="row by row, flat")


class ModelWire(_Told):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorWire]
    outputs: list[TensorWire]


class ModelReadyWire(_Told):
    name: str
    ready: bool


class ServerWire(_Told):
    name: str
    version: str
    extensions: list[str]


class InferenceWire(_Told):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputWire]


class InferenceProblem(_Told):
    """What went wrong, as the protocol has it."""

    error: str


@dataclass(frozen=True, slots=True)
class Request:
    """Hold the photos of a request, its id, and the outputs that it asks for: none for all."""

    photos: tuple[bytes, ...]
    id: str | None
    wanted: frozenset[str]


def read_request(values: Any, most: int, max_bytes: int) -> Request:
    """Read the body of a request of at most so many photos; raises BadParameter, EmptyBody and PhotoTooLarge."""
    try:
        body = InferenceBody.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise BadParameter(f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}") from error
    (tensor,) = body.inputs
    if (tensor.name, tensor.datatype) != (IMAGE, "BYTES"):
        raise BadParameter(
            f"the input is {IMAGE} of the datatype BYTES, not {tensor.name[:64]} of {tensor.datatype[:64]}"
        )
    count = len(tensor.data)
    if tensor.shape not in ([count], [count, 1]):
        raise BadParameter(f"the input has the shape {tensor.shape}, and {count} elements")
    if not 1 <= count <= most:
        raise BadParameter(f"the input has {count} photos; send 1 to {most} at once")
    if any(
        given.get(name) for given in (body.parameters, *(each.parameters for each in body.outputs)) for name in BINARY
    ):
        raise BadParameter("binary tensors are not spoken here; leave binary_data out")
    photos = tuple(_photo(text, max_bytes) for text in tensor.data)
    return Request(photos, body.id, frozenset(each.name for each in body.outputs))


def _photo(text: str, max_bytes: int) -> bytes:
    try:
        photo = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadParameter(f"an element of {IMAGE} is no base64: {error}") from error
    if not photo:
        raise EmptyBody(f"an element of {IMAGE} is empty; send photos as base64")
    if len(photo) > max_bytes:
        raise PhotoTooLarge(f"a photo is larger than {max_bytes / 2**20:.0f} MiB; send a smaller one")
    return photo


def floats(name: str, shape: Sequence[int], values: Sequence[float]) -> OutputWire:
    """Return a tensor of numbers, row by row."""
    return OutputWire(name=name, datatype="FP32", shape=list(shape), data=[round(value, DIGITS) for value in values])


def wanted_only(outputs: Sequence[OutputWire], wanted: frozenset[str]) -> list[OutputWire]:
    """Return the outputs that were asked for; raises BadParameter where there is no such output."""
    names = [each.name for each in outputs]
    unknown = sorted(wanted - set(names))
    if unknown:
        raise BadParameter(f"there is no output {unknown[0][:64]!r}; known are {', '.join(names)}")
    return [each for each in outputs if not wanted or each.name in wanted]
