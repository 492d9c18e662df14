"""Models in a registry: entries that never change, fetched as they were registered."""

import json

import pytest

from serve_app.calibration import Check
from serve_app.config import Config
from serve_app.errors import BadConfig, BadWeights
from serve_app.folders import Folder
from serve_app.weights.chosen import curve_of, head_of, model_of
from serve_app.weights.loader import DETECTOR_SHA256, embedder_files, fingerprint
from serve_app.weights.registry import (
    CALIBRATION,
    CARD,
    ENTRY,
    HEAD,
    NETWORK_ONNX,
    Registry,
    check_calibration,
    check_evaluation,
)
from tests.unit.builders import curve

A, B = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
FILES = {HEAD: b"weights", CARD: b"# Card"}
NOW = "2026-11-25T12:00:00+00:00"


@pytest.fixture
def registry(tmp_path):
    return Registry(Folder(str(tmp_path / "models")))


def test_entry_is_found_by_fingerprint_and_by_name(registry):
    entry, is_new = registry.add(A, "spring", NOW, FILES)
    assert is_new
    assert registry.find(A) == registry.find("spring") == entry
    assert registry.read(entry, CARD) == b"# Card"
    with pytest.raises(BadConfig, match="no model autumn"):
        registry.find("autumn")


def test_entries_come_newest_first(registry):
    registry.add(A, "spring", NOW, FILES)
    registry.add(B, "summer", "2026-11-26T12:00:00+00:00", FILES)
    assert [each.name for each in registry.entries()] == ["summer", "spring"]


def test_same_model_again_changes_nothing_and_other_files_are_refused(registry):
    registry.add(A, "spring", NOW, FILES)
    assert not registry.add(A, "spring", "2027-01-01T00:00:00+00:00", FILES)[1]
    assert registry.find(A).registered == NOW
    with pytest.raises(BadConfig, match="never changes"):
        registry.add(A, "spring", NOW, FILES | {CARD: b"# Another"})
    with pytest.raises(BadConfig, match="another name"):
        registry.add(B, "spring", NOW, FILES)


def test_registration_that_was_killed_is_no_entry(registry):
    registry.folder.write(f"{A}/{HEAD}", b"half")
    assert registry.entries() == []
    assert registry.add(A, "spring", NOW, FILES)[1]


def test_changed_weights_are_not_used(registry, tmp_path):
    registry.add(A, "spring", NOW, FILES)
    assert registry.fetch(A, tmp_path / "fetched").read_bytes() == b"weights"
    registry.folder.write(f"{A}/{HEAD}", b"changed")
    with pytest.raises(BadWeights, match="was changed"):
        registry.fetch(A, tmp_path / "fetched")


def test_entry_that_says_it_is_another_is_none(registry, tmp_path):
    registry.add(A, "spring", NOW, FILES)
    registry.folder.write(f"{B}/{ENTRY}", registry.folder.read(f"{A}/{ENTRY}"))
    with pytest.raises(BadWeights, match="not that model's"):
        registry.fetch(B, tmp_path)


def test_network_in_onnx_is_fetched_under_its_own_name(registry, tmp_path):
    entry, _ = registry.add(A, "spring", NOW, {NETWORK_ONNX: b"a graph", CARD: b"# Card"})
    assert entry.weights == NETWORK_ONNX
    found = registry.fetch(A, tmp_path / "fetched")
    assert (found.name, found.read_bytes()) == (NETWORK_ONNX, b"a graph")


def config(tmp_path, **embedder):
    return Config(data_dir=tmp_path, embedder=embedder)


def test_settings_name_a_registered_model(tmp_path):
    head = tmp_path / "head.safetensors"
    head.write_bytes(b"weights of a shop")
    model = fingerprint(embedder_files(head))
    Registry(Folder(str(tmp_path / "models"))).add(model, "spring", NOW, {HEAD: head.read_bytes()})
    settings = config(tmp_path, model=model)
    assert model_of(settings) == model
    assert head_of(settings) == tmp_path / "models" / model / HEAD


