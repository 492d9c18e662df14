"""Scenes with known boxes: cut-out products on cluttered photos."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from serve_app.domain import Box, Pixels
from serve_app.errors import BadManifest
from serve_app.evaluation.answers import Question
from serve_app.evaluation.questions import BOX_COLUMNS, LEFT_OUT

SCENE_SIDE_PX = 1000
PRODUCTS = (2, 5)
SIZES = (0.25, 0.5)
"""Long side of a product, in short sides of the scene."""
PLACES_TRIED = 40
MOST_HIDDEN = 0.1
"""Share of a product's box that others may cover."""

NEAR = 24
"""Steps of 255 by which the colour of a plain background may differ in any channel."""
PLAIN = 0.6
"""Share of a photo's edge that a plain background has to take."""
COVERED = (0.1, 0.9)
"""Share of its photo that a product covers; beyond, it was not the product that was found."""

MANIFEST = "scenes.csv"
BOXES = "boxes.json"
"""The same boxes with their products' categories, as COCO's format has them: what a detector is held against."""
UNKNOWN = "product"
"""Label of a product without a category."""


@dataclass(frozen=True, slots=True)
class Pasted:
    """Say which question's product is where in a scene."""

    question: Question
    box: Box


@dataclass(frozen=True, slots=True, eq=False)
class CutOut:
    """Hold a product without its background, RGBA."""

    question: Question
    image: Image.Image


def cut_out(pixels: Pixels) -> Image.Image | None:
    """Return the product of a photo with a plain background as RGBA; None where the background isn't plain.

    Background is what has about the colour of the photo's edge and hangs together with it.
    """
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.int16)
    colour = np.median(edge, axis=0)
    if _near(edge, colour).mean() < PLAIN:
        return None
    count, parts = cv2.connectedComponents(_near(pixels.astype(np.int16), colour).astype(np.uint8))
    outside = np.zeros(count, bool)
    outside[np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))] = True
    outside[0] = False
    product = (~outside[parts]).astype(np.uint8)
    product = cv2.morphologyEx(product, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    if not COVERED[0] <= product.mean() <= COVERED[1]:
        return None
    left, top, width, height = cv2.boundingRect(product)
    soft = cv2.GaussianBlur(product * 255, (3, 3), 0)
    rgba = np.dstack([pixels, soft])[top : top + height, left : left + width]
    return Image.fromarray(rgba, "RGBA")


def compose(
    background: Image.Image, products: Sequence[CutOut], random: np.random.Generator
) -> tuple[Image.Image, list[Pasted]]:
    """Return a scene with the products that found a place in it."""
    scene = background.convert("RGB")
    scale = SCENE_SIDE_PX / max(scene.size)
    scene = scene.resize((round(scene.width * scale), round(scene.height * scale)))
    pasted: list[Pasted] = []
    for product in products:
        box = _place(scene.size, product.image.size, [each.box for each in pasted], random)
        if box is None:
            continue
        corner = round(box.x0 * scene.width), round(box.y0 * scene.height)
        size = round((box.x1 - box.x0) * scene.width), round((box.y1 - box.y0) * scene.height)
        small = product.image.resize((max(1, size[0]), max(1, size[1])), Image.Resampling.LANCZOS)
        lit = ImageEnhance.Brightness(small).enhance(random.uniform(0.75, 1.1))
        scene.paste(lit.convert("RGB"), corner, small.getchannel("A"))
        pasted.append(Pasted(product.question, box))
    return scene, pasted


def write_scenes(
    questions: Sequence[Question],
    pixels_of: Callable[[Question], Pixels],
    backgrounds: Sequence[Path],
    folder: Path,
    number: int,
    *,
    seed: int = 0,
) -> int:
    """Write scenes, their manifest, a query set, and BOXES into a folder; return how many there are.

    Products are dealt like cards, so that none comes twice before all have come once. Raises BadManifest where too few
    have a plain background.
    """
    cut = [CutOut(each, image) for each in questions if (image := cut_out(pixels_of(each))) is not None]
    if len({each.question.right for each in cut}) < PRODUCTS[1]:
        raise BadManifest(f"{len(cut)} of {len(questions)} photos have a plain background; scenes need more products")
    random = np.random.default_rng(seed)
    dealt = _deal(cut, random)
    folder.mkdir(parents=True, exist_ok=True)
    shown: dict[str, tuple[tuple[int, int], list[Pasted]]] = {}
    with (folder / MANIFEST).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "product_id", *BOX_COLUMNS, LEFT_OUT])
        for i in range(number):
            background = backgrounds[int(random.integers(len(backgrounds)))]
            with Image.open(background) as photo:
                scene, pasted = compose(photo, next(dealt), random)
            name = f"scene-{i:04d}.jpg"
            scene.save(folder / name, quality=90)
            shown[name] = scene.size, pasted
            for each in pasted:
                left_out = next(iter(each.question.left_out), "")
                rows.writerow([name, each.question.right[0], *(f"{x:.5f}" for x in each.box.as_tuple()), left_out])
    (folder / BOXES).write_text(json.dumps(_coco(shown)) + "\n", encoding="utf-8")
    return number


