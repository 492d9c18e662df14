"""What the benchmarks compute, held against what can be counted by hand."""

import numpy as np
import pytest

from scripts import synthetic
from scripts.bench_import import Watched


def test_exact_neighbours_are_found_across_chunks(monkeypatch):
    monkeypatch.setattr(synthetic, "CHUNK_ROWS", 7)
    rng = np.random.default_rng(5)
    vectors = synthetic.clustered(rng, 50, rows_a_cluster=10)
    queries = synthetic.queries_near(rng, vectors, 4)
    whole = np.argsort(-(queries @ vectors.T), axis=1)[:, :3]
    assert [set(row) for row in synthetic.exact(vectors, queries, 3)] == [set(row) for row in whole]


def test_made_up_embeddings_have_length_one_and_neighbours():
    rng = np.random.default_rng(5)
    vectors = synthetic.clustered(rng, 200, rows_a_cluster=20)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    scores = np.sort(vectors @ vectors[0])
    assert scores[-2] > 0.5 > scores[100]


def test_rate_of_an_import_leaves_its_start_out():
    watched = Watched(seconds=30.0)
    watched.add({"statuses": {"unchanged": 5}, "work": {}}, 2.0)
    watched.add({"statuses": {"embedded": 16}, "work": {"embed": 1.5}}, 10.0)
    watched.add({"statuses": {"embedded": 40}, "work": {"embed": 1.5}}, 30.0)
    assert watched.start_s == 10.0
    assert watched.rate == pytest.approx(40 / 20)
    assert watched.work["embed"] == 3.0


def test_growth_of_memory_compares_the_end_with_an_import_under_way():
    watched = Watched(seconds=110.0, start_s=10.0)
    watched.memory = [(float(second), 100.0 if second < 30 else 200.0) for second in range(111)]
    assert watched.growth() == pytest.approx(1.0)
    watched.memory = [(float(second), 100.0 + second) for second in range(111)]
    assert watched.growth() > 1.2
