"""Kinds of index: which engine has them, how they are built and searched."""

from __future__ import annotations

from typing import Any

from serve_app.config import MilvusConfig, SearchParams
from serve_app.errors import BadConfig

LITE_TYPES = ("FLAT", "HNSW", "HNSW_SQ", "IVF_SQ8")
"""Milvus Lite accepts any other name too, and serves it by brute force without a word."""

SINCE = {
    "FLAT": (2, 0),
    "HNSW": (2, 0),
    "IVF_SQ8": (2, 0),
    "DISKANN": (2, 2),
    "GPU_CAGRA": (2, 4),
    "HNSW_SQ": (2, 5),
    "IVF_RABITQ": (2, 6),
}
"""The first server with each kind: https://milvus.io/docs/release_notes.md."""

QUANTISED = frozenset({"HNSW_SQ", "IVF_SQ8", "IVF_RABITQ"})
"""Their scores are near the cosine; the exact one is computed anew from the rows' vectors."""


def choose(asked: str, version: tuple[int, ...] | None) -> str:
    """Return the kind of index to make on a server of that version, None for Milvus Lite.

    Raises BadConfig where the engine lacks what is asked, rather than let it make something else.
    """
    if asked == "AUTO":
        return "FLAT" if version is None else "HNSW"
    if version is None and asked not in LITE_TYPES:
        raise BadConfig(
            f"milvus.index_type: Milvus Lite has no {asked}; use one of {', '.join(LITE_TYPES)}, or a server"
        )
    if version and version < SINCE[asked]:
        since, found = (".".join(map(str, numbers)) for numbers in (SINCE[asked], version))
        raise BadConfig(
            f"milvus.index_type: {asked} needs Milvus {since}; this is {found}: use HNSW, or a newer Milvus"
        )
    return asked


def build_params(index_type: str, config: MilvusConfig) -> dict[str, Any]:
    """Return what the index is built with, in Milvus's words."""
    hnsw = {"M": config.hnsw_m, "efConstruction": config.hnsw_ef_construction}
    built: dict[str, dict[str, Any]] = {
        "HNSW": hnsw,
        "HNSW_SQ": hnsw | {"sq_type": "SQ8"},
        "IVF_SQ8": {"nlist": config.ivf_nlist},
        "IVF_RABITQ": {"nlist": config.ivf_nlist, "refine": True, "refine_type": "SQ8"},
        "GPU_CAGRA": {"intermediate_graph_degree": 64, "graph_degree": 32},
    }
    return built.get(index_type, {})


def search_params(params: SearchParams, k: int) -> dict[str, Any]:
    """Return what any kind of index is searched with: each takes its own, so that a switch needs no notice.

    Candidates are never fewer than the `k` rows asked for, which Milvus would refuse.
    """
    return {
        "ef": max(params.ef, k),
        "nprobe": params.nprobe,
        "search_list": max(params.search_list, k),
        "itopk_size": max(params.itopk_size, k),
        "refine_k": params.refine_k,
    }
