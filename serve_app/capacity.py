"""What a catalogue and its searches need: memory, disk, nodes, hours of work and their cost, each with its formula.

Formulas are written down by the arithmetic that computes them. What was measured names where; what was not, such as
the rate of a GPU, is asked for, and its lines say how to measure it and give no number until then.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace

from serve_app.domain import EMBEDDING_DIM
from serve_app.milvus.sizing import HEADROOM, index_bytes

SEARCHED_BYTES = 200
"""Loaded fields of a row: key and filters; what is only shown is mapped from disk (queryNode.mmap.scalarField)."""
SHOWN_BYTES = 700
COLLECTIONS = 2
"""A new index is built and loaded beside the one that is searched."""
HOURS_A_MONTH = 730
DAYS_A_MONTH = 30

SIZES = "helm/milvus/README.md, Shapes"
SERVICE = "README, The service and its bare pipeline"
SEARCHER = "README, The searcher, bare pymilvus and FAISS"
IMPORT = "README, An import and its bare pipeline"

CPU_SEARCHES_PER_S, CPU_IMAGES_PER_S, MEASURED_CORES = 9.2, 5.3, 2
SEARCHER_PER_S = 842.0


@dataclass(frozen=True, slots=True)
class Figure:
    """Hold a number, how it came about, and where what was measured of it stands; None is a number nobody gave.

    Arithmetic on figures writes the formula down. One with a unit stands in formulas as its number.
    """

    value: float | None
    unit: str = ""
    formula: str = ""
    sources: tuple[str, ...] = ()
    missing: str = ""

    def __add__(self, other: Figure) -> Figure:
        return self._with(other, "+", operator.add)

    def __mul__(self, other: Figure) -> Figure:
        return self._with(other, "×", operator.mul)

    def __truediv__(self, other: Figure) -> Figure:
        return self._with(other, "÷", operator.truediv)

    def __str__(self) -> str:
        return f"{shown(self.value)} {self.unit}" if self.unit and self.value is not None else self.formula

    def named(self, unit: str, scale: float = 1) -> Figure:
        """Return the result of a formula; `scale` turns it into its unit."""
        return replace(self, value=None if self.value is None else self.value * scale, unit=unit)

    def up(self, least: int = 0) -> Figure:
        """Round up to whole things, of which there are `least` or more."""
        value = None if self.value is None else max(least, math.ceil(self.value - 1e-9))
        return replace(self, value=value, formula=f"⌈{self.formula}⌉" + (f", at least {least}" if least else ""))

    def _with(self, other: Figure, sign: str, compute: Callable[[float, float], float]) -> Figure:
        value = None if self.value is None or other.value is None else compute(self.value, other.value)
        left = f"({self})" if sign != "+" and " + " in str(self) else str(self)
        right = f"({other})" if sign != "+" and " " in str(other).removesuffix(f" {other.unit}") else str(other)
        sources = tuple(dict.fromkeys(self.sources + other.sources))
        return Figure(value, "", f"{left} {sign} {right}", sources, self.missing or other.missing)


@dataclass(frozen=True, slots=True)
class Line:
    """Name one thing that is needed."""

    name: str
    figure: Figure


@dataclass(frozen=True, slots=True)
class Load:
    """Describe a catalogue, its searches, and what they are to run on.

    `rows_per_image` is 1 where `import.views` is `whole`, else at most 2. With `gpus`, models run on GPUs, of which one
    imports `gpu_images_per_s` or answers `gpu_searches_per_s`; None where that was not measured. `utilisation` is the
    part of a replica's time that is planned to be busy, `..._price` the price of an hour of a GPU, or of a core.
    """

    images: int
    rows_per_image: float = 2.0
    new_images_per_day: int = 0
    searches_per_s: float = 0.0
    copies: int = 2
    index_type: str = "HNSW"
    hnsw_m: int = 16
    node_memory_gib: float = 32.0
    utilisation: float = 0.7
    gpus: bool = True
    gpu_images_per_s: float | None = None
    gpu_searches_per_s: float | None = None
    price: float | None = None


def shown(value: float | None) -> str:
    """Return a number as people read it: all digits of what is counted, three of what is measured."""
    if value is None:
        return "?"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"


def plan(load: Load) -> list[Line]:
    """Return what a load needs."""
    rows = (_given(load.images, "images") * _given(load.rows_per_image, "rows an image")).named("rows")
    return [Line("rows of the index", rows), *_index(load, rows), *_work(load)]


def _index(load: Load, rows: Figure) -> list[Line]:
    copies, collections = _given(load.copies, "copies"), _given(COLLECTIONS, "collections")
    entry = Figure(index_bytes(load.index_type, load.hnsw_m), f"B in {load.index_type}", sources=(SIZES,))
    fields, headroom = _given(SEARCHED_BYTES, "B of fields"), _given(HEADROOM, "of headroom")
    row = entry + fields
    memory = (collections * copies * rows * row * headroom).named("GiB", 1 / 2**30)
    node = _given(load.node_memory_gib, "GiB a node")
    nodes = ((memory / copies / node).up() + _given(1, "that may be lost")).named("nodes a copy")
    stored = _given(4 * EMBEDDING_DIM, "B of vector") + _given(SHOWN_BYTES, "B of fields") + entry
    return [
        Line("memory of the query nodes", memory),
        Line("query nodes of a copy", nodes),
        Line("query nodes", (nodes * copies).named("nodes")),
        Line("object storage", (collections * rows * stored * headroom).named("GiB", 1 / 2**30)),
    ]


def _work(load: Load) -> list[Line]:
    """Return what the models need: GPUs, or cores."""
    if load.gpus:
        unit, one = "GPU", _given(1, "GPU")
        images = _asked(load.gpu_images_per_s, "images/s", "bench_import", "--gpu-images-per-second")
        searches = _asked(load.gpu_searches_per_s, "searches/s", "bench_query", "--gpu-searches-per-second")
    else:
        unit, one = "core", _given(MEASURED_CORES, "cores")
        images = Figure(CPU_IMAGES_PER_S, "images/s", sources=(IMPORT,))
        searches = Figure(CPU_SEARCHES_PER_S, "searches/s", sources=(SERVICE,))
    hour, busy, one_more = _given(3600, "s"), _given(load.utilisation, "busy"), _given(1, "that may be lost")
    whole = (_given(load.images, "images") / images * one / hour).named(f"{unit} hours")
    days = _given(DAYS_A_MONTH, "days")
    daily = (_given(load.new_images_per_day, "new images a day") * days / images * one / hour).named(f"{unit} hours")
    lines = [Line("import, or re-index by a new model", whole), Line("import of what is new, a month", daily)]
    monthly = daily
    if load.searches_per_s:
        peak = _given(load.searches_per_s, "searches/s at the peak")
        serving = ((peak * one / searches / busy).up() + one_more).named(f"{unit}s")
        # Stages scale with the load, so this bounds what a month takes.
        held = (serving * _given(HOURS_A_MONTH, "h")).named(f"{unit} hours")
        rate = Figure(SEARCHER_PER_S, "searches/s", sources=(SEARCHER,))
        lines += [
            Line("detectors and embedders at the peak", serving),
            Line("searchers at the peak", (peak / rate / busy).up(least=2).named("replicas")),
            Line("serving at the peak all month, at most", held),
        ]
        monthly = (daily + held).named(f"{unit} hours")
    if load.price is not None:
        price = _given(load.price, f"for a {unit} hour")
        lines += [
            Line("cost of an import or re-index", whole * price),
            Line("cost of models a month, at most", monthly * price),
        ]
    return lines


def _given(value: float, unit: str) -> Figure:
    return Figure(value, unit)


def _asked(value: float | None, unit: str, script: str, option: str) -> Figure:
    missing = "" if value is not None else f"{unit}, which scripts/{script}.py measures on your GPU; give {option}"
    return Figure(value, unit, formula=f"? {unit}", missing=missing)
