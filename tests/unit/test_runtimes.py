"""What decides which runtime a stage gets, and whether a compiled network is let in."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from serve_app.cli.compiling import asked
from serve_app.config import load_config
from serve_app.domain import Box, Detection
from serve_app.errors import BadConfig, BadWeights
from serve_app.runtimes import artefacts
from serve_app.runtimes.artefacts import COMPILED, MODEL, check, describe, keep, key_of, read
from serve_app.runtimes.chosen import runtime_for
from serve_app.runtimes.compiled import onnxruntime_options, openvino_properties
from serve_app.runtimes.cpu import cpu_features, has_bf16
from serve_app.runtimes.parity import (
    LEAST_BOXES,
    LEAST_EMBEDDINGS,
    compare_boxes,
    compare_embeddings,
    pairs,
    problem_of,
)
from serve_app.runtimes.photos import find_photos
from serve_app.runtimes.runtime import TORCH, Runtime, Wanted

CPUINFO = "processor : 0\nmodel name : a CPU\nflags : fpu sse2 avx2 avx512f avx512_vnni avx512_bf16\n\nprocessor : 1\n"


def config(tmp_path, **stage):
    path = tmp_path / "settings.yaml"
    lines = "".join(f"  {name}: {value}\n" for name, value in stage.items())
    path.write_text(f"embedder:\n{lines}" if lines else "")
    return load_config(path, data_dir=tmp_path)


def compiled(settings, backend, ms=1.0, stage="embedder"):
    """Put down what `weights compile` leaves behind, with a file that is no network."""
    key = key_of(settings, stage, backend, getattr(settings, stage).precision)
    made = settings.data_dir / "made"
    made.mkdir()
    (made / MODEL[backend]).write_bytes(b"a network")
    folder = settings.data_dir / COMPILED / key.folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    keep(made, folder, describe(made, ("chair",)).model_copy(update={"ms_per_item": ms, "torch_ms_per_item": 10}))
    return folder


# --- settings


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"backend": "openvino", "device": "cuda", "num_gpus": 1}, "openvino runs on CPUs"),
        ({"backend": "torch", "precision": "int8"}, "torch does not compute with int8"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "onnxruntime does not compute with bf16"),
        ({"backend": "tensorflow"}, "backend"),
    ],
)
def test_settings_that_no_runtime_can_follow_are_refused(tmp_path, stage, words):
    with pytest.raises(BadConfig, match=words):
        config(tmp_path, **stage)


def test_without_compiled_networks_it_is_pytorch(tmp_path):
    assert runtime_for(config(tmp_path), "embedder") == TORCH
    assert runtime_for(config(tmp_path), "detector") == TORCH


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_network_that_was_not_compiled_is_named_with_the_command(tmp_path, backend):
    settings = config(tmp_path, backend=backend, precision="int8")
    command = f"weights compile --photos FOLDER --backend {backend} --precision int8"
    with pytest.raises(BadConfig, match=command):
        runtime_for(settings, "embedder")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, backend):
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(BadConfig, match=rf"shoplens\[{backend}\]"):
        runtime_for(config(tmp_path, backend=backend), "embedder")


def test_backend_that_was_compiled_is_used(tmp_path):
    settings = config(tmp_path, backend="onnxruntime")
    folder = compiled(settings, "onnxruntime")
    assert runtime_for(settings, "embedder") == Runtime("onnxruntime", "fp32", folder)


def test_fastest_of_what_was_compiled_is_used(tmp_path, monkeypatch):
    settings = config(tmp_path)
    slow = compiled(settings, "openvino", ms=9)
    assert runtime_for(settings, "embedder").folder == slow
    fast = compiled(settings, "onnxruntime", ms=5)
    assert runtime_for(settings, "embedder") == Runtime("onnxruntime", "fp32", fast)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert runtime_for(settings, "embedder").folder == slow


def test_network_that_is_slower_than_pytorch_runs_only_where_it_is_named(tmp_path):
    folder = compiled(config(tmp_path), "onnxruntime", ms=11)
    assert runtime_for(config(tmp_path), "embedder") == TORCH
    assert runtime_for(config(tmp_path, backend="onnxruntime"), "embedder").folder == folder


def test_other_numbers_than_were_compiled_are_not_used(tmp_path):
    compiled(config(tmp_path), "openvino")
    assert runtime_for(config(tmp_path, precision="bf16"), "embedder") == TORCH


def test_import_on_a_gpu_runs_pytorch(tmp_path):
    settings = config(tmp_path, backend="openvino")
    assert runtime_for(settings, "embedder", "cuda") == TORCH


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_of_the_settings_are_those_of_the_runtime(threads):
    assert openvino_properties("fp32", threads)["INFERENCE_NUM_THREADS"] == threads
    assert onnxruntime_options(threads).intra_op_num_threads == threads


def test_fp32_stays_fp32_on_cpus_with_bf16():
    assert openvino_properties("fp32", 1)["INFERENCE_PRECISION_HINT"] == "f32"
    assert openvino_properties("bf16", 1)["INFERENCE_PRECISION_HINT"] == "bf16"


# --- what is kept


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "detector"},
        {"model": "b" * 12},
        {"backend": "openvino"},
        {"version": "1.24"},
        {"precision": "int8"},
        {"cpu": ("x86_64", "avx2", "avx512f")},
        {"graph": 0},
        {"preprocessing": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_would_make_another_network_has_another_folder(change):
    key = artefacts.Key("embedder", "a" * 12, "onnxruntime", "1.23", "fp32", ("x86_64", "avx2"))
    assert replace(key, **change).folder != key.folder
    assert replace(key).folder == key.folder


def test_head_of_a_shop_is_not_run_by_the_networks_of_another(tmp_path):
    compiled(config(tmp_path), "openvino")
    head = tmp_path / "head.safetensors"
    head.write_bytes(b"another head")
    assert runtime_for(config(tmp_path, head=head), "embedder") == TORCH


def test_damaged_network_is_refused_before_it_is_opened(tmp_path):
    folder = compiled(config(tmp_path), "openvino")
    assert check(folder).labels == ("chair",)
    (folder / MODEL["openvino"]).write_bytes(b"a netwerk")
    with pytest.raises(BadWeights, match=r"model\.xml is damaged.*weights compile"):
        check(folder)
    (folder / artefacts.DESCRIPTION).write_text("{")
    with pytest.raises(BadWeights, match="can't be read"):
        read(folder)


def test_new_network_takes_the_place_of_the_old(tmp_path):
    folder = compiled(config(tmp_path), "openvino", ms=9)
    assert compiled(config(tmp_path), "openvino", ms=5) == folder
    assert read(folder).ms_per_item == 5


def test_features_of_a_cpu_are_those_of_its_first_core():
    assert cpu_features(CPUINFO, "x86_64") == ("x86_64", "avx2", "avx512f", "avx512_vnni", "avx512_bf16")
    assert has_bf16(cpu_features(CPUINFO, "x86_64"))
    assert not has_bf16(cpu_features("flags : avx2\n", "x86_64"))
    assert cpu_features("", "arm64") == ("arm64",)


# --- parity


def chair(x0, confidence=0.9, label="chair"):
    return Detection(Box(x0, 0.0, x0 + 0.2, 0.5), label, confidence)


def test_each_box_has_one_partner_of_its_label_the_closest():
    one, near, far = Box(0, 0, 10, 10), Box(0, 0, 10, 9.5), Box(20, 20, 30, 30)
    assert pairs([(one, 1), (near, 1)], [(near, 1), (one, 1)]) == [(1.0, 1, 0), (1.0, 0, 1)]
    assert pairs([(one, 1)], [(near, 1), (one, 1)]) == [(1.0, 0, 1)]
    assert pairs([(one, 1)], [(one, 2), (far, 1)]) == []


def test_box_may_have_a_partner_that_is_less_sure():
    assert compare_boxes([[chair(0.1, 0.41)]], [[chair(0.1, 0.39)]]) == {"boxes": 1, "matched": 1}


@pytest.mark.parametrize(
    "found",
    [
        [chair(0.1)],
        [chair(0.1), chair(0.5), chair(0.7)],
        [chair(0.1), chair(0.54)],
        [chair(0.1), chair(0.5, label="bed")],
    ],
    ids=["one too few", "one too many", "one elsewhere", "one of another label"],
)
def test_boxes_that_differ_are_told(found):
    assert compare_boxes([[chair(0.1), chair(0.5)]], [found])["matched"] in (0.5, pytest.approx(2 / 3))


def units(n, seed=3):
    rows = np.random.default_rng(seed).normal(size=(n, 256)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_same_embeddings_share_all_neighbours():
    rows = units(60)
    figures = compare_embeddings(rows, rows)
    assert figures["least cosine"] == pytest.approx(1)
    assert figures["shared of 10"] == 1
    assert problem_of(figures, "fp32") is None
    assert problem_of(figures, "int8") is None


def test_one_embedding_that_is_wrong_fails_fp32_and_not_int8():
    rows = units(100)
    found = rows.copy()
    found[7] = units(1, seed=4)[0]
    figures = compare_embeddings(rows, found)
    assert "least cosine" in problem_of(figures, "fp32")
    assert "least cosine" in problem_of(figures, "bf16")
    assert problem_of(figures, "int8") is None


def test_neighbours_that_change_fail_int8():
    rows = units(100)
    noisy = rows + 0.2 * units(100, seed=5)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    assert "shared of 10" in problem_of(compare_embeddings(rows, noisy), "int8")


def test_figures_of_too_few_say_nothing():
    assert "more photos" in problem_of({"boxes": LEAST_BOXES - 1, "matched": 1.0}, "fp32")
    assert "more photos" in problem_of(
        compare_embeddings(units(LEAST_EMBEDDINGS - 1), units(LEAST_EMBEDDINGS - 1)), "fp32"
    )
    assert problem_of({"boxes": LEAST_BOXES, "matched": 0.97}, "fp32") is None
    assert "matched" in problem_of({"boxes": LEAST_BOXES, "matched": 0.969}, "int8")


# --- photos and the command


def photos(folder, *contents):
    for number, content in enumerate(contents):
        place = folder / str(number % 3)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.JPG").write_bytes(content)


def test_no_photo_is_both_compared_and_calibrated_with(tmp_path):
    photos(tmp_path, *(str(number % 90).encode() for number in range(180)))
    (tmp_path / "readme.txt").write_text("no photo")
    compared, calibration = find_photos(tmp_path)
    ones, others = ({path.read_bytes() for path in paths} for paths in (compared, calibration))
    assert (len(compared), len(calibration)) == (68, 22)
    assert len(ones | others) == 90
    assert find_photos(tmp_path) == (compared, calibration)
    assert len(find_photos(tmp_path, most=60)[0]) == 60


def test_too_few_photos_are_refused(tmp_path):
    photos(tmp_path, *(str(number).encode() for number in range(60)))
    with pytest.raises(BadConfig, match="60 different photos; 67 or more"):
        find_photos(tmp_path)


def test_by_default_each_installed_backend_makes_both_networks():
    assert asked(["onnxruntime"], None, None) == [
        Wanted("detector", "onnxruntime", "fp32"),
        Wanted("embedder", "onnxruntime", "fp32"),
    ]


def test_what_a_backend_can_not_do_is_left_out_or_refused():
    made = asked(["openvino", "onnxruntime"], ["bf16", "int8"], ["embedder"])
    assert [(each.backend, each.precision) for each in made] == [
        ("openvino", "bf16"),
        ("openvino", "int8"),
        ("onnxruntime", "int8"),
    ]
    with pytest.raises(BadConfig, match="can't compute with bf16"):
        asked(["onnxruntime"], ["bf16"], None)


def test_unknown_words_and_missing_backends_are_refused(monkeypatch):
    with pytest.raises(BadConfig, match="tensorrt is no backend; choose from openvino, onnxruntime"):
        asked(["tensorrt"], None, None)
    for name in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadConfig, match=r"shoplens\[openvino\].*shoplens\[onnxruntime\]"):
        asked(None, None, None)
