"""A catalogue split into a gallery and photos to search it with, as two manifests."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from serve_app.catalogue.manifest import Entry
from serve_app.catalogue.reading import place_of
from serve_app.evaluation.gallery import Gallery
from serve_app.evaluation.photos import Photos
from serve_app.evaluation.questions import LEFT_OUT, first_views

GALLERY, QUERIES = "gallery.csv", "queries.csv"


def write_split(gallery: Gallery, folder: Path, photos: Photos) -> tuple[int, int]:
    """Write each product's first image as a gallery and the others as queries; return how many there are of each.

    Places are whole and image ids are written out, so that the gallery can be imported and told from all else. A file
    of the same bytes as the first image is no query. Raises BadManifest where no product has several images.
    """
    asked = first_views(gallery)
    kept = asked.gallery.images
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / GALLERY, (_columns(entry, gallery.base) for entry in asked.gallery.entries))
    first = {(entry.product_id, photos.sha256(entry.image, gallery.base)) for entry in kept.values()}
    queries = [
        entry
        for entry in gallery.entries
        if entry.image_id not in kept and (entry.product_id, photos.sha256(entry.image, gallery.base)) not in first
    ]
    _write(
        folder / QUERIES,
        (
            {
                "image": place_of(entry.image, gallery.base),
                "product_id": entry.product_id,
                "image_id": entry.image_id,
                LEFT_OUT: entry.image_id,
            }
            for entry in queries
        ),
    )
    return len(kept), len(queries)


def _columns(entry: Entry, base: str) -> dict[str, Any]:
    return entry.columns() | {"image": place_of(entry.image, base)}


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    table = list(rows)
    names = list(dict.fromkeys(name for row in table for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(table)
