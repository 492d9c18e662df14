"""The file that an embedder is loaded from, made of a ResNet-50 that was trained elsewhere.

torchvision and timm call a ResNet-50's tensors the same. Its classifier has to be a linear layer `fc` that gives as
many numbers as an embedding has: what a shop trained is the whole way from a crop to those.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from serve_app.domain import EMBEDDING_DIM
from serve_app.errors import BadWeights
from serve_app.resnet import BLOCKS
from serve_app.weights.loader import NETWORK

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""What trainings put a state dict under, beside their own notes."""
PARALLEL = "module."
"""What torch.nn.DataParallel puts before each name."""
COUNTERS = "num_batches_tracked"
NORMALISED = ("weight", "bias", "running_mean", "running_var")
WIDTH, INNER = 2048, 64
"""Channels of the last stage's maps, and of the first stage's inner convolutions."""


def to_network(weights: Path) -> bytes:
    """Return the file of a network; the same weights always make the same bytes.

    `weights` is a state dict as torch.save or safetensors writes it. Raises BadWeights where it is none, or of another
    network: a deeper, wider or grouped one, one with another stem, or one whose `fc` gives no embedding.
    """
    tensors = _stripped(_read(weights))
    wanted = shapes()
    tensors.setdefault("fc.bias", torch.zeros(EMBEDDING_DIM))
    _check_fc(weights, tensors)
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else None
        if found != wanted.get(name):
            raise BadWeights(
                f"{weights} is no ResNet-50 as torchvision and timm build it: {name} is "
                f"{found or 'missing'}, not {wanted.get(name) or 'there'}"
            )
    floats = {name: tensors[name].detach().to("cpu", torch.float32).contiguous() for name in sorted(wanted)}
    broken = next((name for name, tensor in floats.items() if not bool(tensor.isfinite().all())), None)
    if broken is not None:
        raise BadWeights(f"{weights} holds numbers that are none in {broken}; the training went wrong")
    return save(floats, {"architecture": NETWORK})


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a ResNet-50 whose `fc` gives an embedding, by its name."""
    found: dict[str, tuple[int, ...]] = {"conv1.weight": (INNER, 3, 7, 7), **_normalisation("bn1", INNER)}
    into = INNER
    for stage, blocks in enumerate(BLOCKS):
        inner, out = INNER << stage, 4 * INNER << stage
        for block in range(blocks):
            name = f"layer{stage + 1}.{block}"
            for number, shape in enumerate([(inner, into, 1, 1), (inner, inner, 3, 3), (out, inner, 1, 1)], 1):
                found[f"{name}.conv{number}.weight"] = shape
                found |= _normalisation(f"{name}.bn{number}", shape[0])
            if block == 0:
                found[f"{name}.downsample.0.weight"] = (out, into, 1, 1)
                found |= _normalisation(f"{name}.downsample.1", out)
            into = out
    return found | {"fc.weight": (EMBEDDING_DIM, WIDTH), "fc.bias": (EMBEDDING_DIM,)}


def _normalisation(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in NORMALISED}


def _check_fc(weights: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise BadWeights, with what to do, where the classifier is left out or gives something else."""
    found = tuple(tensors["fc.weight"].shape) if "fc.weight" in tensors else None
    if found != (EMBEDDING_DIM, WIDTH):
        has = "no fc.weight" if found is None else f"an fc.weight of {found}"
        raise BadWeights(
            f"{weights} has {has}; an embedding has {EMBEDDING_DIM} numbers: train it with `model.fc = "
            f"torch.nn.Linear({WIDTH}, {EMBEDDING_DIM})`, or train a head on this release's backbone with "
            "scripts/train_embedder.py"
        )


def _read(weights: Path) -> Mapping[str, Any]:
    try:
        if weights.suffix == ".safetensors":
            return load_file(weights)
        # Nothing but tensors and plain values is unpickled: other files could run what they hold.
        read: Any = torch.load(weights, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadWeights(f"{weights} can't be read ({error.strerror or error})") from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BadWeights(
            f"{weights} is no file of weights alone; write it with torch.save(model.state_dict(), …) or safetensors"
        ) from error
    inner = next((read[name] for name in WRAPPERS if isinstance(read, dict) and isinstance(read.get(name), dict)), read)
    if not isinstance(inner, dict) or not inner:
        raise BadWeights(f"{weights} holds no state dict; write it with torch.save(model.state_dict(), …)")
    return inner


def _stripped(read: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors under the network's own names, without counters that are used in training alone."""
    own = {str(name).removeprefix(PARALLEL): value for name, value in read.items()}
    return {
        name: value for name, value in own.items() if isinstance(value, Tensor) and not name.endswith(f".{COUNTERS}")
    }
