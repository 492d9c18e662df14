"""Make the networks that other runtimes run, once, and keep those that come near enough to PyTorch's.

PyTorch's network ─▶ ONNX ─▶ (int8) ─▶ OpenVINO's form | ONNX ─▶ compared on photos ─▶ kept, or refused
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from serve_app.config import Config, Stage
from serve_app.detector import YoloDetector, letterbox
from serve_app.domain import Crops, Detection, Embeddings, Photo, Pixels
from serve_app.embedder import ResNetEmbedder
from serve_app.errors import BadConfig, BadInput
from serve_app.graphs import make, need_means
from serve_app.images import cut_all, decode
from serve_app.objects import import_views
from serve_app.runtimes.artefacts import COMPILED, describe, keep, key_of
from serve_app.runtimes.cpu import cpu_features, has_bf16
from serve_app.runtimes.parity import Figures, compare_boxes, compare_embeddings, problem_of
from serve_app.runtimes.runtime import TORCH, Runtime, Wanted
from serve_app.weights.chosen import detector_sha256, head_of

BATCH = 8


@dataclass(frozen=True, slots=True)
class Made:
    """Tell what became of one: `problem` is why it was refused."""

    wanted: Wanted
    figures: Figures
    ms: float
    reference_ms: float
    seconds: float
    problem: str | None


class Reference:
    """Hold what PyTorch says of the photos; each of its networks is run once, when it is first asked for."""

    def __init__(self, config: Config, compared: Sequence[Path], calibration: Sequence[Path]) -> None:
        self._config = config
        self._compared = compared
        self._calibration = calibration

    @property
    def photos(self) -> int:
        return len(self._compared)

    @cached_property
    def detections(self) -> tuple[list[tuple[Detection, ...]], float]:
        """Return what each photo shows, and milliseconds per photo."""
        return self.detect(TORCH)

    @cached_property
    def embeddings(self) -> tuple[Embeddings, float]:
        """Return the embedding of each crop, and milliseconds per crop."""
        return self.embed(TORCH)

    @cached_property
    def crops(self) -> Crops:
        """Return the views that an import would make of the photos."""
        found, _ = self.detections
        least = self._config.importing.min_confidence
        return np.concatenate([
            cut_all(photo, [view.box for view in import_views(some, min_confidence=least).values()])
            for photo, some in zip(self._photos(self._compared), found, strict=True)
        ])  # fmt: skip

    def detect(self, runtime: Runtime) -> tuple[list[tuple[Detection, ...]], float]:
        own = self._config.detector
        detector = YoloDetector(
            self._config.detector_weights,
            sha256=detector_sha256(self._config),
            threads=own.threads,
            side_px=own.side_px,
            min_confidence=own.min_confidence,
            runtime=runtime,
        )
        detector.warm_up()
        found, times = [], []
        for photo in self._photos(self._compared):
            started = time.perf_counter()
            found += detector.find([photo])
            times.append(time.perf_counter() - started)
        return found, statistics.median(times) * 1e3

    def embed(self, runtime: Runtime) -> tuple[Embeddings, float]:
        own = self._config.embedder
        embedder = ResNetEmbedder(threads=own.threads, head=head_of(self._config), runtime=runtime)
        embedder.warm_up()
        rows, times = [], []
        for start in range(0, len(self.crops), BATCH):
            batch = self.crops[start : start + BATCH]
            started = time.perf_counter()
            rows.append(embedder.embed(batch))
            times.append((time.perf_counter() - started) / len(batch))
        return np.concatenate(rows), statistics.median(times) * 1e3

    def calibration(self, stage: Stage) -> Iterator[Pixels]:
        """Yield a stage's inputs, one by one, of the photos that are not compared."""
        for photo in self._photos(self._calibration):
            if stage == "detector":
                yield letterbox(photo.pixels, self._config.detector.side_px)[None]
            else:
                yield cut_all(photo, [view.box for view in import_views((), min_confidence=1).values()])

    def _photos(self, paths: Sequence[Path]) -> Iterator[Photo]:
        """Yield working photos; files that are none are passed over, by every runtime alike."""
        for path in paths:
            with suppress(BadInput):
                yield decode(path.read_bytes())


def check_wanted(wanted: Sequence[Wanted]) -> None:
    """Raise BadConfig where this machine can't make one of them."""
    for each in wanted:
        need_means(each.backend, each.precision)
        if each.precision == "bf16" and not has_bf16(cpu_features()):
            raise BadConfig("this CPU has no bf16 (avx512_bf16 or AMX), and would be slower with it; choose fp32")


def compile_network(config: Config, wanted: Wanted, reference: Reference) -> Made:
    """Make one network, compare it with PyTorch's, and keep it where it is near enough.

    What was kept before under the same key stays where the new one is refused. Raises BadConfig and BadWeights.
    """
    key = key_of(config, wanted.stage, wanted.backend, wanted.precision)
    place = config.data_dir / COMPILED
    place.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".making-", dir=place) as work:
        folder = Path(work) / key.folder
        folder.mkdir()
        calibration = reference.calibration(wanted.stage)
        labels = make(config, wanted.stage, wanted.backend, wanted.precision, calibration, folder)
        description = describe(folder, labels)
        figures, ms, reference_ms = _compare(wanted, Runtime(wanted.backend, wanted.precision, folder), reference)
        problem = problem_of(figures, wanted.precision)
        if problem is None:
            more = {"parity": figures, "photos": reference.photos, "ms_per_item": ms, "torch_ms_per_item": reference_ms}
            keep(folder, place / key.folder, description.model_copy(update=more))
    return Made(wanted, figures, ms, reference_ms, time.monotonic() - started, problem)


def _compare(wanted: Wanted, runtime: Runtime, reference: Reference) -> tuple[Figures, float, float]:
    if wanted.stage == "detector":
        known, reference_ms = reference.detections
        found, ms = reference.detect(runtime)
        return compare_boxes(known, found), ms, reference_ms
    embeddings, reference_ms = reference.embeddings
    others, ms = reference.embed(runtime)
    return compare_embeddings(embeddings, others), ms, reference_ms
