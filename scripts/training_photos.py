"""The photos that an embedder is trained and measured with, read from the folders of three catalogues.

LUMA/manifest.csv   with the columns product_id, style, image, category, view
CLOTHING/**/*.jpg   in folders named by category; each photo counts as a product of its own
RADIOS/*            named Philips_MODEL_PHOTO; measured with only
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FOLDS = 5
ASKED_WITH = ("back", "alt1", "outfit")
"""Views that are queries: other sides of what the main photo shows. A second front is none."""
Names = npt.NDArray[np.str_]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Photos:
    """Hold photos by file with the product and the category of each."""

    name: str
    files: list[Path]
    products: Names
    categories: Names

    def __len__(self) -> int:
        return len(self.files)

    def first(self, count: int) -> Photos:
        return Photos(self.name, self.files[:count], self.products[:count], self.categories[:count])


@dataclass(frozen=True, slots=True)
class Luma:
    """Hold the product set that recall is measured with.

    One main photo of each product is its gallery, views ASKED_WITH are queries. `folds` parts all photos by style.
    """

    photos: Photos
    folds: Places
    gallery: Places
    queries: Places


@dataclass(frozen=True, slots=True)
class Radios:
    """Hold radios, each photo asked against all others; half of the models may be chosen with."""

    photos: Photos
    choosing: npt.NDArray[np.bool_]


def read_luma(folder: Path) -> Luma:
    """Read the manifest; photos without a category are trained with, but neither gallery nor query."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    photos = Photos(
        "luma",
        [folder / row["image"] for row in rows],
        np.array([row["product_id"] for row in rows]),
        np.array(["/".join(row["category"].split("/")[:2]) for row in rows]),
    )
    main: dict[str, int] = {}
    measured = [i for i, row in enumerate(rows) if row["category"]]
    for i in measured:
        best = main.setdefault(rows[i]["product_id"], i)
        if _main_first(rows[i]["view"]) < _main_first(rows[best]["view"]):
            main[rows[i]["product_id"]] = i
    queries = [i for i in measured if rows[i]["view"] in ASKED_WITH]
    return Luma(photos, _folds([row["style"] for row in rows]), np.array(sorted(main.values())), np.array(queries))


def luma_categories(folder: Path) -> Names:
    """Return each photo's whole category path, in the order of `read_luma`."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return np.array([row["category"] for row in csv.DictReader(file)])


def read_clothing(folder: Path) -> Photos:
    """Find the photos, in an order that is none, so that the first ones are like all."""
    files = sorted(folder.rglob("*.jpg"), key=lambda path: _hash(path.name))
    if not files:
        raise FileNotFoundError(f"no photos below {folder}")
    return Photos(
        "clothing", files, np.array([path.stem for path in files]), np.array([path.parent.name for path in files])
    )


def read_radios(folder: Path) -> Radios:
    """Find the photos; the second part of a name is the model."""
    files = sorted(folder.glob("Philips_*.[jJ][pP][gG]"))
    if not files:
        raise FileNotFoundError(f"no radios in {folder}")
    models = np.array([path.stem.split("_")[1] for path in files])
    ordered = sorted(set(models.tolist()), key=_hash)
    return Radios(
        Photos("radios", files, models, np.full(len(files), "Radios")), np.isin(models, ordered[: len(ordered) // 2])
    )


def _folds(styles: list[str]) -> Places:
    """Deal styles out, in an order that their names alone decide, so that folds are of the same size."""
    ordered = {style: place for place, style in enumerate(sorted(set(styles), key=_hash))}
    return np.array([ordered[style] % FOLDS for style in styles])


def _main_first(view: str) -> tuple[bool, bool, str]:
    return view != "main", view != "0", view


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)
