"""What a CPU can compute with, as far as that decides which kernels a runtime picks."""

from __future__ import annotations

import platform
from pathlib import Path

FEATURES = (
    "avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "bf16", "i8mm", "sve",
)  # fmt: skip
"""As Linux names them in /proc/cpuinfo."""


def cpu_features(cpuinfo: str | None = None, machine: str | None = None) -> tuple[str, ...]:
    """Return the machine's kind and those of FEATURES that its first core has."""
    if cpuinfo is None:
        path = Path("/proc/cpuinfo")
        cpuinfo = path.read_text(encoding="utf-8") if path.exists() else ""
    words: set[str] = set()
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            words = set(value.split())
            break
    return (machine or platform.machine(), *(name for name in FEATURES if name in words))


def has_bf16(features: tuple[str, ...]) -> bool:
    """Tell whether bf16 is computed, rather than made of float32."""
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(features)
