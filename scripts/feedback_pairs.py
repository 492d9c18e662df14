"""Turn the feedback log into training pairs and a query set.

    python -m scripts.feedback_pairs data/feedback pairs/
    shoplens evaluate search CATALOGUE --queries pairs/queries.csv

`pairs.jsonl` has a line for each list that something was done with: what was searched with (a kept crop, or a product
of the catalogue), the products that were chosen, with their weight (click 1, cart 2, buy 3), and those that were passed
over. `queries.csv` names the crops whose shopper chose at least `--act`, with the product that was chosen.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from serve_app.errors import ShoplensError
from serve_app.feedback.files import read_log
from serve_app.feedback.records import WEIGHT, Act, Done, Joined, Judged, Shown, join
from serve_app.folders import Folder, NoSuchFile

PAIRS, QUERIES, PHOTOS = "pairs.jsonl", "queries.csv", "photos"


def main() -> int:
    """Write both files; exit with 2 where the log can't be read or holds nothing."""
    arguments = _arguments()
    try:
        folder = Folder(arguments.log)
        joined = read(folder)
        if not joined.lists:
            print(f"{arguments.log} tells of nothing that shoppers did with what they were shown")
            return 2
        crops = fetch_crops(folder, joined.lists, arguments.to / PHOTOS)
    except ShoplensError as error:
        print(error.message)
        return 2
    pairs = [pair for judged in joined.lists if (pair := pair_of(judged, crops))]
    queries = list(queries_of(joined.lists, crops, Act(arguments.act)))
    arguments.to.mkdir(parents=True, exist_ok=True)
    write_pairs(arguments.to / PAIRS, pairs)
    write_queries(arguments.to / QUERIES, queries)
    acts = Counter(act.value for judged in joined.lists for act in judged.acts.values())
    print(f"{len(joined.lists):,} lists with feedback: {', '.join(f'{n:,} {act}' for act, n in sorted(acts.items()))}")
    print(f"{joined.unmatched:,} acts were of nothing that was shown, and do not count")
    print(f"{len(pairs):,} lines in {arguments.to / PAIRS}, {len(queries):,} photos in {arguments.to / QUERIES}")
    return 0


def read(folder: Folder) -> Joined:
    """Return all lists that something was done with."""
    shown: list[Shown] = []
    done: list[Done] = []
    for some, others in read_log(folder):
        shown += some
        done += others
    return join(shown, done)


def fetch_crops(folder: Folder, lists: Iterable[Judged], to: Path) -> dict[str, str]:
    """Copy the crops that are still kept; return where each lies, relative to the folder above `to`."""
    found: dict[str, str] = {}
    for name in sorted({judged.crop for judged in lists} - {""}):
        try:
            data = folder.read(name)
        except NoSuchFile:
            continue
        to.mkdir(parents=True, exist_ok=True)
        path = to / name.rpartition("/")[2]
        path.write_bytes(data)
        found[name] = f"{to.name}/{path.name}"
    return found


def pair_of(judged: Judged, crops: dict[str, str]) -> dict[str, Any] | None:
    """Return a training pair; None where nothing says what was searched with."""
    shown = judged.shown
    anchor = (
        {"image": crops[judged.crop]} if judged.crop in crops else {"product_id": shown.like} if shown.like else None
    )
    if anchor is None or not (judged.acts or judged.none_fits):
        return None
    images = dict(zip(shown.products, shown.images, strict=True))
    return {
        "at_ms": shown.at_ms,
        "model": shown.model,
        "anchor": anchor,
        "positives": [
            {"product_id": product, "image_id": images[product], "weight": WEIGHT[act]}
            for product, act in judged.acts.items()
        ],
        "negatives": [{"product_id": product, "image_id": images[product]} for product in judged.skipped],
    }


def queries_of(lists: Iterable[Judged], crops: dict[str, str], least: Act) -> Iterator[tuple[str, str]]:
    """Yield photos with what their shoppers chose; of several products, those with the weightiest act."""
    for judged in lists:
        weights = {product: WEIGHT[act] for product, act in judged.acts.items()}
        most = max(weights.values(), default=0)
        if judged.crop in crops and most >= WEIGHT[least]:
            for product, weight in weights.items():
                if weight == most:
                    yield crops[judged.crop], product


def write_pairs(path: Path, pairs: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for pair in pairs:
            file.write(json.dumps(pair, ensure_ascii=False) + "\n")


def write_queries(path: Path, queries: Iterable[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "product_id"])
        writer.writerows(queries)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.feedback_pairs", description=str(__doc__).splitlines()[0])
    parser.add_argument("log", help="the setting feedback.folder: a folder, s3:// or gs:// prefix")
    parser.add_argument("to", type=Path, help="folder that the files are written to")
    parser.add_argument(
        "--act", choices=[Act.CLICK, Act.CART, Act.BUY], default=Act.CART, help="least act that makes a query"
    )
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
