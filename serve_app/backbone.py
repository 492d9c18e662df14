"""The embedder's network in PyTorch: what other runtimes are made of and compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from serve_app.device import pick, translating_errors
from serve_app.domain import EMBEDDING_DIM, Crops, Embeddings
from serve_app.errors import BadWeights
from serve_app.resnet import ResNet50
from serve_app.weights.loader import ARCHITECTURE, EmbedderFiles, Weights, digest, embedder_files, load_tensors

STAGE_WIDTHS = {1: 256, 2: 512, 3: 1024, 4: 2048}
"""Channels that each stage of a ResNet-50 ends with."""
POOLINGS = {
    1: ("average", "deviation"),
    2: ("average", "deviation"),
    3: ("average", "generalised mean"),
    4: ("average", "generalised mean"),
}
"""How each stage's maps become numbers: early ones show textures, which lie in how much they vary."""
GEM_POWER = 3.0
"""Exponent of generalised-mean pooling, https://arxiv.org/abs/1711.02512, section 3.2."""

# The channel statistics that ImageNet models are trained with, https://pytorch.org/vision/stable/models.html
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Give the pooled features of a ResNet-50's stages."""

    def __init__(self, weights: Weights, stride_at: int = 1) -> None:
        """Build the network; raises BadWeights where the tensors are those of another one."""
        super().__init__()
        self.net = _resnet(weights, stride_at)
        # One multiplication and one addition for (x / 255 - mean) / deviation. Folding them into the first
        # convolution as well would be wrong at the border, which is padded with zeros after normalisation.
        scale = 1 / (255 * torch.tensor(_DEVIATION))
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", (-torch.tensor(_MEAN) / torch.tensor(_DEVIATION))[:, None, None])

    def forward(self, pixels: Tensor, stages: tuple[int, ...]) -> list[Tensor]:
        """Return for each stage (n, 2 × channels): its POOLINGS of (n, 3, side, side) in 0…255."""
        pooled = {
            number: pool(x, POOLINGS[number]) for number, x in enumerate(self.maps(pixels), 1) if number in stages
        }
        return [pooled[number] for number in stages]

    def maps(self, pixels: Tensor) -> Iterator[Tensor]:
        """Yield the maps that each stage ends with."""
        maps: Iterator[Tensor] = self.net(torch.addcmul(cast(Tensor, self.shift), pixels, cast(Tensor, self.scale)))
        return maps


class Head(nn.Module):
    """Turn pooled features into embeddings: standardise, normalise by stage, project, normalise."""

    def __init__(self, stages: tuple[int, ...], mean: Tensor, deviation: Tensor, projection: Tensor) -> None:
        """Take (d), (d) and (256, d), where d counts both poolings of all `stages`."""
        super().__init__()
        self.stages = stages
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.projection = nn.Parameter(projection)

    def standardise(self, pooled: Tensor) -> Tensor:
        """Return (n, d) with each stage's part of unit norm."""
        centred = (pooled - cast(Tensor, self.mean)) / cast(Tensor, self.deviation)
        # Not tensor_split, which ONNX has no word for but a sequence: OpenVINO 2026.4 crashes on that.
        parts = torch.split(centred, [2 * STAGE_WIDTHS[stage] for stage in self.stages], dim=1)
        return torch.cat([nn.functional.normalize(part) for part in parts], dim=1)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return (n, 256), each row of unit norm."""
        return nn.functional.normalize(self.standardise(pooled) @ self.projection.T)


class LinearHead(nn.Module):
    """Turn the average of the last stage into embeddings, as a classifier of a network from elsewhere does."""

    stages = (4,)

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Take (256, 2048) and (256)."""
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return (n, 256), each row of unit norm, of (n, 4096): the last stage's POOLINGS."""
        average = pooled[:, : STAGE_WIDTHS[4]]
        return nn.functional.normalize(nn.functional.linear(average, self.weight, self.bias))


class FeatureNetwork(nn.Module):
    """Turn crops into embeddings."""

    def __init__(self, files: EmbedderFiles) -> None:
        """Build both parts; raises BadWeights."""
        super().__init__()
        self.backbone = load_backbone(files)
        self.head = load_head_of(files)

    def forward(self, crops: Tensor) -> Tensor:
        """Return (n, 256) of (n, side, side, 3) in 0…255, of whatever type."""
        return self.embed(crops, self.head)

    def embed(self, crops: Tensor, head: Head | LinearHead) -> Tensor:
        """Return the same by a head of the caller's."""
        pooled = self.backbone(crops.to(torch.float32).permute(0, 3, 1, 2), head.stages)
        embeddings: Tensor = head(torch.cat(pooled, dim=1))
        return embeddings


class TorchFeatures:
    """Run the embedder's network as PyTorch does, one operation after the other."""

    def __init__(self, files: EmbedderFiles, *, device: str, threads: int | None) -> None:
        """Load the weights; raises BadWeights where they are not right, BadConfig without the GPU."""
        self._device = pick("embedder", device)
        if threads is not None:
            torch.set_num_threads(threads)
        self._files = files
        self._network = FeatureNetwork(files).eval().to(self._device).to(memory_format=torch.channels_last)
        self._other: tuple[str, Head | LinearHead] | None = None

    def __call__(self, crops: Crops) -> Embeddings:
        """Return (n, 256) of (n, side, side, 3)."""
        return self._embed(crops, self._network.head)

    def has_backbone(self, files: EmbedderFiles) -> bool:
        return files.backbone == self._files.backbone

    def embed_with(self, crops: Crops, files: EmbedderFiles, model: str) -> Embeddings:
        """Return the same by another head on this backbone, whose model is `model`; it is kept until the next one."""
        if self._other is None or self._other[0] != model:
            self._other = (model, load_head_of(files).to(self._device))
        return self._embed(crops, self._other[1])

    def _embed(self, crops: Crops, head: Head | LinearHead) -> Embeddings:
        with translating_errors(), torch.inference_mode():
            embeddings: Embeddings = self._network.embed(_floats(crops, self._device), head).cpu().numpy()
            return embeddings


