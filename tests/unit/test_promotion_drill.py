"""What the drill of promotions is made of: its models, its photos, and how answers are compared."""

import numpy as np
import pytest

from scripts.promotion_drill import BLUNT_NUMBERS, _same, _write_head
from serve_app.weights.loader import digest, embedder_files, fingerprint, load_tensors


def projection(path):
    return load_tensors(path, digest(path)).tensors["projection"].astype(np.float64)


def similarities(embeddings):
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return unit @ unit.T


def test_turned_head_is_as_good_by_other_numbers(tmp_path):
    model = _write_head(tmp_path / "head.safetensors", "turned")
    assert model != fingerprint()
    pooled = np.random.default_rng(1).standard_normal((20, 7680))
    starter, turned = (pooled @ projection(path).T for path in (embedder_files().head, tmp_path / "head.safetensors"))
    assert similarities(turned) == pytest.approx(similarities(starter), abs=2e-3)
    assert abs(similarities(np.vstack([starter, turned]))[:20, 20:].diagonal()).max() < 0.5


def test_blunt_head_keeps_a_few_numbers(tmp_path):
    assert _write_head(tmp_path / "head.safetensors", "blunt") != fingerprint()
    kept = np.flatnonzero(np.abs(projection(tmp_path / "head.safetensors")).sum(axis=1))
    assert kept.tolist() == list(range(BLUNT_NUMBERS))


def test_answers_are_the_same_but_for_last_digits():
    assert _same([("a", 0.9), ("b", 0.5)], [("a", 0.9004), ("b", 0.5)])
    assert not _same([("a", 0.9), ("b", 0.5)], [("b", 0.9), ("a", 0.5)])
    assert not _same([("a", 0.9)], [("a", 0.8)])
    assert not _same([("a", 0.9)], [("a", 0.9), ("b", 0.5)])
