"""One training by Ultralytics' own trainer, which goes on where it was when it is run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from serve_app.errors import BadConfig
from serve_app.yolo import set_switches

ASKED, KEPT, DONE = "asked.json", "last.pt", "detector.pt"
FONTS = ("Arial.ttf", "Arial.Unicode.ttf")
REPORTS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
"""Ultralytics' settings of what it would tell others of a training, where they are installed."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hold all that decides what is learnt, beside the photos and the weights that are started from."""

    epochs: int
    side_px: int
    batch: int
    seed: int
    freeze: int
    """Layers of the network, from the photo on, that stay as they are."""

    def options(self) -> dict[str, Any]:
        """Return it as Ultralytics names it: https://docs.ultralytics.com/usage/cfg."""
        return {
            "epochs": self.epochs,
            "imgsz": self.side_px,
            "batch": self.batch,
            # Each batch is a step: gathered to 64 photos, a small set would be learnt from in a handful of steps.
            "nbs": self.batch,
            "seed": self.seed,
            "deterministic": True,
            "freeze": self.freeze or None,
            # No epoch of a short training is spent on mosaics or warming up alone.
            "close_mosaic": min(10, self.epochs // 3),
            "warmup_epochs": min(3.0, self.epochs / 4),
            # The one-to-one head, which is the one that is served: so the best epoch is its best one.
            "nms": False,
            # Looks for the weights of another network, to see whether half precision works.
            "amp": False,
            "plots": False,
        }


def claim(work: Path, recipe: Recipe, digest: str) -> None:
    """Note in `work` which training it is for; raises BadConfig where that is another one.

    `digest` stands for the photos and the weights that are started from.
    """
    work.mkdir(parents=True, exist_ok=True)
    asked = json.dumps(asdict(recipe) | {"digest": digest}, sort_keys=True)
    note = work / ASKED
    if note.is_file() and note.read_text(encoding="utf-8") != asked:
        raise BadConfig(f"{work} holds another training; name another folder, or remove it")
    note.write_text(asked, encoding="utf-8")


def train(
    weights: Path,
    data: Path,
    work: Path,
    recipe: Recipe,
    *,
    device: str,
    threads: int,
    workers: int,
    told: Callable[[int], None],
) -> Path:
    """Train in `work`, from the last epoch that was finished there; return the best epoch's weights.

    `told` is told how many epochs are done. An epoch after a kill draws other augmentations than it would have drawn
    without.
    """
    kept, done = work / KEPT, work / DONE
    if done.is_file():
        return done
    yolo = _load(kept if kept.is_file() else weights)

    def keep(trainer: Any) -> None:
        # The trainer overwrites its own file, which a kill would leave torn. It does not go on from the last epoch.
        if not trainer.stop:
            _replace(trainer.last, kept)
        told(trainer.epoch + 1)

    def use_threads(_: Any) -> None:
        # Ultralytics leaves one core of the machine alone.
        torch.set_num_threads(threads)

    yolo.add_callback("on_model_save", keep)
    yolo.add_callback("on_train_start", use_threads)
    options = recipe.options() | {"data": str(data), "project": str(work.absolute()), "name": "run", "exist_ok": True}
    yolo.train(**options, device="0" if device == "cuda" else device, workers=workers, resume=kept.is_file())
    _replace(Path(yolo.trainer.best), done)
    return done


def _load(weights: Path) -> Any:
    """Open weights for training; the caller answers for what they hold. Nothing is asked of any server."""
    set_switches(weights)
    import matplotlib
    from ultralytics.models.yolo.model import YOLO
    from ultralytics.utils import SETTINGS, USER_CONFIG_DIR

    SETTINGS.update(dict.fromkeys(REPORTS, False))  # type: ignore[no-untyped-call]
    # It fetches these for pictures, which are off, unless they are there.
    font = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    for name in FONTS:
        shutil.copy(font, Path(USER_CONFIG_DIR) / name)
    return YOLO(str(weights))


def _replace(source: Path, target: Path) -> None:
    unfinished = target.with_suffix(".unfinished")
    shutil.copy(source, unfinished)
    unfinished.replace(target)
