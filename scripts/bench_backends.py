"""Compare what runs the two networks: PyTorch, and what `shoplens weights compile` makes for this CPU.

All sides stand in one process with the same threads and take turns on the same photos, so that the machine's noise
meets all. What parity refuses is not measured, and is told. `end to end` decodes a photo, finds its objects, and embeds
the crops that a search would cut, one photo at a time. GFLOP/s are set against those of a large matrix product in
float32 on the same threads, the most that PyTorch gets out of this CPU; 8-bit and bf16 arithmetic may be above it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from scripts.backend_recall import recall_rows
from scripts.measuring import EXIT_COULD_NOT_RUN, Goal, Report, cores, median_and_spread
from scripts.training_photos import read_luma, read_radios
from serve_app.backbone import FeatureNetwork
from serve_app.compiling import Made, Reference, check_wanted, compile_network
from serve_app.config import Config, Stage, load_config
from serve_app.detector import YoloDetector, letterbox
from serve_app.domain import Photo
from serve_app.embedder import ResNetEmbedder
from serve_app.errors import ShoplensError
from serve_app.images import CROP_SIDE_PX, cut_all, decode
from serve_app.objects import Focus, choose_objects, query_boxes
from serve_app.runtimes.artefacts import installed
from serve_app.runtimes.chosen import runtime_for
from serve_app.runtimes.cpu import cpu_features
from serve_app.runtimes.photos import find_photos
from serve_app.runtimes.runtime import Wanted
from serve_app.weights.chosen import detector_sha256
from serve_app.yolo import YoloGraph

WANTED: tuple[tuple[str, str], ...] = (
    ("openvino", "fp32"),
    ("onnxruntime", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("onnxruntime", "int8"),
)
TORCH = "torch fp32"
OBJECTS = 3
"""Objects of a photo that a search with default settings looks for."""
EMBEDDED_AT_ONCE = 16
MATRIX_SIDE = 2048
PARTS = ("detector", "embedder", "end to end")
GOALS = {"fp32": 1.5, "bf16 or int8": 3.0}
"""End to end against PyTorch in float32, for the best of each."""


@dataclass(frozen=True)
class Side:
    """Hold one way to run both networks; where parity refused one of them, that one is the float32 of the backend."""

    name: str
    detector: YoloDetector
    embedder: ResNetEmbedder


def main() -> int:
    arguments = _arguments()
    console = Console()
    try:
        with tempfile.TemporaryDirectory() as folder:
            report = run(arguments, arguments.data_dir or Path(folder), console)
    except (ShoplensError, OSError, KeyError) as error:
        console.print(f"could not run: {error}", markup=False)
        return EXIT_COULD_NOT_RUN
    if arguments.plot:
        _plot(report, arguments.plot)
    return report.finish(console, arguments.json)


def run(arguments: argparse.Namespace, data_dir: Path, console: Console) -> Report:
    """Compile what is not there yet, then measure; raises ShoplensError."""
    config = _config(arguments, data_dir)
    compared, calibration = find_photos(arguments.photos)
    settings = {
        "threads": arguments.threads,
        "cpu": cpu_features(),
        "photos": arguments.photos.name,
        "measured": arguments.measured,
        "rounds": arguments.rounds,
    }
    report = Report("bench_backends", settings)
    reference = Reference(config, compared, calibration)
    wanted = [each for each in WANTED if each[1] in arguments.precisions]
    refused = _compile(config, wanted, reference, report, console)
    photos = [path.read_bytes() for path in compared[: arguments.measured]]
    sides = _sides(config, wanted, refused)
    measured = _take_turns(sides, photos, arguments.rounds, console)
    _summarise(report, measured, _work(config, photos), _peak_gflops(arguments.threads))
    if arguments.luma or arguments.radios:
        luma = read_luma(arguments.luma) if arguments.luma else None
        radios = read_radios(arguments.radios) if arguments.radios else None
        with console.status("searching …"):
            report.rows += recall_rows({side.name: side.embedder for side in sides}, luma, radios)
    return report


def _config(arguments: argparse.Namespace, data_dir: Path) -> Config:
    config = load_config(data_dir=data_dir)
    both = {"threads": arguments.threads, "backend": "torch"}
    detector = config.detector.model_copy(update={**both, "weights": arguments.weights})
    return config.model_copy(update={"detector": detector, "embedder": config.embedder.model_copy(update=both)})


def _with(config: Config, stage: Stage, backend: str, precision: str) -> Config:
    own = getattr(config, stage).model_copy(update={"backend": backend, "precision": precision})
    return config.model_copy(update={stage: own})


def _compile(
    config: Config, networks: Sequence[tuple[str, str]], reference: Reference, report: Report, console: Console
) -> set[tuple[str, str, str]]:
    """Make what is missing, show its parity, and return what was refused."""
    refused = set()
    for backend, precision in networks:
        for stage in get_args(Stage):
            wanted = Wanted(stage, backend, precision)  # type: ignore[arg-type]
            if not installed(backend):  # type: ignore[arg-type]
                refused.add((stage, backend, precision))
                continue
            try:
                check_wanted([wanted])
                runtime_for(_with(config, stage, backend, precision), stage)
            except ShoplensError:
                with console.status(f"making {stage}, {backend}, {precision} …"):
                    made = compile_network(config, wanted, reference)
                report.rows.append(_parity(made))
                if made.problem:
                    refused.add((stage, backend, precision))
    return refused


def _parity(made: Made) -> dict[str, Any]:
    wanted, figures = made.wanted, made.figures
    told = ("boxes", "matched", "embeddings", "least cosine", "median cosine", "shared of 10")
    return {
        "network": f"{wanted.stage} {wanted.backend} {wanted.precision}",
        **{name: f"{figures[name]:.4g}" if name in figures else "–" for name in told},
        "s to make": round(made.seconds),
        "": f"refused: {made.problem}" if made.problem else "kept",
    }


def _sides(config: Config, wanted: Sequence[tuple[str, str]], refused: set[tuple[str, str, str]]) -> list[Side]:
    sides = [_side(TORCH, config)]
    for backend, precision in wanted:
        own = config
        names = []
        for stage in get_args(Stage):
            exact = "fp32" if (stage, backend, precision) in refused else precision
            if (stage, backend, exact) in refused:
                break
            own = _with(own, stage, backend, exact)
            names.append(exact)
        # Where both were refused, it is the float32 side again.
        if len(names) == len(get_args(Stage)) and precision in names:
            name = precision if names == [precision] * 2 else f"{names[0]} + {names[1]}"
            sides.append(_side(f"{backend} {name}", own))
    return sides


def _side(name: str, config: Config) -> Side:
    threads, weights = config.detector.threads, config.detector_weights
    detector = YoloDetector(
        weights, sha256=detector_sha256(config), threads=threads, runtime=runtime_for(config, "detector")
    )
    embedder = ResNetEmbedder(threads=threads, runtime=runtime_for(config, "embedder"))
    return Side(name, detector, embedder)


# --- what is measured


def _take_turns(
    sides: Sequence[Side], photos: Sequence[bytes], rounds: int, console: Console
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each round, by part and side."""
    decoded = [decode(photo) for photo in photos]
    crops = np.stack([cut_all(photo, query_boxes((), Focus()))[0] for photo in decoded])
    parts: Mapping[str, Callable[[Side], None]] = {
        "detector": lambda side: _detect(side, decoded),
        "embedder": lambda side: _embed(side, crops),
        "end to end": lambda side: _search(side, photos),
    }
    measured: dict[str, dict[str, list[float]]] = {part: {side.name: [] for side in sides} for part in parts}
    with console.status("measuring …"):
        for side in sides:
            _search(side, photos)
        for number in range(rounds):
            for part, work in parts.items():
                for side in sides if number % 2 == 0 else sides[::-1]:
                    started = time.perf_counter()
                    work(side)
                    measured[part][side.name].append(time.perf_counter() - started)
    return measured


