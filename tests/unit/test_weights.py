import hashlib
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from serve_app.errors import BadWeights
from serve_app.weights import loader
from serve_app.weights.loader import (
    ARCHITECTURE,
    NETWORK,
    ONNX,
    Ingredients,
    architecture_in,
    digest,
    embedder_files,
    fingerprint,
    load_tensors,
    verify,
)

INGREDIENTS = Ingredients("a" * 64, "b" * 64)


def test_release_has_the_weights_it_was_made_for():
    files = embedder_files()
    verify(files.backbone, loader.BACKBONE_SHA256)
    verify(files.head, loader.HEAD_SHA256)


def test_head_fits_the_repository():
    assert embedder_files().head.stat().st_size <= 4_000_000


def test_fingerprint_is_twelve_hex_digits_and_stable():
    assert fingerprint() == fingerprint(embedder_files())
    assert len(fingerprint()) == 12
    int(fingerprint(), 16)


@pytest.mark.parametrize(
    "change",
    [
        {"backbone_sha256": "c" * 64},
        {"head_sha256": "c" * 64},
        {"architecture": "other"},
        {"input_side_px": 256},
        {"crop_rule": "letterbox"},
        {"preprocessing_version": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_ingredient_changes_the_fingerprint(change):
    assert replace(INGREDIENTS, **change).fingerprint() != INGREDIENTS.fingerprint()


def test_head_of_a_shop_has_a_fingerprint_of_its_own(tmp_path):
    head = tmp_path / "head.safetensors"
    head.write_bytes(b"another head")
    assert digest(head) == hashlib.sha256(b"another head").hexdigest()
    assert fingerprint(embedder_files(head)) != fingerprint()


def test_other_bytes_are_refused(tmp_path):
    path = tmp_path / "yolo26n.pt"
    path.write_bytes(b"not the weights")
    with pytest.raises(BadWeights, match="is not the weights file it should be"):
        verify(path, loader.DETECTOR_SHA256)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(BadWeights, match=r"head\.safetensors can't be read"):
        fingerprint(embedder_files(tmp_path / "head.safetensors"))


def test_file_that_holds_no_tensors_is_refused(tmp_path):
    path = tmp_path / "head.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(BadWeights, match="is no safetensors file"):
        load_tensors(path, digest(path))


def saved(path, **metadata):
    save_file({"fc.bias": np.zeros(256, np.float32)}, path, metadata)
    return path


def test_release_s_head_is_on_its_own_backbone():
    files = embedder_files()
    assert architecture_in(files.head) == files.architecture == ARCHITECTURE
    assert not embedder_files(files.head).is_whole


def test_network_of_a_shop_is_backbone_and_head_at_once(tmp_path):
    path = saved(tmp_path / "own.safetensors", architecture=NETWORK)
    files = embedder_files(path)
    assert (files.backbone, files.head, files.architecture, files.is_whole) == (path, path, NETWORK, True)
    assert fingerprint(files) == Ingredients(digest(path), digest(path), NETWORK).fingerprint()


def test_onnx_file_is_a_network(tmp_path):
    path = tmp_path / "own.onnx"
    path.write_bytes(b"a graph")
    assert embedder_files(path).architecture == ONNX
    assert fingerprint(embedder_files(path)) != fingerprint(saved_head(tmp_path, b"a graph"))


def saved_head(tmp_path, data: bytes):
    path = tmp_path / "head.safetensors"
    path.write_bytes(data)
    return embedder_files(path)


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x02" + 7 * b"\0" + b"[]", b"\x02" + 7 * b"\0" + b"{}", b"PK" * 99])
def test_file_that_is_no_safetensors_file_says_no_architecture(tmp_path, data):
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    assert architecture_in(path) == ""
    assert architecture_in(tmp_path / "none") == ""
    assert architecture_in(saved(tmp_path / "timm.safetensors", format="pt")) == ""
