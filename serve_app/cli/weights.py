"""`shoplens weights`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

from serve_app.config import Config
from serve_app.errors import BadConfig, BadWeights
from serve_app.weights.chosen import head_of
from serve_app.weights.fetching import fetch_detector
from serve_app.weights.loader import DETECTOR_SHA256, digest, embedder_files, fingerprint, verify


def fetch_weights(config: Config, console: Console) -> None:
    """Get the detector's weights; the embedder's are in the package."""
    path = config.detector_weights
    if config.detector.weights is not None and not path.parent.is_dir():
        raise BadConfig(f"detector.weights is {path}, whose folder does not exist; make it, or leave the setting out")
    with console.status("fetching …") as status:
        fetched = fetch_detector(path, lambda text: status.update(text + " …"))
    console.print(f"{path} {'fetched' if fetched else 'is there'}, sha256 {DETECTOR_SHA256[:12]}… checked")


def show_weights(config: Config, console: Console) -> None:
    """Print each file and whether it is the one this release was made for."""
    files = embedder_files(head_of(config))
    wanted = {
        config.detector_weights: DETECTOR_SHA256,
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
    if broken:
        raise BadWeights("`shoplens weights fetch` gets the detector's weights; the embedder's come with the package")
