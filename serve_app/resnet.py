"""ResNet-50 as it runs: every normalisation folded into its convolution.

torchvision builds the same network, but importing it takes longer than all else that a starting replica does, and a
search that meets a stage at zero waits for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

BLOCKS = (3, 4, 6, 3)
"""Bottlenecks of each stage, https://arxiv.org/abs/1512.03385, table 1."""
EPSILON = 1e-5

Tensors = Mapping[str, Tensor]
"""Weights under torchvision's names, in float32."""


class ResNet50(nn.Module):
    """Give the maps that each of the four stages ends with; there is no classifier."""

    def __init__(self, tensors: Tensors, stride_at: int = 1) -> None:
        """Fold the weights; raises KeyError and RuntimeError where they are those of another network.

        `stride_at` tells which of a block's convolutions has its stride: Keras's the first, torchvision's the second.
        """
        super().__init__()
        self.conv1 = _folded(tensors, "conv1", "bn1", stride=2)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    Bottleneck(tensors, f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1, stride_at)
                    for block in range(blocks)
                )
            )
            for stage, blocks in enumerate(BLOCKS, 1)
        )

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        """Yield each stage's maps (n, channels, side / 4 … side / 32, the same) of a normalised (n, 3, side, side)."""
        x = self.maxpool(self.conv1(x).relu_())
        for stage in self.stages:
            x = stage(x)
            yield x


class Bottleneck(nn.Module):
    """Add to its input what three convolutions make of it."""

    def __init__(self, tensors: Tensors, name: str, stride: int, stride_at: int) -> None:
        super().__init__()
        self.conv1 = _folded(tensors, f"{name}.conv1", f"{name}.bn1", stride if stride_at == 1 else 1)
        self.conv2 = _folded(tensors, f"{name}.conv2", f"{name}.bn2", stride if stride_at == 2 else 1)
        self.conv3 = _folded(tensors, f"{name}.conv3", f"{name}.bn3")
        self.shortcut: nn.Module = nn.Identity()
        if f"{name}.downsample.0.weight" in tensors:
            self.shortcut = _folded(tensors, f"{name}.downsample.0", f"{name}.downsample.1", stride)

    def forward(self, x: Tensor) -> Tensor:
        added = self.conv3(self.conv2(self.conv1(x).relu_()).relu_())
        return torch.relu_(added + self.shortcut(x))


def _folded(tensors: Tensors, convolution: str, normalisation: str, stride: int = 1) -> nn.Conv2d:
    weight, bias = fuse_conv_bn_weights(
        tensors[f"{convolution}.weight"],
        None,
        tensors[f"{normalisation}.running_mean"],
        tensors[f"{normalisation}.running_var"],
        EPSILON,
        tensors[f"{normalisation}.weight"],
        tensors[f"{normalisation}.bias"],
    )
    out, into, side, _ = weight.shape
    # Without storage of its own: drawing first weights that are replaced at once takes half a second for all.
    folded = nn.Conv2d(into, out, side, stride, padding=side // 2, device=torch.device("meta"))
    folded.weight, folded.bias = weight, bias
    return folded
