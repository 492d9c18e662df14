"""Train the embedder's head: a linear layer of 256 numbers on the pooled features of a frozen ResNet-50.

The backbone runs once over all photos and some augmented copies of them, which are kept in a cache folder;
training itself takes a minute. Photos of one product are drawn together (supervised contrastive loss, Khosla et
al. 2020), while a second loss keeps the similarities that the frozen features had, so that things which
training never saw lose little. A head that finds less than the frozen last stage is not written.

The starter head was trained with the photos of the Magento Luma sample catalogue (OSL-3.0 / AFL-3.0), as far as
their styles are not held out, and with the Clothing Dataset (CC0-1.0), each photo of which counts as a product.
No radio of the demo was trained with; half of their models helped to choose the stages' weights. Folders:

    LUMA/manifest.csv   with the columns product_id, style, image, category, view
    CLOTHING/**/*.jpg
    RADIOS/*            named Philips_MODEL_PHOTO
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance
from pytorch_metric_learning.losses import SupConLoss
from rich.console import Console
from rich.progress import track
from safetensors import numpy as safetensors
from torch import Tensor
from torch.nn import functional

from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report
from serve_app.domain import EMBEDDING_DIM, WHOLE_BOX, Box, Pixels
from serve_app.embedder import STAGE_WIDTHS, Backbone, Head, load_backbone, to_batch
from serve_app.images import PREPROCESSING_VERSION, cut, decode
from serve_app.weights.loader import BACKBONE_SHA256, embedder_files

STAGES = (2, 3, 4)
LUMA_COPIES = 4
CLOTHING_COPIES = 1
HELD_OUT_FIFTHS = 2
"""Styles of luma that are measured with and never trained with, in fifths of them all."""

STEPS, QUICK_STEPS = 120, 10
PRODUCTS_A_STEP, PHOTOS_OF_EACH = 24, 4
INSTANCES_A_STEP = 220
LEARNING_RATE = 1e-3
TEMPERATURE = 0.1
DROPOUT = 0.3
KEEP_WEIGHT = 3.0
EXTRACT_BATCH = 8

AUGMENTATION_VERSION = 1
"""Changes when `_crop` gives other pixels for the same copy, so that no cached feature outlives its recipe."""

FROZEN = "last stage, average, 2048"
FROZEN_LUMA, FROZEN_RADIOS = 0.354, 0.452
"""Recall@1 that `FROZEN` was once measured to have: no head below it, or below what it has here, is written."""


@dataclass(frozen=True, slots=True)
class Photos:
    """Hold photos by file with the product of each."""

    name: str
    files: list[Path]
    products: npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Luma:
    """Hold the product set that recall is measured with: one main photo of each product is its gallery."""

    photos: Photos
    held_out: npt.NDArray[np.bool_]
    gallery: npt.NDArray[np.int64]
    queries: npt.NDArray[np.int64]


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        luma = read_luma(arguments.luma)
        clothing, radios = read_clothing(arguments.clothing), read_radios(arguments.radios)
    except (OSError, KeyError) as error:
        console.print(f"could not run: {error!r}", markup=False)
        return EXIT_COULD_NOT_RUN
    torch.manual_seed(0)
    steps, copies = (QUICK_STEPS, 1) if arguments.quick else (STEPS, LUMA_COPIES)
    if arguments.quick:
        clothing = Photos("clothing-quick", clothing.files[::10], clothing.products[::10])
    report = Report("train_embedder", {"steps": steps, "stages": STAGES, "keep_weight": KEEP_WEIGHT})
    cache = Cache(arguments.cache)
    trained_with = np.flatnonzero(~luma.held_out)
    luma_copies = [cache.features(luma.photos, copy) for copy in range(copies + 1)]
    clothing_copies = [cache.features(clothing, copy) for copy in range(CLOTHING_COPIES + 1)]
    reference = torch.cat([luma_copies[0][trained_with], clothing_copies[0]])
    started = time.monotonic()
    head = initial_head(reference)
    train(
        head,
        [frozen(head, pooled[trained_with]) for pooled in luma_copies],
        luma.photos.products[trained_with],
        [frozen(head, pooled) for pooled in clothing_copies],
        steps,
        console,
    )
    console.print(f"trained in {time.monotonic() - started:.0f} s")
    head = rounded(head)
    measure(report, head, luma, luma_copies[0], radios, cache.features(radios, 0))
    report.show(console)
    if arguments.json:
        report.write(arguments.json)
    if report.exit_code() == 0:
        save(head, arguments.out)
        console.print(f"{arguments.out} written, sha256 {hashlib.sha256(arguments.out.read_bytes()).hexdigest()}")
    return report.exit_code()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--luma", type=Path, required=True, help="folder of the luma catalogue")
    parser.add_argument("--clothing", type=Path, required=True, help="folder of clothing photos")
    parser.add_argument("--radios", type=Path, required=True, help="folder of radio photos, measured with only")
    parser.add_argument("--out", type=Path, required=True, help="the head, a safetensors file")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="few photos and steps: to try the script with")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shoplens/features"
    parser.add_argument("--cache", type=Path, default=default, help="folder of features (default: %(default)s)")
    return parser.parse_args()


# --- photos


def read_luma(folder: Path) -> Luma:
    """Read the manifest; photos without a category are trained with, but neither gallery nor query."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    photos = Photos("luma", [folder / row["image"] for row in rows], np.array([row["product_id"] for row in rows]))
    main: dict[str, int] = {}
    measured = [i for i, row in enumerate(rows) if row["category"]]
    for i in measured:
        best = main.setdefault(rows[i]["product_id"], i)
        if _main_first(rows[i]["view"]) < _main_first(rows[best]["view"]):
            main[rows[i]["product_id"]] = i
    gallery = set(main.values())
    return Luma(
        photos,
        np.array([_hash(row["style"]) % 5 < HELD_OUT_FIFTHS for row in rows]),
        np.array(sorted(gallery)),
        np.array([i for i in measured if i not in gallery]),
    )


