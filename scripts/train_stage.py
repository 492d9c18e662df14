"""Try whether a trained fourth stage finds more than the frozen one does, by the protocol of train_embedder.

For each part of the photos that train_embedder fits a head without, the stage is trained by that head, averaged with
its original weights, and a head is fitted to what it says then. It writes figures and, in the work folder, what was
trained, so that a run which was killed goes on; no embedder is made of it. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import torch
from rich.console import Console
from torch import nn

from scripts.measuring import EXIT_COULD_NOT_RUN, Report
from scripts.train_embedder import QUICK_PHOTOS
from scripts.training_cache import Cache
from scripts.training_features import CLOTHING_PHOTOS, read_features, shown
from scripts.training_head import Recipe
from scripts.training_heads import Features, Heads, Part, categories, embed, folds
from scripts.training_outcome import CHOOSING, UNSEEN_CATEGORIES, UNSEEN_STYLES, gained, rows
from scripts.training_photos import read_clothing, read_luma, read_radios
from scripts.training_protocol import Ranks, joined, luma_ranks, radio_ranks
from scripts.training_stage import Maps, StageRecipe, averaged, seen_by, trained
from serve_app.weights.loader import BACKBONE_SHA256

FROZEN = "frozen"
SHARES = (0.5, 1.0)
"""How much of the trained weights is in what is measured; the rest is the original's."""
QUICK_STEPS = 2


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        luma, clothing = read_luma(arguments.luma), read_clothing(arguments.clothing)
        radios = read_radios(arguments.radios)
    except (OSError, KeyError) as error:
        console.print(f"could not run: {error!r}", markup=False)
        return EXIT_COULD_NOT_RUN
    cv2.setNumThreads(1)
    count = QUICK_PHOTOS if arguments.quick else CLOTHING_PHOTOS
    recipe = StageRecipe(QUICK_STEPS if arguments.quick else arguments.steps, rate=arguments.rate, keep=arguments.keep)
    report = Report("train_stage", asdict(recipe) | {"seed": arguments.seed, "clothing photos": count})
    cache = Cache(arguments.work / "features", lambda what, done, count: console.print(f"{what}: {done} of {count}"))
    features = read_features(cache, luma, clothing, radios, count, arguments.seed)
    of_luma, of_clothing, of_radios = shown(cache.third_stage, luma, clothing, radios, count, arguments.seed)
    trial = Trial(arguments.work, features, Maps(of_luma, of_clothing, of_radios[0]), recipe, arguments.seed, console)
    started = time.monotonic()
    styles = folds(luma, features.clothing)[: arguments.folds]
    found = trial.found(UNSEEN_STYLES, styles, cache.backbone.net.stages[-1])
    if not arguments.only_folds:
        others = trial.found(UNSEEN_CATEGORIES, categories(luma, features.clothing), cache.backbone.net.stages[-1])
        found = {name: sets | others[name] for name, sets in found.items()}
    console.print(f"trained and measured in {time.monotonic() - started:.0f} s")
    report.rows += rows(found)
    for name in found:
        if name != FROZEN:
            report.rows += [
                {"embedding": name, **row} for row in gained(found[name], found[FROZEN], "the frozen stage")
            ]
    return report.finish(console, arguments.json)


class Trial:
    """Measure heads on the frozen stage and on trained ones."""

    def __init__(
        self, work: Path, features: Features, maps: Maps, recipe: StageRecipe, seed: int, console: Console
    ) -> None:
        self._work, self._features, self._maps = work, features, maps
        self._recipe, self._seed, self._console = recipe, seed, console

    def found(self, photos: str, parts: Sequence[Part], stage: nn.Module) -> dict[str, dict[str, Ranks]]:
        """Return by embedding the ranks of the parts' queries, and of the radios that may be chosen by."""
        asked: dict[str, list[Ranks]] = {}
        radios: dict[str, list[Ranks]] = {}
        for part in parts:
            for name, features in self._seen(part, stage):
                head = Heads(self._work / "heads", features, Recipe(), self._told).get(part)
                asked.setdefault(name, []).append(
                    luma_ranks(features.luma, embed(head, features.luma_copies[0]), part.asked)
                )
                ranks = radio_ranks(features.radios, embed(head, features.radio_photos))
                radios.setdefault(name, []).append(ranks.some(features.radios.choosing))
                self._told(
                    f"{part.name}, {name}: {asked[name][-1].recall_at_1:.3f}, radios {radios[name][-1].recall_at_1:.3f}"
                )
        return {name: {photos: joined(asked[name]), f"{CHOOSING}, {photos}": joined(radios[name])} for name in asked}

    def _seen(self, part: Part, stage: nn.Module) -> list[tuple[str, Features]]:
        after = self._trained(part, stage)
        changed = [
            (f"trained, {share:g} of it", seen_by(averaged(stage, after, share), self._features, self._maps))
            for share in SHARES
        ]
        return [(FROZEN, self._features), *changed]

    def _trained(self, part: Part, stage: nn.Module) -> nn.Module:
        key = json.dumps([BACKBONE_SHA256, asdict(self._recipe), asdict(Recipe()), self._seed])
        digest = hashlib.sha256(key.encode() + part.luma.tobytes() + part.clothing.tobytes()).hexdigest()[:12]
        path = self._work / "stages" / f"{part.name.replace(' ', '-')}-{digest}.pt"
        if path.exists():
            other = averaged(stage, stage, 0)
            other.load_state_dict(torch.load(path, weights_only=True))
            return other
        head = Heads(self._work / "heads", self._features, Recipe(), self._told).get(part).requires_grad_(False)
        after = trained(stage, head, part, self._features, self._maps, self._recipe, self._seed, self._told)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(after.state_dict(), path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
        return after

    def _told(self, words: str) -> None:
        self._console.print(words, markup=False)


def _arguments() -> argparse.Namespace:
    recipe = StageRecipe()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--luma", type=Path, required=True, help="folder of the luma catalogue")
    parser.add_argument("--clothing", type=Path, required=True, help="folder of clothing photos")
    parser.add_argument("--radios", type=Path, required=True, help="folder of radio photos, measured with only")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of train_embedder's features, and 2 GB of maps"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--seed", type=int, default=0, help="of copies and steps (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=recipe.steps, help="of each training (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=recipe.rate, help="highest learning rate (default: %(default)s)")
    parser.add_argument(
        "--keep", type=float, default=recipe.keep, help="weight of frozen similarities (default: %(default)s)"
    )
    parser.add_argument("--folds", type=int, default=None, help="only so many of the five")
    parser.add_argument("--only-folds", action="store_true", help="leave the unseen categories out")
    parser.add_argument(
        "--quick", action="store_true", help="two steps with few clothing photos: to try the script with"
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
