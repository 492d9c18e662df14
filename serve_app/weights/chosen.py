"""The models that the settings name."""

from __future__ import annotations

import logging
from pathlib import Path

from serve_app.calibration import Curve, read_curve
from serve_app.config import Config
from serve_app.errors import BadConfig, BadWeights
from serve_app.folders import Folder
from serve_app.weights.loader import DETECTOR_SHA256, embedder_files, fingerprint
from serve_app.weights.registry import FETCHED, MODELS, Registry

log = logging.getLogger(__name__)


def registry_of(config: Config) -> Registry:
    """Return the registry that the settings name; raises BadConfig."""
    return Registry(Folder(config.models.registry or str(config.data_dir / MODELS)))


def detector_sha256(config: Config) -> str:
    """Return the sha256 that the detector's weights have to have: the release's, or that of a shop's own."""
    return config.detector.sha256 or DETECTOR_SHA256


def head_of(config: Config) -> Path | None:
    """Return the file of the embedder's head, fetched where it is a registered one; None for this release's own.

    Raises BadWeights where this release would make other embeddings of it than the one that registered it.
    """
    wanted = config.embedder.model
    return config.embedder.head if wanted is None else head_named(config, wanted)


def head_named(config: Config, wanted: str) -> Path | None:
    """Return the file of a registered model's head, None for this release's own; raises BadConfig, and as above."""
    if wanted == fingerprint():
        return None
    head = registry_of(config).fetch(wanted, config.data_dir / FETCHED)
    found = fingerprint(embedder_files(head))
    if found != wanted:
        raise BadWeights(
            f"the model {wanted} was registered by a release that makes embeddings in another way; with this one its "
            f"head is the model {found}: register it anew, and promote that"
        )
    return head


def model_of(config: Config) -> str:
    """Return the fingerprint of the embedder that the settings name; raises BadWeights."""
    return fingerprint(embedder_files(head_of(config)))


def curve_if_any(config: Config, model: str) -> Curve | None:
    """Return the curve of a registered model's entry; None where there is none that can be read."""
    try:
        found = registry_of(config).calibration(model)
    except (BadConfig, BadWeights) as error:
        log.warning("no curve", extra={"model": model, "cause": error.message})
        return None
    return found.bare() if found is not None else None


def curve_of(config: Config, model: str) -> Curve | None:
    """Return the curve that makes chances of this model's scores: the settings' file, else its entry's; None without.

    `model` is the fingerprint of the embedder that the settings name. Raises BadConfig where the curve can't be read,
    or is of another model, whose scores mean something else.
    """
    own = config.embedder
    if own.calibration is not None:
        curve = read_curve(own.calibration)
        if curve.model != model:
            raise BadConfig(
                f"embedder.calibration, {own.calibration}, is of the model {curve.model}, but the embedder is {model}; "
                "fit one for it with `shoplens evaluate search … --fit`, or leave the setting out"
            )
        return curve.bare()
    found = registry_of(config).calibration(model) if own.model is not None else None
    return found.bare() if found is not None else None
