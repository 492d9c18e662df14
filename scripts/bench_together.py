"""Find a thing by two photos of it, merged in several ways, and by one of them alone.

By cosine of whole photos: Luma's products (which the head was fitted with) that have two other views or more, all main
photos being the gallery; radios of three photos or more, all photos but the two being the gallery. Which two of a
product's views are asked with is drawn by a seed, several times.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from scripts.backend_recall import embedded
from scripts.measuring import EXIT_COULD_NOT_RUN, Report
from scripts.training_photos import Names, read_luma, read_radios
from scripts.training_protocol import Floats
from serve_app.embedder import ResNetEmbedder
from serve_app.evaluation.resampling import differences, intervals

DRAWS = 5
"""Pairs of views that each product is asked with."""
Way = Callable[[Floats, Floats], Floats]


def best(pair: Floats, gallery: Floats) -> Floats:
    """Return of each image the higher of the two cosines."""
    return np.asarray((pair @ gallery.T).max(0), np.float32)


def mean_score(pair: Floats, gallery: Floats) -> Floats:
    return np.asarray((pair @ gallery.T).mean(0), np.float32)


ONE, BEST = "one photo alone", "two, the best score"
WAYS: dict[str, Way] = {
    ONE: lambda pair, gallery: best(pair[:1], gallery),
    BEST: best,
    "two, the mean embedding": mean_score,
}
"""By the mean embedding images come in the order of their mean score, whatever its length."""


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        luma, radios = read_luma(arguments.luma), read_radios(arguments.radios)
    except (OSError, KeyError) as error:
        console.print(f"could not run: {error!r}", markup=False)
        return EXIT_COULD_NOT_RUN
    report = Report("bench_together", {"seed": arguments.seed, "draws": DRAWS})
    embedder = ResNetEmbedder()
    draw = np.random.default_rng(arguments.seed)
    of_luma, of_radios = embedded(embedder, luma.photos), embedded(embedder, radios.photos)
    views = _by_product(luma.photos.products, luma.queries)
    pairs = [pair for own in views.values() if len(own) > 1 for pair in _pairs(own, draw)]
    report.rows += _compared("luma", luma.photos.products, of_luma, pairs, luma.gallery)
    every = np.arange(len(radios.photos))
    photos = _by_product(radios.photos.products, every)
    pairs = [pair for own in photos.values() if len(own) > 2 for pair in _pairs(own, draw)]
    report.rows += _compared("radios", radios.photos.products, of_radios, pairs, every)
    return report.finish(console, arguments.json)


def _compared(
    photos: str, products: Names, embeddings: Floats, pairs: list[tuple[int, int]], gallery: np.ndarray[Any, Any]
) -> list[dict[str, Any]]:
    asked = [str(products[first]) for first, _ in pairs]
    hits = {
        name: np.array([_hits(way, products, embeddings, pair, gallery) for pair in pairs])
        for name, way in WAYS.items()
    }
    table = []
    for name, values in hits.items():
        first, fifth = intervals(values, asked)
        row = {"photos": photos, "pairs": len(pairs), "searched with": name, "R@1": str(first), "R@5": str(fifth)}
        over_one, over_best = (differences(hits[other], values, asked)[0] for other in (ONE, BEST))
        row["R@1 over one"] = f"{over_one.value:+.3f} [{over_one.low:+.3f}, {over_one.high:+.3f}]"
        row["R@1 over the best"] = f"{over_best.value:+.3f} [{over_best.low:+.3f}, {over_best.high:+.3f}]"
        table.append(row)
    return table


def _hits(
    way: Way, products: Names, embeddings: Floats, pair: tuple[int, int], gallery: np.ndarray[Any, Any]
) -> tuple[float, float]:
    """Tell whether the right product is first, and among the first five, each by its best image."""
    left = gallery[~np.isin(gallery, pair)]
    scores = way(embeddings[list(pair)], embeddings[left])
    order: list[str] = list(dict.fromkeys(products[left[np.argsort(-scores, kind="stable")]].tolist()))
    right = str(products[pair[0]])
    return float(order[0] == right), float(right in order[:5])


def _pairs(own: list[int], draw: np.random.Generator) -> list[tuple[int, int]]:
    pairs = [tuple(draw.choice(own, 2, replace=False).tolist()) for _ in range(DRAWS)]
    return [(first, other) for first, other in pairs]


def _by_product(products: Names, places: np.ndarray[Any, Any]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for place in places.tolist():
        found[str(products[place])].append(place)
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--luma", type=Path, required=True, help="folder of the luma catalogue")
    parser.add_argument("--radios", type=Path, required=True, help="folder of radio photos")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
