"""Train the embedder's head: a linear layer of 256 numbers on the pooled features of a frozen ResNet-50.

The backbone runs once over the photos and augmented copies of them; what it says is kept in a work folder, and so is
each head that was fitted, so that a run which was killed goes on where it was. A head is fitted in closed form: what
differs between views of one product, or between copies of one photo, is made small. One that finds less than the
numbers of the frozen last stage, on anything that is measured, is not written.

What is measured: five heads, each fitted without a fifth of luma's styles, are asked with those styles' views, all main
photos being the gallery; two, fitted without all tops or all bottoms, are asked with them; the head of everything is
asked with radios, of which half of the models may be chosen by and half are only reported.

    LUMA/manifest.csv   with the columns product_id, style, image, category, view (OSL-3.0 / AFL-3.0)
    CLOTHING/**/*.jpg   in folders named by category; each photo counts as a product of its own (CC0-1.0)
    RADIOS/*            named Philips_MODEL_PHOTO; measured with, never trained with
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import asdict
from pathlib import Path

import cv2
from rich.console import Console

from scripts.measuring import EXIT_COULD_NOT_RUN, Report
from scripts.training_cache import Cache
from scripts.training_features import CLOTHING_PHOTOS, read_features
from scripts.training_head import Recipe
from scripts.training_heads import Heads, everything, save
from scripts.training_outcome import HEAD, compared, found_by_heads, found_by_the_frozen, gate, goals, rows
from scripts.training_photos import read_clothing, read_luma, read_radios

QUICK_PHOTOS = 64


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        luma, clothing = read_luma(arguments.luma), read_clothing(arguments.clothing)
        radios = read_radios(arguments.radios)
    except (OSError, KeyError) as error:
        console.print(f"could not run: {error!r}", markup=False)
        return EXIT_COULD_NOT_RUN
    # Crops are made beside the network, which has the cores already.
    cv2.setNumThreads(1)
    recipe = Recipe()
    count = QUICK_PHOTOS if arguments.quick else arguments.clothing_photos
    report = Report("train_embedder", asdict(recipe) | {"seed": arguments.seed, "clothing photos": count})
    started = time.monotonic()
    cache = Cache(arguments.work / "features", lambda what, done, count: console.print(f"{what}: {done} of {count}"))
    features = read_features(cache, luma, clothing, radios, count, arguments.seed)
    console.print(f"features: {time.monotonic() - started:.0f} s")
    heads = Heads(arguments.work / "heads", features, recipe, console.print)
    found = {**found_by_the_frozen(features), HEAD: found_by_heads(features, heads)}
    report.rows += rows(found) + compared(found)
    demanded = gate(found)
    report.goals += demanded + goals(found)
    report.show(console)
    if arguments.json:
        report.write(arguments.json)
    if all(goal.ok for goal in demanded):
        save(heads.get(everything(luma, features.clothing)), arguments.out)
        console.print(f"{arguments.out} written, sha256 {hashlib.sha256(arguments.out.read_bytes()).hexdigest()}")
    return report.exit_code()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--luma", type=Path, required=True, help="folder of the luma catalogue")
    parser.add_argument("--clothing", type=Path, required=True, help="folder of clothing photos")
    parser.add_argument("--radios", type=Path, required=True, help="folder of radio photos, measured with only")
    parser.add_argument("--work", type=Path, required=True, help="folder of features and heads, which a next run finds")
    parser.add_argument("--out", type=Path, required=True, help="the head, a safetensors file")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--seed", type=int, default=0, help="of the augmented copies (default: %(default)s)")
    parser.add_argument(
        "--clothing-photos", type=int, default=CLOTHING_PHOTOS, help="how many are trained with (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="few clothing photos: to try the script with")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
