"""What decides, beside the embedder, which views an import makes of an image."""

from __future__ import annotations

import json
from dataclasses import asdict

from serve_app.catalogue.plan import Recipe
from serve_app.config import Config
from serve_app.weights.loader import DETECTOR_SHA256


def recipe(config: Config) -> Recipe:
    """Return the recipe that the settings describe."""
    return Recipe(
        detector_sha256=DETECTOR_SHA256,
        side_px=config.detector.side_px,
        detector_min_confidence=config.detector.min_confidence,
        views=config.importing.views,
        min_confidence=config.importing.min_confidence,
    )


def index_properties(config: Config) -> dict[str, str]:
    """Return what an index is to remember of how its rows were made."""
    return {"shoplens.detector": DETECTOR_SHA256, "shoplens.views": json.dumps(asdict(recipe(config)))}
