"""The real networks in the runtimes that this machine has, on real photos."""

import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.numpy import save_file

from serve_app.compiling import Reference, compile_network
from serve_app.config import load_config
from serve_app.detector import YoloDetector
from serve_app.domain import Photo
from serve_app.embedder import ResNetEmbedder
from serve_app.images import decode
from serve_app.runtimes.artefacts import COMPILED
from serve_app.runtimes.chosen import runtime_for
from serve_app.runtimes.photos import find_photos
from serve_app.runtimes.runtime import TORCH, Wanted
from serve_app.weights.loader import embedder_files

BACKENDS = ("openvino", "onnxruntime")
RADIOS = 50
"""They show next to nothing that the detector knows, and each gives the embedder a crop."""
SCENES = ("bus.jpg", "zidane.jpg")
"""Photos of people that come with Ultralytics, who are found in several sizes."""
SCALES = (1.0, 0.8, 0.6, 0.45)


def settings(weights, data_dir, head=None, **both):
    config = load_config(data_dir=data_dir)
    detector = config.detector.model_copy(update={"weights": weights, "threads": 2, **both})
    embedder = config.embedder.model_copy(update={"head": head, **both})
    return config.model_copy(update={"detector": detector, "embedder": embedder})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photos to compare and others to calibrate with."""
    folder = tmp_path_factory.mktemp("scenes")
    assets = Path(find_spec("ultralytics").submodule_search_locations[0]) / "assets"
    for name, scale in product(SCENES, SCALES):
        image = Image.open(assets / name)
        smaller = image.resize((round(image.width * scale), round(image.height * scale)))
        smaller.save(folder / f"{scale}-{name}", quality=90)
        ImageOps.mirror(smaller).save(folder / f"{scale}-mirrored-{name}", quality=90)
    compared, calibration = find_photos(Path(os.environ["SHOPLENS_TEST_PHOTOS"]), most=RADIOS)
    return [*sorted(folder.iterdir()), *compared], calibration[:16]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def reference(weights, data_dir, photos):
    return Reference(settings(weights, data_dir), *photos)


@pytest.fixture(scope="module")
def embedders(weights, data_dir, reference):
    """Both runtimes' embedders, made as the command makes them."""
    made = {}
    for backend in BACKENDS:
        assert (
            compile_network(settings(weights, data_dir), Wanted("embedder", backend, "fp32"), reference).problem is None
        )
        runtime = runtime_for(settings(weights, data_dir, backend=backend), "embedder")
        made[backend] = ResNetEmbedder(threads=2, runtime=runtime)
    return made


@pytest.fixture(scope="module")
def made_detectors(weights, data_dir, reference):
    return {
        backend: compile_network(settings(weights, data_dir), Wanted("detector", backend, "fp32"), reference)
        for backend in BACKENDS
    }


