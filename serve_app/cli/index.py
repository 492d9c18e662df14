"""`shoplens index`."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Column, Table

from serve_app.cli.local import milvus_uri
from serve_app.collection import IndexInfo
from serve_app.config import Config
from serve_app.weights.loader import embedder_files, fingerprint


def show_index(config: Config, console: Console, *, as_json: bool) -> None:
    """Print every collection of the catalogue."""
    from serve_app.milvus.client import connect
    from serve_app.milvus.indexing import describe

    with milvus_uri(config, console) as uri:
        found = describe(connect(config.milvus, uri), config.catalogue)
    model = fingerprint(embedder_files(config.embedder.head))
    if as_json:
        console.print_json(json.dumps({"model": model, "collections": [asdict(info) for info in found]}, default=str))
        return
    console.print(_table(found, model) if found else "No index yet; `shoplens import MANIFEST` makes one.")
    if not any(info.alias and info.fingerprint == model for info in found):
        console.print(f"The running model, {model}, has no index: searches answer index_missing.")


def _table(found: list[IndexInfo], model: str) -> Table:
    table = Table(Column("collection", no_wrap=True), "model", "in use", "rows", "index", "made (UTC)", box=None)
    for info in found:
        table.add_row(
            info.collection,
            f"{info.fingerprint}{' (running)' if info.fingerprint == model else ''}",
            "yes" if info.alias else "no",
            "not loaded" if info.rows is None else f"{info.rows:,}",
            info.index_type or "none",
            f"{info.created:%Y-%m-%d %H:%M:%S}",
        )
    return table
