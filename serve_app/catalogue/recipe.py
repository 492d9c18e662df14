"""What decides, beside the embedder, which views an import makes of an image."""

from __future__ import annotations

import json
from dataclasses import asdict

from serve_app.catalogue.plan import Recipe
from serve_app.config import Config
from serve_app.weights.chosen import detector_sha256


def recipe(config: Config) -> Recipe:
    """Return the recipe that the settings describe."""
    return Recipe(
        detector_sha256=detector_sha256(config),
        side_px=config.detector.side_px,
        detector_min_confidence=config.detector.min_confidence,
        views=config.importing.views,
        min_confidence=config.importing.min_confidence,
    )


def index_properties(config: Config) -> dict[str, str]:
    """Return what an index is to remember of how its rows were made."""
    return {"shoplens.detector": detector_sha256(config), "shoplens.views": json.dumps(asdict(recipe(config)))}
