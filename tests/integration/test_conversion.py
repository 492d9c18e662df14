"""ResNet-50s that were trained elsewhere: state dicts of torchvision, and ONNX."""

import copy
import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet50, resnet101, resnext50_32x4d, wide_resnet50_2

from serve_app.backbone import to_batch
from serve_app.config import Config
from serve_app.conversion import to_network
from serve_app.domain import WHOLE_BOX
from serve_app.embedder import ResNetEmbedder
from serve_app.errors import BadConfig, BadWeights
from serve_app.graphs import make
from serve_app.images import cut, decode
from serve_app.runtimes.compiled import open_model
from serve_app.runtimes.foreign import ForeignNetwork
from serve_app.weights.chosen import model_of
from serve_app.weights.loader import digest, embedder_files, fingerprint, load_tensors

MEAN, DEVIATION = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
SAME = 0.9999
"""Cosine of two ways to compute one embedding."""


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    """torchvision's network that gives 256 numbers: the release's convolutions, and an `fc` that was drawn."""
    torch.manual_seed(7)
    network = resnet50(weights=None)
    network.fc = torch.nn.Linear(2048, 256)
    own = load_tensors(embedder_files().backbone, digest(embedder_files().backbone)).tensors
    state = {name: torch.from_numpy(value.astype(np.float32)) for name, value in own.items()}
    missing, unknown = network.load_state_dict(state, strict=False)
    assert all(name.startswith("fc.") or name.endswith("num_batches_tracked") for name in missing)
    assert not unknown
    return network.eval()


@pytest.fixture(scope="module")
def weights(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "trained.pth"
    torch.save(trained.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def converted(weights):
    path = weights.with_name("network.safetensors")
    path.write_bytes(to_network(weights))
    return path


@pytest.fixture(scope="module")
def exported(trained, weights):
    return export(trained, weights.with_name("network.onnx"), {"crops": {0: "n"}, "rows": {0: "n"}})


def export(network: torch.nn.Module, path, free):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age
        torch.onnx.export(
            network, (torch.zeros(2, 3, 224, 224),), str(path), input_names=["crops"], output_names=["rows"],
            dynamic_axes=free, opset_version=18, dynamo=False,
        )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def crops(radios):
    return np.stack([cut(decode(path.read_bytes()), WHOLE_BOX) for path in radios.images[:4]])


@pytest.fixture(scope="module")
def theirs(trained, crops):
    """What torchvision's network makes of the crops."""
    return embeddings_of(trained, crops)


def embeddings_of(network: torch.nn.Module, crops):
    """Return a network's rows of unit norm, of pixels that are scaled as torchvision says."""
    pixels = (to_batch(crops, torch.device("cpu")) / 255 - MEAN) / DEVIATION
    with torch.inference_mode():
        return torch.nn.functional.normalize(network(pixels)).numpy()


@pytest.fixture(scope="module")
def heads(converted, exported):
    return {"starter": None, "converted": converted, "exported": exported}


@pytest.fixture(scope="module")
def embedders(heads):
    return {name: ResNetEmbedder(threads=2, head=head) for name, head in heads.items()}


def test_converted_network_embeds_as_torchvisions_does(embedders, crops, theirs):
    assert (embedders["converted"].embed(crops) * theirs).sum(axis=1).min() >= SAME


def test_that_embedding_tells_photos_and_strides_apart(trained, crops, theirs):
    photos = sorted((theirs @ theirs.T)[np.triu_indices(len(theirs), 1)])
    assert photos[-1] < 0.99
    for stage in (other := copy.deepcopy(trained)).layer2, other.layer3, other.layer4:
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    assert (embeddings_of(other, crops) * theirs).sum(axis=1).max() < 0.999


def test_exported_network_embeds_as_torchvisions_does(embedders, crops, theirs):
    embedders["exported"].warm_up()
    assert (embedders["exported"].embed(crops) * theirs).sum(axis=1).min() >= SAME


def test_each_way_to_write_a_state_dict_makes_the_same_file(trained, converted, tmp_path):
    state = trained.state_dict()
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": each for name, each in state.items()}}, tmp_path / "a.pth")
    save_file(state, tmp_path / "b.safetensors", {"format": "pt"})
    for name in ("a.pth", "b.safetensors"):
        assert to_network(tmp_path / name) == converted.read_bytes()


def saved(network: torch.nn.Module, tmp_path):
    torch.save(network.state_dict(), tmp_path / "other.pth")
    return tmp_path / "other.pth"


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (resnet50, r"an fc\.weight of \(1000, 2048\).*Linear\(2048, 256\)"),
        (resnet101, r"layer3\.10\.bn1\.bias is .*, not there"),
        (wide_resnet50_2, r"layer1\.0\.bn1\.bias is \(128,\), not \(64,\)"),
        (resnext50_32x4d, r"layer1\.0\.bn1\.bias is \(128,\), not \(64,\)"),
    ],
)
def test_other_networks_are_refused(network, reason, tmp_path):
    made = network(weights=None)
    if network is not resnet50:
        made.fc = torch.nn.Linear(2048, 256)
    with pytest.raises(BadWeights, match=reason):
        to_network(saved(made, tmp_path))


