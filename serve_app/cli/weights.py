"""`shoplens weights`."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Column, Table

from serve_app.browser_detector import DESCRIPTION, MODEL, PACKED, pack
from serve_app.config import PRECISIONS, Config, Stage
from serve_app.errors import BadConfig, BadWeights
from serve_app.exporting import export_detector
from serve_app.runtimes.artefacts import COMPILED, installed, key_of, read
from serve_app.runtimes.chosen import runtime_for
from serve_app.weights.browser_runtime import fetch_browser_runtime
from serve_app.weights.chosen import detector_sha256, head_of
from serve_app.weights.fetching import fetch_detector
from serve_app.weights.formats import Format
from serve_app.weights.loader import digest, embedder_files, fingerprint, verify


def fetch_weights(config: Config, console: Console) -> None:
    """Get the detector's weights; the embedder's are in the package."""
    path = config.detector_weights
    sha256 = detector_sha256(config)
    if config.detector.sha256 is not None:
        verify(path, sha256)
        console.print(f"{path} is there, sha256 {sha256[:12]}… checked; weights of your own are fetched from nowhere")
        return
    if config.detector.weights is not None and not path.parent.is_dir():
        raise BadConfig(f"detector.weights is {path}, whose folder does not exist; make it, or leave the setting out")
    with console.status("fetching …") as status:
        fetched = fetch_detector(path, lambda text: status.update(text + " …"))
    console.print(f"{path} {'fetched' if fetched else 'is there'}, sha256 {sha256[:12]}… checked")


def _show_compiled(config: Config, console: Console) -> None:
    """Print which compiled networks this machine can run, if any, and which each stage does."""
    table = Table("compiled", "ms", "photos compared", "made", box=None, pad_edge=False)
    for stage, (backend, precisions) in product(get_args(Stage), PRECISIONS.items()):
        for precision in precisions if installed(backend) else ():
            description = read(config.data_dir / COMPILED / key_of(config, stage, backend, precision).folder)
            if description is not None:
                row = (f"{description.ms_per_item:.1f}", str(description.photos), description.made[:19])
                table.add_row(f"{stage}, {backend}, {precision}", *row)
    if not table.row_count:
        return
    console.print(table)
    for stage in get_args(Stage):
        chosen = runtime_for(config, stage)
        console.print(f"The {stage} runs on {chosen.backend}, {chosen.precision}.")


def export_weights(config: Config, kind: Format, folder: Path, console: Console) -> None:
    """Make the detector for phones, and say where it is and what goes with it."""
    with console.status(f"making {kind}; this takes up to a minute …"):
        exported = export_detector(
            config.detector_weights, detector_sha256(config), kind, folder, config.detector.side_px
        )
    console.print(f"{exported.model} ({exported.size_bytes / 1e6:.1f} MB)", soft_wrap=True)
    console.print(f"{exported.description} tells what it takes and gives.", soft_wrap=True)
    if kind is Format.COREML:
        console.print("It was made, not run: only Apple's systems run it.")
    console.print(
        "The model is under the AGPL-3.0, and so is an app that holds it, unless Ultralytics licenses it to you."
    )


def prepare_browser(config: Config, folder: Path, console: Console) -> None:
    """Put what browsers find objects with into a folder, and say how much it is."""
    with console.status(f"making {Format.ONNX}; this takes up to a minute …") as status:
        sha256 = detector_sha256(config)
        made = export_detector(config.detector_weights, sha256, Format.ONNX, folder, config.detector.side_px)
        made.model.replace(folder / MODEL)
        made.description.replace(folder / DESCRIPTION)
        fetch_browser_runtime(folder, lambda text: status.update(text + " …"))
        status.update("compressing …")
        pack(folder)
    size_bytes = sum(path.stat().st_size for path in folder.glob(f"*{PACKED}"))
    console.print(f"{folder} ({size_bytes / 1e6:.1f} MB for each shopper's browser, once)", soft_wrap=True)
    console.print("Its model is under the AGPL-3.0, as the service is, whose source the page leads to.")


def show_weights(config: Config, console: Console) -> None:
    """Print each file and whether it is the one this release was made for."""
    files = embedder_files(head_of(config))
    wanted = {
        config.detector_weights: detector_sha256(config),
        files.backbone: digest(files.backbone),
        files.head: digest(files.head),
    }
    table = Table(Column("weights", overflow="fold"), "sha256", "state", box=None, pad_edge=False)
    broken = False
    for path, sha256 in wanted.items():
        state = "whole"
        try:
            verify(path, sha256)
        except BadWeights:
            state = "damaged" if path.is_file() else "missing"
            broken = True
        table.add_row(str(path), sha256[:12], state)
    console.print(table)
    console.print(f"The embedder's fingerprint is {fingerprint(files)}.")
    _show_compiled(config, console)
    if broken:
        raise BadWeights("`shoplens weights fetch` gets the detector's weights; the embedder's come with the package")
