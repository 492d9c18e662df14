"""The real embedder on real photos."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torchvision.models import resnet50

from serve_app.backbone import Backbone, to_batch
from serve_app.domain import WHOLE_BOX, Box
from serve_app.embedder import ResNetEmbedder
from serve_app.errors import BadWeights
from serve_app.images import cut, decode
from serve_app.resnet import ResNet50
from serve_app.weights.loader import ARCHITECTURE, Weights, digest, embedder_files, load_tensors

SAME = 1e-4
"""What rounding may change in a cosine when a crop is computed in another batch."""


@pytest.fixture(scope="module")
def embedder():
    return ResNetEmbedder(threads=2)


@pytest.fixture(scope="module")
def crops(radios):
    return np.stack([cut(decode(path.read_bytes()), WHOLE_BOX) for path in radios.images])


@pytest.fixture(scope="module")
def embeddings(embedder, crops):
    return embedder.embed(crops)


def test_embeddings_are_of_unit_length(embeddings, crops):
    assert embeddings.shape == (len(crops), 256)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_neighbours_in_a_batch_change_nothing(embedder, embeddings, crops):
    alone = np.concatenate([embedder.embed(crop[None]) for crop in crops[:4]])
    assert (alone * embeddings[:4]).sum(axis=1).min() >= 1 - SAME


def test_read_only_crops_are_taken(embedder, crops):
    frozen = crops[:1].copy()
    frozen.setflags(write=False)
    assert embedder.embed(frozen).shape == (1, 256)


def test_nothing_gives_nothing(embedder, crops):
    assert embedder.embed(crops[:0]).shape == (0, 256)


@pytest.mark.parametrize("shape", [(1, 224, 224), (1, 100, 224, 3), (1, 3, 224, 224)])
def test_other_shapes_are_refused(embedder, shape):
    with pytest.raises(ValueError, match="crops are"):
        embedder.embed(np.zeros(shape, np.uint8))


def test_crops_that_are_no_bytes_are_refused(embedder, crops):
    with pytest.raises(ValueError, match="uint8"):
        embedder.embed(crops[:1].astype(np.float32))


def test_same_crop_finds_itself_at_full_score(embedder, crops):
    first, again = embedder.embed(np.stack([crops[0], crops[1], crops[0]]))[[0, 2]]
    assert first @ again >= 0.999


def test_photos_of_one_radio_are_nearer_than_those_of_others(embeddings, radios):
    similarity = embeddings @ embeddings.T
    names = np.array([path.parent.name for path in radios.images])
    same = names[:, None] == names[None, :]
    np.fill_diagonal(similarity, np.nan)
    assert np.nanmean(similarity[same]) > np.nanmean(similarity[~same]) + 0.05


def test_the_network_is_torchvisions_with_the_strides_that_its_weights_were_trained_with(crops):
    files = embedder_files()
    weights = load_tensors(files.backbone, digest(files.backbone))
    tensors = {name: torch.from_numpy(value.astype(np.float32)) for name, value in weights.tensors.items()}
    theirs = resnet50(weights=None)
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(tensors)
    for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    pixels = to_batch(np.stack(crops[:2]), torch.device("cpu")) / 255
    with torch.inference_mode():
        *_, last = ResNet50(tensors)(pixels)
        torch.testing.assert_close(last.mean((2, 3)), theirs.eval()(pixels), rtol=1e-3, atol=1e-4)


def test_tensors_of_another_network_are_refused(tmp_path):
    with pytest.raises(BadWeights, match="not those of a ResNet-50"):
        Backbone(Weights({"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)}, {}))


def test_part_of_a_photo_is_nearer_to_it_than_other_photos(embedder, embeddings, radios):
    photo = decode(radios.images[0].read_bytes())
    part = embedder.embed(cut(photo, Box(0.1, 0.1, 0.9, 0.9))[None])[0]
    assert int((embeddings @ part).argmax()) == 0


def _refused(tmp_path, words, metadata, **tensors):
    path = tmp_path / "head.safetensors"
    save_file({name: value.astype(np.float16) for name, value in tensors.items()}, path, metadata=metadata)
    with pytest.raises(BadWeights, match=words):
        ResNetEmbedder(head=path)


OURS = {"architecture": ARCHITECTURE, "stages": "4"}


def test_file_that_is_no_head_is_refused(tmp_path):
    _refused(tmp_path, "is no embedder head", OURS, weights=np.zeros(3))


def test_head_of_another_release_is_refused(tmp_path):
    _refused(tmp_path, "is no head of this release", {"stages": "4"}, weights=np.zeros(3))


def test_head_of_another_shape_is_refused(tmp_path):
    _refused(tmp_path, "train a head", OURS, mean=np.zeros(8), deviation=np.ones(8), projection=np.zeros((256, 8)))


def test_another_head_on_the_same_backbone_is_that_model(tmp_path, embedder, embeddings, crops):
    own = load_tensors(embedder_files().head, digest(embedder_files().head))
    turned = {name: value[::-1].copy() if name == "projection" else value for name, value in own.tensors.items()}
    path = tmp_path / "head.safetensors"
    save_file(turned, path, own.metadata)
    other = ResNetEmbedder(threads=2, head=path)
    found, model = embedder.embed_with(crops[:2], path)
    assert model == other.fingerprint != embedder.fingerprint
    np.testing.assert_allclose(found, other.embed(crops[:2]), atol=1e-6)
    np.testing.assert_allclose(found[:, ::-1], embedder.embed(crops[:2]), atol=1e-6)
