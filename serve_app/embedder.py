"""The ResNet adapter: crops in, embeddings out, synchronous and in batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from serve_app.device import pick, translating_errors
from serve_app.domain import EMBEDDING_DIM, Crops, Embeddings
from serve_app.errors import BadWeights
from serve_app.images import CROP_SIDE_PX
from serve_app.resnet import ResNet50
from serve_app.weights.loader import (
    ARCHITECTURE,
    EmbedderFiles,
    Weights,
    digest,
    embedder_files,
    fingerprint,
    load_tensors,
)

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

    def __init__(self, weights: Weights) -> None:
        """Build the network; raises BadWeights where the tensors are those of another one."""
        super().__init__()
        self.net = _resnet(weights)
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
        parts = torch.tensor_split(centred, _ends(self.stages), dim=1)
        return torch.cat([nn.functional.normalize(part) for part in parts], dim=1)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return (n, 256), each row of unit norm."""
        return nn.functional.normalize(self.standardise(pooled) @ self.projection.T)


class ResNetEmbedder:
    """Embed crops with a frozen ResNet-50 and a trained linear head."""

    fingerprint: str

    def __init__(self, *, device: str = "cpu", threads: int | None = None, head: Path | None = None) -> None:
        """Load the weights; raises BadWeights where they are not right, BadConfig without the GPU."""
        self._device = pick("embedder", device)
        if threads is not None:
            torch.set_num_threads(threads)
        files = embedder_files(head)
        self.fingerprint = fingerprint(files)
        self._backbone = load_backbone(files).to(self._device).to(memory_format=torch.channels_last)
        self._head = load_head(files).to(self._device)
        self._other: tuple[str, Head] | None = None

    def warm_up(self) -> None:
        """Run once, so that the first shopper does not pay for lazy set-up."""
        self.embed(np.zeros((1, CROP_SIDE_PX, CROP_SIDE_PX, 3), np.uint8))

    def embed(self, crops: Crops) -> Embeddings:
        """Return one embedding per crop; raises ValueError for other sides than the model's."""
        return self._embed(crops, self._head)

    def embed_with(self, crops: Crops, head: Path | None) -> tuple[Embeddings, str]:
        """Return one embedding per crop by another head on this backbone, and that model's fingerprint.

        The last such head stays in memory, 4 MB. Raises BadWeights.
        """
        files = embedder_files(head)
        model = fingerprint(files)
        if self._other is None or self._other[0] != model:
            self._other = (model, load_head(files).to(self._device))
        return self._embed(crops, self._other[1]), model

    def _embed(self, crops: Crops, head: Head) -> Embeddings:
        if crops.ndim != 4 or crops.shape[1:] != (CROP_SIDE_PX, CROP_SIDE_PX, 3) or crops.dtype != np.uint8:
            raise ValueError(f"crops are (n, {CROP_SIDE_PX}, {CROP_SIDE_PX}, 3) uint8, not {crops.shape} {crops.dtype}")
        if len(crops) == 0:
            return np.empty((0, EMBEDDING_DIM), np.float32)
        with translating_errors(), torch.inference_mode():
            pooled = self._backbone(to_batch(crops, self._device), head.stages)
            embeddings: Embeddings = head(torch.cat(pooled, dim=1)).cpu().numpy()
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
    # Floats are made by numpy because torch warns of read-only arrays, which Ray's are, even if it only reads them.
    return torch.from_numpy(crops.astype(np.float32)).to(device).permute(0, 3, 1, 2)


def load_backbone(files: EmbedderFiles) -> Backbone:
    """Build the backbone; raises BadWeights."""
    return Backbone(load_tensors(files.backbone, digest(files.backbone))).eval()


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


def _ends(stages: tuple[int, ...]) -> list[int]:
    """Return where each stage's part of the pooled features ends, but for the last."""
    return list(itertools.accumulate(2 * STAGE_WIDTHS[stage] for stage in stages))[:-1]


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


def _resnet(weights: Weights) -> ResNet50:
    tensors = {
        name: torch.from_numpy(value).float() if value.dtype.kind == "f" else torch.from_numpy(value)
        for name, value in weights.tensors.items()
    }
    try:
        return ResNet50(tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise BadWeights("the backbone's tensors are not those of a ResNet-50; reinstall Shoplens") from error