def read_clothing(folder: Path) -> Photos:
    """Find the photos; each is a product of its own."""
    files = sorted(folder.rglob("*.jpg"))
    if not files:
        raise FileNotFoundError(f"no photos below {folder}")
    return Photos("clothing", files, np.array([path.stem for path in files]))


def read_radios(folder: Path) -> Photos:
    """Find the photos; the second part of a name is the model."""
    files = sorted(folder.glob("Philips_*.[jJ][pP][gG]"))
    if not files:
        raise FileNotFoundError(f"no radios in {folder}")
    return Photos("radios", files, np.array([path.stem.split("_")[1] for path in files]))


def _main_first(view: str) -> tuple[bool, bool, str]:
    return view != "main", view != "0", view


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


# --- features


class Cache:
    """Pool the backbone's features of photos once and keep them in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / f"{BACKBONE_SHA256[:12]}-{PREPROCESSING_VERSION}-{AUGMENTATION_VERSION}"
        self._backbone: Backbone | None = None

    def features(self, photos: Photos, copy: int) -> Tensor:
        """Return (n, d) of `STAGES`, of the photos themselves (copy 0) or of an augmented copy."""
        names = "\n".join(f"{path.name} {path.stat().st_size}" for path in photos.files)
        file = self._folder / f"{photos.name}-{hashlib.sha256(names.encode()).hexdigest()[:8]}-{copy}.npy"
        if not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            pooled = torch.cat([self._pool(batch) for batch in _batches(photos, copy)])
            with file.with_suffix(".tmp").open("wb") as target:
                np.save(target, pooled.half().numpy())
            file.with_suffix(".tmp").replace(file)
        return torch.from_numpy(np.load(file)).float()

    def _pool(self, crops: Pixels) -> Tensor:
        if self._backbone is None:
            self._backbone = load_backbone(embedder_files()).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            return torch.cat(self._backbone(to_batch(crops, torch.device("cpu")), STAGES), dim=1)


def _batches(photos: Photos, copy: int) -> Iterator[Pixels]:
    starts = range(0, len(photos.files), EXTRACT_BATCH)
    for start in track(starts, f"{photos.name}, copy {copy}"):
        files = photos.files[start : start + EXTRACT_BATCH]
        yield np.stack([_crop(path, copy, start + i) for i, path in enumerate(files)])


def _crop(path: Path, copy: int, number: int) -> Pixels:
    photo = decode(path.read_bytes())
    if copy == 0:
        return cut(photo, WHOLE_BOX)
    random = np.random.default_rng([0, copy, number])
    pixels = cut(photo, _random_box(random))
    image = Image.fromarray(pixels[:, ::-1] if random.random() < 0.5 else pixels)
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(random.uniform(0.8, 1.2))
    return np.asarray(image)


def _random_box(random: np.random.Generator) -> Box:
    area, aspect = random.uniform(0.35, 1), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = min(1.0, float(np.sqrt(area * aspect))), min(1.0, float(np.sqrt(area / aspect)))
    x, y = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
    return Box(x, y, x + width, y + height)


# --- training


def initial_head(reference: Tensor) -> Head:
    """Centre each stage's poolings, scale each pooling by its own spread, and project on the main directions."""
    deviation = []
    for part in torch.split(reference, [STAGE_WIDTHS[stage] for stage in STAGES for _ in range(2)], dim=1):
        deviation.append(torch.full((part.shape[1],), float(part.std(0).norm())))
    head = Head(STAGES, reference.mean(0), torch.cat(deviation), torch.zeros(EMBEDDING_DIM, reference.shape[1]))
    features = frozen(head, reference)
    _, _, directions = torch.svd_lowrank(features - features.mean(0), EMBEDDING_DIM, niter=4)
    head.projection.data = directions.T.contiguous()
    return head


