"""Unit tests use neither Ray nor torch nor Milvus."""

import sys

import pytest

FORBIDDEN = {"ray", "torch", "pymilvus", "ultralytics"}


@pytest.fixture(autouse=True)
def no_heavy_library():
    before = FORBIDDEN & set(sys.modules)
    yield
    loaded = (FORBIDDEN & set(sys.modules)) - before
    assert not loaded, f"a unit test imported {sorted(loaded)}"