def _coco(shown: Mapping[str, tuple[tuple[int, int], Sequence[Pasted]]]) -> dict[str, Any]:
    """Return scenes, by their names with their sizes, as https://cocodataset.org/#format-data has them."""
    labels = sorted({_label(each) for _, pasted in shown.values() for each in pasted})
    boxes: list[dict[str, Any]] = []
    for image, ((width, height), pasted) in enumerate(shown.values()):
        for each in pasted:
            box = each.box
            edges = (box.x0 * width, box.y0 * height, (box.x1 - box.x0) * width, (box.y1 - box.y0) * height)
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": image,
                    "category_id": labels.index(_label(each)),
                    "bbox": [round(edge, 2) for edge in edges],
                    "area": round(edges[2] * edges[3], 2),
                    "iscrowd": 0,
                }
            )
    return {
        "images": [
            {"id": image, "file_name": name, "width": size[0], "height": size[1]}
            for image, (name, (size, _)) in enumerate(shown.items())
        ],
        "annotations": boxes,
        "categories": [{"id": number, "name": label} for number, label in enumerate(labels)],
    }


def _label(pasted: Pasted) -> str:
    return pasted.question.category or UNKNOWN


def _deal(cut: Sequence[CutOut], random: np.random.Generator) -> Iterator[list[CutOut]]:
    """Yield hands of PRODUCTS distinct products, for ever."""
    waiting: list[CutOut] = []
    while True:
        hand: dict[tuple[str, ...], CutOut] = {}
        wanted = int(random.integers(PRODUCTS[0], PRODUCTS[1] + 1))
        while len(hand) < wanted:
            if not waiting:
                waiting = [cut[i] for i in random.permutation(len(cut))]
            card = waiting.pop()
            hand.setdefault(card.question.right, card)
        yield list(hand.values())


def _place(
    scene: tuple[int, int], product: tuple[int, int], taken: Sequence[Box], random: np.random.Generator
) -> Box | None:
    """Return a box of the product's shape that hardly covers another one, where chance finds one."""
    for _ in range(PLACES_TRIED):
        scale = random.uniform(*SIZES) * min(scene) / max(product)
        width, height = product[0] * scale / scene[0], product[1] * scale / scene[1]
        x0, y0 = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        box = Box(x0, y0, x0 + width, y0 + height)
        if all(_shared(box, other) <= MOST_HIDDEN * min(box.area, other.area) for other in taken):
            return box
    return None


def _shared(box: Box, other: Box) -> float:
    width = min(box.x1, other.x1) - max(box.x0, other.x0)
    height = min(box.y1, other.y1) - max(box.y0, other.y0)
    return max(0.0, width) * max(0.0, height)


def _near(pixels: npt.NDArray[np.int16], colour: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    return np.asarray((np.abs(pixels - colour) <= NEAR).all(axis=-1), np.bool_)