@pytest.fixture(scope="module")
def detectors(weights, data_dir, made_detectors):
    return {
        backend: YoloDetector(
            weights, threads=2, runtime=runtime_for(settings(weights, data_dir, backend=backend), "detector")
        )
        for backend in made_detectors
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_detector_finds_the_boxes_that_pytorch_finds(made_detectors, backend):
    assert made_detectors[backend].problem is None
    assert made_detectors[backend].figures["matched"] >= 0.97


@pytest.mark.parametrize("backend", BACKENDS)
def test_embeddings_are_those_of_pytorch_and_of_the_same_model(embedders, reference, backend):
    expected, _ = reference.embeddings
    found = embedders[backend].embed(reference.crops[:16])
    assert (found * expected[:16]).sum(axis=1).min() >= 0.9999
    assert embedders[backend].fingerprint == ResNetEmbedder(threads=2).fingerprint


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbours_in_a_batch_and_read_only_crops_change_nothing(embedders, reference, backend):
    crops = reference.crops[:5].copy()
    crops.setflags(write=False)
    together = embedders[backend].embed(crops)
    alone = np.concatenate([embedders[backend].embed(crop[None]) for crop in crops])
    assert (together * alone).sum(axis=1).min() >= 0.9999
    assert embedders[backend].embed(crops[:0]).shape == (0, 256)


@pytest.mark.parametrize("backend", BACKENDS)
def test_answers_stay_as_they_were_when_the_next_are_computed(embedders, reference, backend):
    first = embedders[backend].embed(reference.crops[:2])
    before = first.copy()
    embedders[backend].embed(reference.crops[2:4])
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_boards_of_any_shape_are_taken_and_alone_or_together_are_the_same(detectors, photos, backend):
    pixels = decode(photos[0][0].read_bytes()).pixels
    shapes = [pixels, pixels.transpose(1, 0, 2), pixels[:40], pixels[:, :40], pixels, pixels[:200, :200]]
    odd = [Photo(np.ascontiguousarray(each), each.shape[1], each.shape[0]) for each in shapes]
    together = detectors[backend].find(odd)
    for photo, found in zip(odd, together, strict=True):
        (alone,) = detectors[backend].find([photo])
        assert [each.label for each in alone] == [each.label for each in found]
        assert all(one.box.iou(other.box) >= 0.99 for one, other in zip(alone, found, strict=True))


def test_stage_starts_without_pytorch_and_tells_nobody(weights, data_dir, embedders, detectors, tmp_path):
    program = (
        "import sys; from pathlib import Path; from serve_app.config import load_config; "
        "from serve_app.stages import load_detector, load_embedder; "
        f"config = load_config(data_dir=Path({str(data_dir)!r})); load_detector(config); load_embedder(config); "
        "assert not {'torch', 'ultralytics'} & set(sys.modules), 'torch was imported'"
    )
    home = tmp_path / "home"
    home.mkdir()
    backends = {f"SHOPLENS_{stage}__BACKEND": "openvino" for stage in ("DETECTOR", "EMBEDDER")}
    environment = os.environ | backends | {"SHOPLENS_DETECTOR__WEIGHTS": str(weights), "HOME": str(home)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert list(home.iterdir()) == []


def test_network_that_differs_is_refused(weights, data_dir, embedders, reference, tmp_path):
    before = sorted((data_dir / COMPILED).iterdir())
    head = embedder_files().head
    with safe_open(head, framework="np") as file:
        tensors, told = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["projection"] = tensors["projection"][::-1].copy()
    save_file(tensors, tmp_path / "head.safetensors", metadata=told)
    config = settings(weights, data_dir, head=tmp_path / "head.safetensors")
    made = compile_network(config, Wanted("embedder", "openvino", "fp32"), reference)
    assert "least cosine" in made.problem
    assert sorted((data_dir / COMPILED).iterdir()) == before
    assert runtime_for(config, "embedder") == TORCH


def test_int8_is_kept_where_neighbours_stay_and_nowhere_else(weights, data_dir, reference):
    made = compile_network(settings(weights, data_dir), Wanted("embedder", "openvino", "int8"), reference)
    good = made.figures["median cosine"] >= 0.99 and made.figures["shared of 10"] >= 0.95
    assert (made.problem is None) == good
    kept = runtime_for(settings(weights, data_dir, precision="int8"), "embedder")
    assert (kept == TORCH) != good or made.ms >= made.reference_ms


def test_threads_are_bound(weights, data_dir, embedders):
    """One thread more computes where the settings say so, counted by the process itself."""
    runtime = runtime_for(settings(weights, data_dir, backend="onnxruntime"), "embedder")

    def added(threads: int) -> int:
        program = (
            "import os; from pathlib import Path; from serve_app.embedder import ResNetEmbedder; "
            "from serve_app.runtimes.runtime import Runtime; "
            "before = len(os.listdir('/proc/self/task')); "
            f"model = ResNetEmbedder(threads={threads}, runtime=Runtime('onnxruntime', 'fp32', "
            f"Path({str(runtime.folder)!r}))); model.warm_up(); print(len(os.listdir('/proc/self/task')) - before)"
        )
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert added(3) - added(1) == 2
