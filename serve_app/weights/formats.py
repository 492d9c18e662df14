"""The formats that the detector is exported in; importing it costs nothing, as the command line's help does."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """Name what a phone's runtime takes, as Ultralytics does."""

    ONNX = "onnx"
    NCNN = "ncnn"
    LITERT = "litert"
    COREML = "coreml"
