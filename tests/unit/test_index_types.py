"""Engines get the index that was asked for, or none."""

import pytest

from serve_app.config import MilvusConfig, SearchParams
from serve_app.errors import BadConfig
from serve_app.milvus.index_types import SINCE, build_params, choose, search_params


@pytest.mark.parametrize(
    ("version", "chosen"), [(None, "FLAT"), ((2, 3, 5), "HNSW"), ((3, 0, 3), "HNSW"), ((), "HNSW")]
)
def test_auto_is_exact_on_lite_and_hnsw_on_servers(version: tuple[int, ...] | None, chosen: str) -> None:
    assert choose("AUTO", version) == chosen


@pytest.mark.parametrize("index_type", SINCE)
def test_a_new_server_has_every_kind(index_type: str) -> None:
    assert choose(index_type, (3, 0, 3)) == index_type


@pytest.mark.parametrize("index_type", ["HNSW_SQ", "IVF_RABITQ", "GPU_CAGRA"])
def test_an_old_server_is_told_what_it_lacks(index_type: str) -> None:
    with pytest.raises(BadConfig, match=f"{index_type} needs Milvus"):
        choose(index_type, (2, 3, 5))


def test_quantised_kinds_are_built_as_sized_in_the_runbook() -> None:
    config = MilvusConfig(hnsw_m=24, ivf_nlist=4096)
    assert build_params("HNSW_SQ", config) == {"M": 24, "efConstruction": 200, "sq_type": "SQ8"}
    assert build_params("IVF_RABITQ", config) == {"nlist": 4096, "refine": True, "refine_type": "SQ8"}


def test_candidates_are_never_fewer_than_the_rows_asked_for() -> None:
    found = search_params(SearchParams(ef=64, search_list=64, itopk_size=64), 400)
    assert (found["ef"], found["search_list"], found["itopk_size"]) == (400, 400, 400)
