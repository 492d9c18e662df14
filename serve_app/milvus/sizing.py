"""How much memory an index takes, and how much Milvus says it has."""

from __future__ import annotations

import json

from serve_app.domain import EMBEDDING_DIM

SCALAR_BYTES = 700
"""Loaded fields of a row besides the vector: ids and hashes of about 400 bytes, and as much of `data`."""
HEADROOM = 1.3
"""Growing segments, and loading while an older version is still held."""


def row_bytes(index_type: str, hnsw_m: int) -> int:
    """Return the bytes in memory of one row: its index entry, and its loaded fields."""
    return index_bytes(index_type, hnsw_m) + SCALAR_BYTES


def index_bytes(index_type: str, hnsw_m: int) -> int:
    """Return the bytes in memory of one row's index entry.

    HNSW keeps 2 M links of 4 bytes at the lowest level and about a tenth of that above; SQ8 a byte per number.
    """
    raw, links = 4 * EMBEDDING_DIM, int(8.8 * hnsw_m)
    index = {
        "FLAT": raw,
        "HNSW": raw + links,
        "HNSW_SQ": EMBEDDING_DIM + links,
        "IVF_SQ8": EMBEDDING_DIM + 16,
        "IVF_RABITQ": EMBEDDING_DIM + 60,
        "DISKANN": raw // 4,
        "GPU_CAGRA": int(1.8 * raw),
    }
    return index.get(index_type, raw + links)


def free_of(system_info: str) -> int | None:
    """Read the free memory of the query nodes from Milvus's `system_info`."""
    try:
        nodes = [entry["infos"] for entry in json.loads(system_info)["nodes_info"]]
        found = {
            (info["hardware_infos"]["ip"], info["name"]): info["hardware_infos"]
            for info in nodes
            if info.get("type") in ("querynode", "standalone")
        }
        hosts = {ip.split(":")[0]: hardware for (ip, _), hardware in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    # Nodes on one machine share its memory.
    return sum(hardware["memory"] - hardware["memory_usage"] for hardware in hosts.values()) if hosts else None