def frozen(head: Head, pooled: Tensor) -> Tensor:
    """Return the features (n, d) of unit norm whose similarities are kept."""
    return functional.normalize(head.standardise(pooled))


def train(
    head: Head,
    luma: Sequence[Tensor],
    products: npt.NDArray[np.str_],
    clothing: Sequence[Tensor],
    steps: int,
    console: Console,
) -> None:
    """Fit the projection of standardised features, one tensor per copy."""
    random = np.random.default_rng(0)
    by_product: dict[str, list[int]] = defaultdict(list)
    for i, product in enumerate(products):
        by_product[product].append(i)
    several = [indices for indices in by_product.values() if len(indices) > 1]
    optimiser = torch.optim.AdamW([head.projection], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, LEARNING_RATE / 20)
    contrast = SupConLoss(temperature=TEMPERATURE)
    for _ in track(range(steps), "training", console=console):
        batch, labels = _draw(random, luma, several, clothing)
        projected = functional.dropout(batch, DROPOUT) @ head.projection.T
        loss = contrast(functional.normalize(projected), labels) + KEEP_WEIGHT * _changed(head, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _draw(
    random: np.random.Generator, luma: Sequence[Tensor], several: Sequence[Sequence[int]], clothing: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    rows, labels = [], []
    for label, product in enumerate(random.permutation(len(several))[:PRODUCTS_A_STEP].tolist()):
        indices = list(random.permutation(several[product])[:2])
        indices += list(random.choice(several[product], PHOTOS_OF_EACH - len(indices)))
        rows += [luma[int(random.integers(len(luma)))][i] for i in indices]
        labels += [label] * PHOTOS_OF_EACH
    for label, i in enumerate(random.permutation(len(clothing[0]))[:INSTANCES_A_STEP], PRODUCTS_A_STEP):
        rows += [copy[i] for copy in clothing]
        labels += [label] * len(clothing)
    return torch.stack(rows), torch.tensor(labels)


def _changed(head: Head, batch: Tensor) -> Tensor:
    """Return how far the similarities within a batch are from those of the frozen features (Kullback-Leibler)."""
    itself = torch.eye(len(batch), dtype=torch.bool)
    after = functional.normalize(batch @ head.projection.T)
    logits = [(each @ each.T / TEMPERATURE).masked_fill(itself, -1e4) for each in (batch, after)]
    wanted, found = functional.softmax(logits[0], 1), functional.log_softmax(logits[1], 1)
    return functional.kl_div(found, wanted, reduction="batchmean")


def rounded(head: Head) -> Head:
    """Return the head as it will be stored, in half precision."""
    stored = (tensor.half().float() for tensor in _tensors(head).values())
    return Head(head.stages, *stored).eval()


def save(head: Head, path: Path) -> None:
    """Write the head as the embedder reads it."""
    arrays = {name: tensor.half().numpy() for name, tensor in _tensors(head).items()}
    # safetensors' own save_file makes a file that nobody else may read.
    path.write_bytes(safetensors.save(arrays, metadata={"stages": ",".join(map(str, head.stages))}))


def _tensors(head: Head) -> dict[str, Tensor]:
    named = dict(head.named_buffers()) | dict(head.named_parameters())
    return {name: named[name].detach() for name in ("mean", "deviation", "projection")}


# --- measuring


def measure(report: Report, head: Head, luma: Luma, luma_pooled: Tensor, radios: Photos, radio_pooled: Tensor) -> None:
    """Add the recall of frozen features and of the head, and the gate."""
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        FROZEN: lambda pooled: _stage(pooled, 4)[:, : STAGE_WIDTHS[4]],
        "last stage, average + GeM, 4096": lambda pooled: _stage(pooled, 4),
        "third stage, average + GeM, 2048": lambda pooled: _stage(pooled, 3),
        "stages 2 to 4, standardised, 7168": lambda pooled: frozen(head, pooled),
        "head, 256": head,
    }
    with torch.inference_mode():
        for name, embed in kinds.items():
            one, other = (functional.normalize(embed(pooled)) for pooled in (luma_pooled, radio_pooled))
            recalls = _luma_recalls(luma, one)
            recalls["radios"] = _recall(other, other, radios.products, radios.products, leave_one_out=True)
            for photos, (at_one, at_five) in recalls.items():
                report.rows.append({"photos": photos, "embedding": name, "R@1": at_one, "R@5": at_five})
    report.goals += gate(report.rows)


def gate(rows: Sequence[Mapping[str, Any]]) -> list[Goal]:
    """Demand of the head what the frozen last stage has, here or where it was first measured."""
    found = {(row["photos"], row["embedding"]): row["R@1"] for row in rows}
    once = {"luma": FROZEN_LUMA, "luma, held out": FROZEN_LUMA, "radios": FROZEN_RADIOS}
    return [
        Goal(f"{photos}, R@1", found[photos, "head, 256"], max(floor, found[photos, FROZEN]), "higher")
        for photos, floor in once.items()
    ]


def _stage(pooled: Tensor, stage: int) -> Tensor:
    parts = torch.split(pooled, [2 * STAGE_WIDTHS[each] for each in STAGES], dim=1)
    return parts[STAGES.index(stage)]


def _luma_recalls(luma: Luma, embeddings: Tensor) -> dict[str, tuple[float, float]]:
    products, gallery = luma.photos.products, luma.gallery
    kinds = {"luma": luma.queries, "luma, held out": luma.queries[luma.held_out[luma.queries]]}
    return {
        name: _recall(embeddings[queries], embeddings[gallery], products[queries], products[gallery])
        for name, queries in kinds.items()
    }


def _recall(
    queries: Tensor,
    gallery: Tensor,
    wanted: npt.NDArray[np.str_],
    products: npt.NDArray[np.str_],
    *,
    leave_one_out: bool = False,
) -> tuple[float, float]:
    """Return recall at 1 and at 5 photos."""
    similarity = queries @ gallery.T
    if leave_one_out:
        similarity.fill_diagonal_(-2)
    right = products[similarity.topk(5, dim=1).indices.numpy()] == wanted[:, None]
    return float(right[:, 0].mean()), float(right.any(axis=1).mean())


if __name__ == "__main__":
    raise SystemExit(main())
