"""Names of metrics and log fields, and the JSON log."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

from pythonjsonlogger.json import JsonFormatter

STAGES = ("decode", "detect", "embed", "search", "total")

STAGE_MS = "shoplens_stage_milliseconds"
"""Histogram, label `stage`: milliseconds of a search per stage, waiting included."""
REQUESTS = "shoplens_requests"
"""Counter, label `code`: searches by outcome, `ok` or a problem's code."""
BATCH_ITEMS = "shoplens_batch_items"
"""Histogram, label `stage`: photos (detector) or crops (embedder) per batch."""
BATCH_WAIT_MS = "shoplens_batch_wait_milliseconds"
"""Histogram, label `stage`: milliseconds an item waited for its batch."""

DROPPED_ITEMS = "shoplens_dropped_items"
"""Counter, labels `stage` and `reason`: photos or crops that were dropped before they reached the model, because their
client was `gone` or their deadline `expired`."""
DEGRADED = "shoplens_degraded"
"""Counter, label `code`: answers that lacked something, by what they lacked."""
STAGE_RETRIES = "shoplens_stage_retries"
"""Counter, label `stage`: stage calls that were repeated because their replica died."""
REMEMBERED = "shoplens_cache"
"""Counter, label `outcome`: photos that were looked up by their hash, `hit` or `miss`; none where `cache` is off."""
IN_FLIGHT = "shoplens_in_flight"
"""Gauge: searches in work at an ingress replica."""
SHADOW_SEARCHES = "shoplens_shadow_searches"
"""Counter, label `code`: searches that the tried model repeated by outcome, `ok` or a problem's code; `dropped` were
not repeated, because it was busy or starting."""
SHADOW_MS = "shoplens_shadow_milliseconds"
"""Histogram, label `model`: milliseconds that embedding and search of the same searches took, `served` and `tried`."""
SHADOW_EMPTY = "shoplens_shadow_empty"
"""Counter, label `model`: of those, how many have no product in their main list, `served` and `tried`."""
SHADOW_SHARED = "shoplens_shadow_shared"
"""Histogram: part of the first ten products of the main list that both models show."""
CAPACITY = "shoplens_capacity"
"""Gauge: searches per second that an ingress replica knows it can answer; 0 while it has not been busy."""

STAGE_MS_BOUNDARIES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0)
SHARED_BOUNDARIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
BATCH_BOUNDARIES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)

LOG_FILE = Path("logs/shoplens.log")
"""Beside the data, on a laptop."""
_LOG_BYTES = 10 * 2**20


def configure_logging(file: Path | None = None) -> None:
    """Send the package's log to a rotating file, or to standard error, one JSON object a line."""
    handler: logging.Handler = logging.StreamHandler()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(file, maxBytes=_LOG_BYTES, backupCount=3, encoding="utf-8")
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    package = logging.getLogger("serve_app")
    for old in package.handlers[:]:
        package.removeHandler(old)
        old.close()
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False


def service_metrics(text: str) -> str:
    """Keep what tells of the service, Serve's metrics and ours, of all that a Ray node exports."""
    kept = []
    for line in text.splitlines():
        name = line.split(" ", 3)[2] if line.startswith("# ") else line
        if name.startswith(("ray_shoplens_", "ray_serve_")):
            kept.append(line)
    return "\n".join(kept) + "\n"