def test_model_of_another_way_to_make_embeddings_is_refused(tmp_path):
    Registry(Folder(str(tmp_path / "models"))).add(A, "spring", NOW, FILES)
    with pytest.raises(BadWeights, match="in another way"):
        head_of(config(tmp_path, model=A))


def test_release_s_own_model_needs_no_registry(tmp_path):
    assert head_of(config(tmp_path, model=fingerprint())) is None
    assert model_of(config(tmp_path)) == fingerprint()


def test_head_and_model_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="set one of them"):
        config(tmp_path, model=A, head="head.safetensors")


def test_entry_names_the_detector_beside_the_model(registry):
    registry.add(A, "spring", NOW, FILES, "d" * 64)
    registry.add(B, "summer", NOW, FILES)
    assert (registry.find(A).detector_sha256, registry.find(B).detector_sha256) == ("d" * 64, DETECTOR_SHA256)


def shop_s_own(tmp_path, calibration: str | None = None) -> tuple[Registry, str]:
    """Register a head, with a curve of this model."""
    head = tmp_path / "head.safetensors"
    head.write_bytes(b"weights of a shop")
    model = fingerprint(embedder_files(head))
    files = {HEAD: head.read_bytes()}
    if calibration is not None:
        files[CALIBRATION] = curve(calibration or model).model_dump_json().encode()
    registry = Registry(Folder(str(tmp_path / "models")))
    registry.add(model, "spring", NOW, files)
    return registry, model


def test_curve_is_that_of_the_model_s_entry(tmp_path):
    _, model = shop_s_own(tmp_path, "")
    assert curve_of(config(tmp_path, model=model), model) == curve(model)


def test_model_without_a_curve_has_none(tmp_path):
    _, model = shop_s_own(tmp_path)
    assert curve_of(config(tmp_path, model=model), model) is None
    own = fingerprint()
    assert curve_of(config(tmp_path), own) is None
    assert curve_of(config(tmp_path, model=own), own) is None


def test_curve_of_a_file_comes_before_that_of_the_entry_and_without_its_checks(tmp_path):
    _, model = shop_s_own(tmp_path, "")
    checked = Check(products=1, right=1, brier=0, constant_brier=0, error=0, bins=())
    other = curve(model).model_copy(update={"intercept": 5.0, "all_products": checked})
    (tmp_path / "curve.json").write_text(other.model_dump_json())
    found = curve_of(config(tmp_path, model=model, calibration=tmp_path / "curve.json"), model)
    assert found == curve(model).model_copy(update={"intercept": 5.0})


def test_curve_of_another_model_is_never_used(tmp_path):
    (tmp_path / "curve.json").write_text(curve(A).model_dump_json())
    with pytest.raises(BadConfig, match=f"is of the model {A}.*--fit"):
        curve_of(config(tmp_path, calibration=tmp_path / "curve.json"), fingerprint())
    _, model = shop_s_own(tmp_path, A)
    with pytest.raises(BadConfig, match=f"is of {A}"):
        curve_of(config(tmp_path, model=model), model)


def test_curve_that_was_changed_since_is_not_used(tmp_path):
    registry, model = shop_s_own(tmp_path, "")
    registry.folder.write(f"{model}/{CALIBRATION}", curve(model).model_dump_json(indent=1).encode())
    with pytest.raises(BadWeights, match="was changed"):
        curve_of(config(tmp_path, model=model), model)


def test_evaluation_and_calibration_have_to_be_the_model_s():
    check_evaluation(json.dumps({"runs": [{"model": A}]}).encode(), A)
    curve = {"model": A, "mean": [0] * 4, "scale": [1] * 4, "weights": [0] * 4, "intercept": 0}
    check_calibration(json.dumps(curve).encode(), A)
    for check, data in ((check_evaluation, {"runs": [{"model": A}]}), (check_calibration, curve)):
        with pytest.raises(BadConfig, match=B):
            check(json.dumps(data).encode(), B)
        with pytest.raises(BadConfig, match="shoplens evaluate"):
            check(b"{}", A)
