"""Variables of the environment under which Shoplens and its peers are compared."""

from __future__ import annotations

import hashlib
from pathlib import Path


def common(weights: Path, data_dir: Path, scratch: Path) -> dict[str, str]:
    """Return what all sides have: the same weights and backend, and nothing that asks the internet."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "SHOPLENS_DETECTOR__WEIGHTS": str(weights),
        "SHOPLENS_DETECTOR__SHA256": digest,
        "SHOPLENS_DETECTOR__BACKEND": "torch",
        "SHOPLENS_EMBEDDER__BACKEND": "torch",
        "PEER_DATA_DIR": str(data_dir),
        "PEER_WEIGHTS": str(weights),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_CONFIG_DIR": str(scratch),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(scratch / "bentoml"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        # Else Ray takes the address of a network, of which there is none (serve_app/ray_environment.py).
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def for_shoplens(detector_threads: int, embedder_threads: int) -> dict[str, str]:
    """Return the settings of the service: throughput is measured, so that no search is refused or ended for its time.

    Its peers refuse nothing and have limits of 30 s and more.
    """
    return {
        "SHOPLENS_LIMITS__DEADLINE_S": "60",
        "SHOPLENS_INGRESS__LATENCY_GOAL_S": "60",
        "SHOPLENS_DETECTOR__THREADS": str(detector_threads),
        "SHOPLENS_EMBEDDER__THREADS": str(embedder_threads),
    }


def resnet() -> Path:
    """Return the weights that the tutorials' ResNet-50 loads."""
    return Path(__file__).parents[1] / "serve_app" / "weights" / "resnet50.safetensors"