def _detect(side: Side, photos: Sequence[Photo]) -> None:
    for photo in photos:
        side.detector.find([photo])


def _embed(side: Side, crops: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    for start in range(0, len(crops), EMBEDDED_AT_ONCE):
        side.embedder.embed(crops[start : start + EMBEDDED_AT_ONCE])


def _search(side: Side, photos: Sequence[bytes]) -> None:
    for data in photos:
        photo = decode(data)
        (found,) = side.detector.find([photo])
        chosen = choose_objects(found, OBJECTS)
        side.embedder.embed(cut_all(photo, query_boxes(chosen, Focus())))


def _work(config: Config, photos: Sequence[bytes]) -> dict[str, float]:
    """Return the GFLOP of each network per photo or crop; end to end has no number of its own."""
    yolo, features = YoloGraph(config.detector_weights, detector_sha256(config)), FeatureNetwork(_files(config))
    boards = [letterbox(decode(photo).pixels, config.detector.side_px) for photo in photos[:8]]
    crop = np.zeros((CROP_SIDE_PX, CROP_SIDE_PX, 3), np.uint8)
    return {
        "detector": statistics.mean(_gflop(yolo, board) for board in boards),
        "embedder": _gflop(features, crop),
    }


def _files(config: Config) -> Any:
    from serve_app.weights.loader import embedder_files

    return embedder_files(config.embedder.head)


def _gflop(network: torch.nn.Module, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.from_numpy(pixels[None]))
    return float(counter.get_total_flops()) / 1e9


def _peak_gflops(threads: int) -> float:
    torch.set_num_threads(threads)
    one = torch.rand(MATRIX_SIDE, MATRIX_SIDE)
    seconds = []
    for _ in range(8):
        started = time.perf_counter()
        one @ one
        seconds.append(time.perf_counter() - started)
    return 2 * MATRIX_SIDE**3 / min(seconds) / 1e9


# --- what it says


def _summarise(
    report: Report, measured: Mapping[str, Mapping[str, list[float]]], work: Mapping[str, float], peak: float
) -> None:
    best = dict.fromkeys(GOALS, 0.0)
    items = report.settings["measured"]
    report.settings = {**report.settings, "gflop": dict(work), "matrix product, GFLOP/s": peak}
    for part in PARTS:
        for name, seconds in measured[part].items():
            ratios = [torch_s / own_s for torch_s, own_s in zip(measured[part][TORCH], seconds, strict=True)]
            ratio, spread = median_and_spread(ratios)
            each_s = statistics.median(seconds) / items
            share = f"{work[part] / each_s / peak:.2f}" if part in work else "–"
            report.rows.append(
                {
                    "part": part,
                    "side": name,
                    "ms": each_s * 1e3,
                    "times torch": ratio,
                    "spread": spread,
                    "share of peak": share,
                }
            )
            if part == PARTS[-1] and name != TORCH:
                kind = "fp32" if name.endswith(" fp32") else "bf16 or int8"
                best[kind] = max(best[kind], ratio)
    for kind, goal in GOALS.items():
        if not best[kind]:
            continue
        report.goals.append(Goal(f"end to end, best with {kind} to torch", best[kind], goal, "higher"))


def _plot(report: Report, path: Path) -> None:
    rows = [row for row in report.rows if "times torch" in row]
    names = list(dict.fromkeys(row["side"] for row in rows))
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        heights = [row["times torch"] for row in rows if row["side"] == name]
        axes.bar([place + number * width for place in range(len(PARTS))], heights, width, label=name)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(PARTS))], PARTS)
    axes.set_ylabel("times as fast as PyTorch")
    axes.legend()
    figure.savefig(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos, with all below it")
    parser.add_argument("--weights", type=Path, required=True, help="the detector's weights, yolo26n.pt")
    parser.add_argument("--data-dir", type=Path, help="keeps what was compiled, for other runs")
    parser.add_argument("--luma", type=Path, help="folder of the luma catalogue, to compare recall on")
    parser.add_argument("--radios", type=Path, help="folder of radio photos, to compare recall on")
    parser.add_argument("--threads", type=int, default=cores(), help="threads of each side (default: %(default)s)")
    parser.add_argument("--measured", type=int, default=48, help="photos of each turn (default: %(default)s)")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=["fp32", "bf16", "int8"],
        default=["fp32", "bf16", "int8"],
        help="what is made and measured (default: all)",
    )
    parser.add_argument("--quick", action="store_true", help="three rounds instead of nine")
    parser.add_argument("--plot", type=Path, help="write a plot to this file (.png or .svg)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    arguments.rounds = 3 if arguments.quick else 9
    return arguments


if __name__ == "__main__":
    raise SystemExit(main())