class FrozenEmbedder:
    """Embed crops with the average of the backbone's last stage: ImageNet's 2,048 numbers, which a head has to beat."""

    def __init__(self, *, device: str = "cpu", threads: int | None = None) -> None:
        """Load the weights; raises BadWeights where they are not right, BadConfig without the GPU."""
        self._device = pick("embedder", device)
        if threads is not None:
            torch.set_num_threads(threads)
        self._backbone = load_backbone(embedder_files()).to(self._device).to(memory_format=torch.channels_last)

    def embed(self, crops: Crops) -> Embeddings:
        """Return (n, 2048), each row of unit norm."""
        with translating_errors(), torch.inference_mode():
            (pooled,) = self._backbone(to_batch(crops, self._device), (4,))
            embeddings: Embeddings = nn.functional.normalize(pooled[:, : STAGE_WIDTHS[4]]).cpu().numpy()
            return embeddings


def to_batch(crops: Crops, device: torch.device) -> Tensor:
    """Copy crops into a float batch (n, 3, side, side), channels last, still in 0…255."""
    return _floats(crops, device).permute(0, 3, 1, 2)


def _floats(crops: Crops, device: torch.device) -> Tensor:
    # Floats are made by numpy because torch warns of read-only arrays, which Ray's are, even if it only reads them.
    return torch.from_numpy(crops.astype(np.float32)).to(device)


def load_backbone(files: EmbedderFiles) -> Backbone:
    """Build the backbone; raises BadWeights."""
    weights = load_tensors(files.backbone, digest(files.backbone))
    return Backbone(weights, stride_at=2 if files.is_whole else 1).eval()


def load_head_of(files: EmbedderFiles) -> Head | LinearHead:
    """Build what makes embeddings of pooled features; raises BadWeights."""
    if not files.is_whole:
        return load_head(files)
    tensors = load_tensors(files.head, digest(files.head)).tensors
    try:
        weight, bias = (torch.from_numpy(tensors[name].astype(np.float32)) for name in ("fc.weight", "fc.bias"))
    except KeyError as error:
        raise BadWeights(f"{files.head} has no {error}; convert it anew: `shoplens model convert`") from error
    if (tuple(weight.shape), tuple(bias.shape)) != ((EMBEDDING_DIM, STAGE_WIDTHS[4]), (EMBEDDING_DIM,)):
        raise BadWeights(f"{files.head} gives {tuple(weight.shape)}; convert it anew: `shoplens model convert`")
    return LinearHead(weight, bias).eval()


def load_head(files: EmbedderFiles) -> Head:
    """Build the head; raises BadWeights where the file is none."""
    weights = load_tensors(files.head, digest(files.head))
    if weights.metadata.get("architecture") != ARCHITECTURE:
        raise BadWeights(f"{files.head} is no head of this release; train a head with scripts/train_embedder.py")
    try:
        stages = tuple(int(number) for number in weights.metadata["stages"].split(","))
        mean, deviation, projection = (
            torch.from_numpy(weights.tensors[name].astype(np.float32)) for name in ("mean", "deviation", "projection")
        )
        width = 2 * sum(STAGE_WIDTHS[stage] for stage in stages)
    except (KeyError, ValueError) as error:
        raise BadWeights(f"{files.head} is no embedder head; train a head with scripts/train_embedder.py") from error
    shapes = [tuple(tensor.shape) for tensor in (mean, deviation, projection)]
    if shapes != [(width,), (width,), (EMBEDDING_DIM, width)]:
        raise BadWeights(f"{files.head} has tensors of {shapes}; train a head with scripts/train_embedder.py")
    return Head(stages, mean, deviation, projection).eval()


def pool(x: Tensor, names: Sequence[str]) -> Tensor:
    """Return (n, names × channels) of maps that hold nothing negative."""
    return torch.cat([_POOLS[name](x) for name in names], dim=1)


def _average(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _deviation(x: Tensor) -> Tensor:
    # Seven times as fast as torch's own `std`, which goes through the numbers one by one.
    return (x - x.mean((2, 3), keepdim=True)).square_().mean((2, 3)).sqrt()


def _generalised_mean(x: Tensor) -> Tensor:
    return x.clamp(min=1e-6).pow(GEM_POWER).mean((2, 3)).pow(1 / GEM_POWER)


_POOLS = {"average": _average, "deviation": _deviation, "generalised mean": _generalised_mean}


def _resnet(weights: Weights, stride_at: int) -> ResNet50:
    tensors = {
        name: torch.from_numpy(value).float() if value.dtype.kind == "f" else torch.from_numpy(value)
        for name, value in weights.tensors.items()
    }
    try:
        return ResNet50(tensors, stride_at)
    except (KeyError, RuntimeError, ValueError) as error:
        raise BadWeights("the backbone's tensors are not those of a ResNet-50; reinstall Shoplens") from error