def test_network_without_a_classifier_is_refused(trained, tmp_path):
    state = {name: each for name, each in trained.state_dict().items() if not name.startswith("fc.")}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(BadWeights, match=r"no fc\.weight"):
        to_network(tmp_path / "other.pth")


def test_numbers_that_are_none_are_refused(trained, tmp_path):
    torch.save(trained.state_dict() | {"fc.bias": torch.full((256,), torch.nan)}, tmp_path / "other.pth")
    with pytest.raises(BadWeights, match=r"none in fc\.bias"):
        to_network(tmp_path / "other.pth")


class Harmful:
    def __reduce__(self):
        return print, ("code of the file was run",)


@pytest.mark.parametrize("kind", ["module", "pickle", "text", "list", "none", "safetensors"])
def test_files_of_anything_but_weights_are_refused_and_run_nothing(kind, trained, tmp_path, capsys):
    path = tmp_path / ("other.safetensors" if kind == "safetensors" else "other.pth")
    if kind == "module":
        torch.save(trained, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind != "none":
        path.write_text("no weights")
    with pytest.raises(BadWeights, match=r"other\."):
        to_network(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["fixed", "wide", "text"])
def test_onnx_files_of_anything_else_are_refused(kind, trained, tmp_path):
    path = tmp_path / "other.onnx"
    if kind == "text":
        path.write_text("no graph")
    elif kind == "fixed":
        export(trained, path, {})
    else:
        export(torch.nn.Sequential(trained, torch.nn.Linear(256, 300)), path, {"crops": {0: "n"}, "rows": {0: "n"}})
    with pytest.raises(BadWeights, match=r"other\.onnx"):
        ForeignNetwork(path)


def test_onnx_file_is_run_on_the_cpu_alone(exported):
    with pytest.raises(BadConfig, match=r"embedder\.device: cpu"):
        ForeignNetwork(exported, "cuda")


@pytest.mark.parametrize("first", ["starter", "converted", "exported"])
def test_any_model_stands_beside_any_other(first, heads, embedders, crops):
    for name in ("exported", "starter", "converted", "starter"):
        found, model = embedders[first].embed_with(crops[:2], heads[name])
        assert model == embedders[name].fingerprint
        assert (found * embedders[name].embed(crops[:2])).sum(axis=1).min() >= SAME


def test_converted_network_is_compiled_as_any_other(converted, crops, theirs, tmp_path):
    config = Config(data_dir=tmp_path, embedder={"head": converted})
    make(config, "embedder", "onnxruntime", "fp32", iter(()), tmp_path)
    run = open_model(tmp_path / "model.onnx", "onnxruntime", "fp32", 2)
    assert (run(crops) * theirs).sum(axis=1).min() >= SAME


def test_exported_network_is_not_compiled(exported, tmp_path):
    config = Config(data_dir=tmp_path, embedder={"head": exported})
    with pytest.raises(BadConfig, match="runs as it is"):
        make(config, "embedder", "onnxruntime", "fp32", iter(()), tmp_path)


def shoplens(*arguments: str) -> str:
    command = [sys.executable, "-m", "serve_app.cli", "model", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_from_elsewhere_are_registered_and_taken_into_service(weights, converted, exported, tmp_path):
    card, at = tmp_path / "card.md", ("--data-dir", str(tmp_path))
    card.write_text("# From elsewhere")
    told = shoplens("convert", str(weights), str(tmp_path / "network.safetensors"))
    assert (tmp_path / "network.safetensors").read_bytes() == converted.read_bytes()
    models = {}
    for name, file in (("state", weights), ("onnx", exported)):
        models[name] = shoplens("register", str(file), "--name", name, "--card", str(card), *at).split()[0]
    assert models["state"] in told
    # The converted file is the same model.
    again = shoplens("register", str(converted), "--name", "state", "--card", str(card), *at)
    assert again.startswith(f"{models['state']} is already registered")
    entries = {each["name"]: each for each in json.loads(shoplens("list", "--json", *at))["models"]}
    assert entries["state"]["preprocessing"]["architecture"].startswith("resnet50-torchvision")
    assert (
        entries["state"]["preprocessing"]["backbone_sha256"] == entries["state"]["files"]["head.safetensors"]["sha256"]
    )
    assert entries["onnx"]["preprocessing"]["architecture"].startswith("onnx")
    for model in models.values():
        assert model_of(Config(data_dir=tmp_path, embedder={"model": model})) == model != fingerprint()
