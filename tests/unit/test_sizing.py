"""What an index takes in memory, and what a server tells of its own."""

import json
from typing import Any

import pytest

from serve_app.milvus.sizing import SCALAR_BYTES, free_of, row_bytes


@pytest.mark.parametrize(
    ("index_type", "measured"),
    [("FLAT", 1024), ("HNSW", 1168), ("HNSW_SQ", 400), ("IVF_SQ8", 275), ("IVF_RABITQ", 315)],
)
def test_an_index_takes_about_what_was_measured_with_faiss(index_type: str, measured: int) -> None:
    assert row_bytes(index_type, hnsw_m=16) - SCALAR_BYTES == pytest.approx(measured, rel=0.05)


def node(kind: str, name: str, ip: str, memory: int, usage: int) -> dict[str, Any]:
    return {
        "infos": {"type": kind, "name": name, "hardware_infos": {"ip": ip, "memory": memory, "memory_usage": usage}}
    }


def test_query_nodes_of_several_machines_are_added_up() -> None:
    nodes = [
        node("querynode", "a", "10.0.0.1:21123", 100, 30),
        node("querynode", "b", "10.0.0.2:21123", 100, 10),
        node("proxy", "c", "10.0.0.3:19529", 100, 0),
    ]
    assert free_of(json.dumps({"nodes_info": nodes})) == 160


def test_query_nodes_of_one_machine_share_its_memory() -> None:
    nodes = [node("querynode", name, f"10.0.0.1:{port}", 100, 30) for name, port in (("a", 1), ("b", 2))]
    assert free_of(json.dumps({"nodes_info": nodes})) == 70


@pytest.mark.parametrize("answer", ["", "{", "{}", '{"nodes_info": []}', '{"nodes_info": [{"infos": {}}]}'])
def test_a_server_that_tells_nothing_is_unknown(answer: str) -> None:
    assert free_of(answer) is None
