import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.collection import Row
from serve_app.domain import View
from serve_app.evaluation.memory_index import MemoryIndex
from serve_app.filters import Filter
from serve_app.pipeline import Embedded


def row(name: str, vector, product: str = "", sha: str = "", **more) -> Row:
    unit = np.zeros(4, np.float32)
    unit[: len(vector)] = vector
    return Row(
        image_id=name,
        view=View.WHOLE,
        vector=unit / np.linalg.norm(unit),
        product_id=product or name,
        image_sha256=sha or name,
        row_sha256="",
        updated_at=0,
        **more,
    )


def index(*rows: Row) -> MemoryIndex:
    made = MemoryIndex()
    made.write(rows)
    return made


async def ids(searcher, vector, k=10, wanted=None):
    embedding = np.zeros((1, 4), np.float32)
    embedding[0, : len(vector)] = vector / np.linalg.norm(vector)
    found = await searcher.search(Embedded(embedding, "m"), k, *([wanted] if wanted else []))
    return [hit.image_id for hit in found.hits[0]]


async def test_the_nearest_rows_come_first():
    assert await ids(index(row("far", [0, 1]), row("near", [1, 0]), row("mid", [1, 1])).without([]), [1, 0.1]) == [
        "near",
        "mid",
        "far",
    ]


async def test_what_is_left_out_is_not_found_and_its_place_is_taken():
    rows = index(row("a", [1, 0]), row("b", [1, 0.1]), row("c", [1, 0.2]))
    assert await ids(rows.without(["a"]), [1, 0], k=2) == ["b", "c"]


async def test_everything_left_out_leaves_nothing():
    assert await ids(index(row("a", [1, 0])).without(["a"]), [1, 0]) == []


async def test_equal_scores_are_ordered_by_row():
    assert await ids(index(*(row(name, [1, 0]) for name in "cab")).without([]), [1, 0], k=2) == ["a", "b"]


async def test_only_rows_that_pass_a_filter_are_found():
    rows = index(row("a", [1, 0], category="Men"), row("b", [0, 1], category="Women"))
    assert await ids(rows.without([]), [1, 0], k=1, wanted=Filter(categories=("Women",))) == ["b"]


def test_copies_are_files_of_the_same_bytes_and_product():
    rows = index(row("a", [1], "p", "s"), row("b", [1], "p", "s"), row("c", [1], "q", "s"), row("d", [1], "p", "t"))
    assert rows.copies("s", ["p"]) == {"a", "b"}
    assert rows.copies("", ["p"]) == frozenset()


def test_the_nearest_for_a_recording_come_with_their_values():
    (found,) = index(row("a", [1, 0], phash="ff"), row("b", [0, 1])).nearest([np.array([1, 0, 0, 0], np.float32)], 1)
    assert (found[0]["image_id"], found[0]["phash"], found[0]["score"]) == ("a", "ff", 1.0)


def test_an_empty_index_has_nothing_near():
    assert MemoryIndex().nearest([np.ones(4, np.float32)] * 2, 3) == [[], []]


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_the_best_are_those_of_a_full_sort(number, k, seed):
    random = np.random.default_rng(seed)
    vectors = random.integers(-1, 2, (number, 4)) + np.array([0, 0, 0, 2])
    rows = index(*(row(f"{i:02}", vector) for i, vector in enumerate(vectors)))
    query = np.array([0.5, 0.5, 0.5, 0.5], np.float32)
    scores = {f"{i:02}": float((vector / np.linalg.norm(vector)).astype(np.float32) @ query) for i, vector in
              enumerate(vectors)}  # fmt: skip
    found = rows.best(query, k, ())
    assert len(found) == min(k, number)
    assert [score for _, score in found] == pytest.approx(sorted(scores.values(), reverse=True)[:k], abs=1e-6)
