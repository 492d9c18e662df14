"""Try whether a search finds more where the category of the nearest hits is searched first.

By the protocol of train_embedder: Luma's views of styles that a head never saw are asked with, all main photos being
the gallery. The nearest products vote; where a large enough part of them is of one category, its products come first
and all others after them, else the order stays. It needs what train_embedder keeps in its work folder, or makes it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console

from scripts.measuring import EXIT_COULD_NOT_RUN, Report
from scripts.training_cache import Cache
from scripts.training_features import CLOTHING_PHOTOS, read_features
from scripts.training_head import Recipe
from scripts.training_heads import Features, Heads, embed, folds
from scripts.training_photos import Names, luma_categories, read_clothing, read_luma, read_radios
from scripts.training_protocol import CUTS, Floats
from serve_app.evaluation.resampling import differences, intervals

VOTERS = (3, 5, 10, 20)
SURE = (0.5, 0.7, 0.9)
"""Part of the voters that has to agree."""


@dataclass(frozen=True, slots=True)
class Routed:
    """Hold for each query the rank of the right product, and whether one category went first and was the right one."""

    ranks: npt.NDArray[np.int64]
    sure: npt.NDArray[np.bool_]
    right: npt.NDArray[np.bool_]

    def hits(self) -> npt.NDArray[np.float64]:
        return np.column_stack([self.ranks <= cut for cut in CUTS]).astype(float)


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        luma, clothing = read_luma(arguments.luma), read_clothing(arguments.clothing)
        radios, categories = read_radios(arguments.radios), luma_categories(arguments.luma)
    except (OSError, KeyError) as error:
        console.print(f"could not run: {error!r}", markup=False)
        return EXIT_COULD_NOT_RUN
    cv2.setNumThreads(1)
    cache = Cache(arguments.work / "features", lambda what, done, count: console.print(f"{what}: {done} of {count}"))
    features = read_features(cache, luma, clothing, radios, CLOTHING_PHOTOS, arguments.seed)
    heads = Heads(arguments.work / "heads", features, Recipe(), lambda words: console.print(words, markup=False))
    report = Report("bench_routing", {"queries": len(luma.queries), "gallery": len(luma.gallery)})
    scores, asked = _scores(features, heads)
    for level in (2, 3):
        names = np.array(["/".join(each.split("/")[:level]) for each in categories.tolist()])
        report.rows += _compared(scores, asked, luma.gallery, luma.photos.products, names)
    return report.finish(console, arguments.json)


def _scores(features: Features, heads: Heads) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the cosines of all queries with the gallery, each by a head that never saw its style, and the queries."""
    rows, asked = [], []
    for part in folds(features.luma, features.clothing):
        embeddings = embed(heads.get(part), features.luma_copies[0])
        rows.append(embeddings[part.asked] @ embeddings[features.luma.gallery].T)
        asked.append(part.asked)
    return np.concatenate(rows), np.concatenate(asked)


def _compared(
    scores: Floats, asked: npt.NDArray[np.int64], gallery: npt.NDArray[np.int64], products: Names, categories: Names
) -> list[dict[str, Any]]:
    wanted = [str(product) for product in products[asked]]
    count = len(set(categories[gallery].tolist()))
    right, own = products[asked][:, None] == products[gallery][None], categories[asked]
    plain = routed(scores, right, categories[gallery], own, voters=1, sure=2.0)
    table = [{"categories": count, "order": "plain"} | _recalls(plain, wanted)]
    for voters in VOTERS:
        for sure in SURE:
            found = routed(scores, right, categories[gallery], own, voters=voters, sure=sure)
            more = differences(plain.hits(), found.hits(), wanted)
            table.append(
                {"categories": count, "order": f"by {voters} nearest, {sure:.0%} of them agreed"}
                | _recalls(found, wanted)
                | {"sent": found.sure.mean(), "sent right": found.right[found.sure].mean()}
                | {
                    f"R@{cut} gained": f"{each.value:+.3f} [{each.low:+.3f}, {each.high:+.3f}]"
                    for cut, each in zip(CUTS, more, strict=True)
                }
            )
    return table


def _recalls(found: Routed, wanted: list[str]) -> dict[str, str]:
    return {f"R@{cut}": str(each) for cut, each in zip(CUTS, intervals(found.hits(), wanted), strict=True)}


def routed(
    scores: Floats, right: npt.NDArray[np.bool_], categories: Names, own: Names, *, voters: int, sure: float
) -> Routed:
    """Rank a gallery of one row a product for each query: (n, m) cosines, (n, m) which is the right one.

    `categories` are those of the gallery (m), `own` those of the queries (n). Where a part of `sure` of the nearest
    `voters` is of one category, its rows come before all others.
    """
    ranks, sent, rightly = [], [], []
    for row, is_right, category in zip(scores, right, own, strict=True):
        order = np.argsort(-row, kind="stable")
        names, votes = np.unique(categories[order[:voters]], return_counts=True)
        best = names[votes.argmax()]
        is_sent = bool(votes.max() / voters >= sure)
        if is_sent:
            order = order[np.argsort(categories[order] != best, kind="stable")]
        ranks.append(int(np.flatnonzero(is_right[order])[0]) + 1)
        sent.append(is_sent)
        rightly.append(bool(best == category))
    return Routed(np.array(ranks), np.array(sent), np.array(rightly))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--luma", type=Path, required=True, help="folder of the luma catalogue")
    parser.add_argument("--clothing", type=Path, required=True, help="folder of clothing photos")
    parser.add_argument("--radios", type=Path, required=True, help="folder of radio photos; they are not measured")
    parser.add_argument("--work", type=Path, required=True, help="folder of train_embedder's features and heads")
    parser.add_argument("--seed", type=int, default=0, help="of train_embedder's copies (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
