"""The work of `shoplens index …`, with its output for people."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from serve_app.cli.local import milvus_uri
from serve_app.collection import IndexInfo
from serve_app.config import Config
from serve_app.weights.chosen import model_of

if TYPE_CHECKING:
    from serve_app.milvus.client import Client
    from serve_app.milvus.targets import Target
    from serve_app.promotion.filling import Filling


@dataclass(frozen=True, slots=True)
class _Site:
    """Hold a connection to Milvus, and the model that the settings name."""

    client: Client
    uri: str
    model: str


@contextmanager
def _site(config: Config, console: Console) -> Iterator[_Site]:
    from serve_app.milvus.client import connect

    model = model_of(config)
    with milvus_uri(config, console) as uri, closing(connect(config.milvus, uri)) as client:
        yield _Site(client, uri, model)


def show_status(config: Config, console: Console, *, as_json: bool) -> None:
    """Print every collection of the catalogue."""
    from serve_app.milvus import indexing, targets

    with _site(config, console) as site:
        found = indexing.describe(site.client, config.catalogue)
        known = {target.collection: target for target in targets.read_all(site.client, config.catalogue)}
        marks = targets.Marks(site.client, config.catalogue)
        marked = {name: marks.count(name) for name, target in known.items() if target.is_open}
    if as_json:
        collections = [
            asdict(info) | {"target": asdict(known[info.collection]), "marks": marked.get(info.collection, 0)}
            for info in found
            if info.collection in known
        ]
        console.print_json(json.dumps({"model": site.model, "collections": collections}, default=str))
        return
    console.print(_table(found, known, marked, site.model) if found else _NO_INDEX)
    if not any(info.alias and info.fingerprint == site.model for info in found):
        console.print(f"The running model, {site.model}, has no index: searches answer index_missing.")


_NO_INDEX = "No index yet; `shoplens import MANIFEST` makes one."


def _table(found: list[IndexInfo], known: dict[str, Target], marked: dict[str, int], model: str) -> Table:
    table = Table(
        Column("collection", no_wrap=True), "model", "in use", "rows", "index", "writes", "verified (UTC)", "marks",
        box=None,
    )  # fmt: skip
    for info in found:
        target = known.get(info.collection)
        state = target.state.value if target and target.state else ("yes" if info.alias else "none")
        verified = target.verified if target else None
        table.add_row(
            info.collection,
            f"{info.fingerprint}{' (running)' if info.fingerprint == model else ''}",
            "yes" if info.alias else "no",
            "not loaded" if info.rows is None else f"{info.rows:,}",
            info.index_type or "none",
            "yes" if info.alias else state,
            f"{verified.at[:19]}, recall {verified.recall:.3f}" if verified else "",
            f"{marked[info.collection]:,}" if marked.get(info.collection) else "",
        )
    return table


def create(config: Config, console: Console) -> None:
    """Make an empty collection."""
    from serve_app.catalogue.recipe import index_properties
    from serve_app.milvus import lifecycle

    with _site(config, console) as site:
        name = lifecycle.create(
            site.client, config.milvus, config.catalogue, site.model, datetime.now(UTC), index_properties(config)
        )
    console.print(f"{name} is made. Next: shoplens index backfill {name}")


def backfill(
    config: Config, collection: str, manifest: Path | None, console: Console, *, address: str | None, force: bool
) -> None:
    """Fill a collection from the same model's index, or from images."""
    if manifest is None:
        _copy(config, collection, console, force=force)
    else:
        _embed(config, collection, manifest, console, address=address, force=force)
    console.print(f"{collection} is filled, and imports write to it. Next: shoplens index verify {collection}")


def _copy(config: Config, collection: str, console: Console, *, force: bool) -> None:
    from serve_app.milvus import backfill as filling

    started_s = time.monotonic()
    with _site(config, console) as site, console.status("copying …") as shown:
        done = filling.backfill(
            site.client, site.uri, config.milvus, config.catalogue, collection, force=force,
            tell=lambda progress: shown.update(f"copying … {progress.seen:,} rows read, {progress.copied:,} copied"),
        )  # fmt: skip
    seconds = time.monotonic() - started_s
    console.print(f"{done.copied:,} rows copied and {done.removed:,} removed in {seconds:,.0f} s.")


def _embed(
    config: Config, collection: str, manifest: Path, console: Console, *, address: str | None, force: bool
) -> None:
    from serve_app.cli.importing import Options, import_catalogue
    from serve_app.errors import BadConfig
    from serve_app.milvus import backfill as filling
    from serve_app.milvus import targets

    # Marks of events up to now are answered by what the manifest says now.
    now_ms = time.time_ns() // 10**6
    with _site(config, console) as site:
        target = targets.read(site.client, config.catalogue, collection)
        if target.fingerprint != site.model:
            raise BadConfig(f"{collection} is for the model {target.fingerprint}; the settings name {site.model}")
        filling.open_target(site.client, site.uri, config.milvus, config.catalogue, collection, force=force)
        import_catalogue(config, Options(str(manifest), address=address, collection=collection), console)
        targets.Marks(site.client, config.catalogue).clear_before(collection, now_ms)
        targets.remember(site.client, collection, state=targets.State.MIRRORED)


def verify(
    config: Config, collection: str, queries: int, min_recall: float, min_overlap: float, console: Console
) -> None:
    """Check a collection and remember the outcome."""
    from serve_app.milvus.verify import Demands
    from serve_app.milvus.verify import verify as run

    demands = Demands(queries, min_recall, min_overlap)
    with _site(config, console) as site, console.status("comparing …"):
        found = run(site.client, config.milvus, config.catalogue, collection, config.searcher.params, demands)
    overlap = "" if found.overlap is None else f", {found.overlap:.1%} of the products that the old one finds"
    console.print(f"{collection} is verified: {found.rows:,} rows, recall@10 {found.recall:.3f}{overlap}.")
    console.print(f"Next: shoplens index switch {collection}")


def fill(config: Config, manifest: Path, console: Console, *, address: str | None) -> str:
    """Let a verified index of the settings' model stand under its alias; return its collection.

    What was done before is not done again: a collection is found again, embedded images are skipped. Raises
    NotVerified where one stands that lacks images which the manifest does not bring.
    """
    from serve_app.errors import NotVerified
    from serve_app.milvus.verify import Demands

    found = _filling(config, console)
    if found.amiss:
        _catch_up(config, found.collection, manifest, console, address=address)
        found = _filling(config, console)
        if found.amiss:
            raise NotVerified(f"{found.collection} stands for its model, but {found.amiss}; is the manifest whole?")
    name = found.collection
    if not found.stands:
        if not found.filled:
            _embed(config, name, manifest, console, address=address, force=False)
        demands = Demands()
        verify(config, name, demands.queries, demands.min_recall, demands.min_overlap, console)
        switch(config, name, console)
    return name


def _filling(config: Config, console: Console) -> Filling:
    from serve_app.catalogue.recipe import index_properties
    from serve_app.promotion.filling import collection_for

    with _site(config, console) as site:
        return collection_for(
            site.client, config.milvus, config.catalogue, site.model, datetime.now(UTC), index_properties(config)
        )


def _catch_up(config: Config, collection: str, manifest: Path, console: Console, *, address: str | None) -> None:
    """Import into an index that stands, as writers of another model left images out of it."""
    from serve_app.cli.importing import Options, import_catalogue
    from serve_app.milvus import targets

    now_ms = time.time_ns() // 10**6
    with _site(config, console) as site:
        import_catalogue(config, Options(str(manifest), address=address), console)
        targets.Marks(site.client, config.catalogue).clear_before(collection, now_ms)


def switch(config: Config, collection: str, console: Console) -> None:
    """Let searches use a collection."""
    from serve_app.milvus import lifecycle

    with _site(config, console) as site:
        before = lifecycle.switch(site.client, config.catalogue, collection)
    console.print(f"{collection} is searched from now on.")
    if before is not None and before != collection:
        console.print(f"Back: shoplens index rollback. When it is no longer needed: shoplens index drop {before}")


def rollback(config: Config, console: Console) -> None:
    """Let searches use what they used before."""
    from serve_app.milvus import lifecycle

    with _site(config, console) as site:
        name = lifecycle.rollback(site.client, config.catalogue, site.model)
    console.print(f"{name} is searched again.")


def retire(config: Config, collection: str, console: Console) -> None:
    """Take the collection of a model that no longer runs out of use."""
    from serve_app.milvus import lifecycle

    with _site(config, console) as site:
        lifecycle.retire(site.client, config.catalogue, collection, site.model)
    console.print(f"{collection} is no longer searched. Next: shoplens index drop {collection}")


def drop(config: Config, collection: str, console: Console) -> None:
    """Delete a collection."""
    from serve_app.milvus import lifecycle

    with _site(config, console) as site:
        lifecycle.drop(site.client, config.catalogue, collection)
    console.print(f"{collection} is deleted.")


def export(config: Config, folder: Path, collection: str | None, console: Console) -> None:
    """Write an index to Parquet."""
    from serve_app.milvus import export as exporting

    started_s, read = time.monotonic(), 0

    with _site(config, console) as site, console.status("reading …") as shown:

        def tell(rows: int) -> None:
            nonlocal read
            read += rows
            shown.update(f"reading … {read:,} rows")

        name = collection or exporting.default_collection(site.client, config.catalogue, site.model)
        about = exporting.export(site.client, config.catalogue, name, folder, tell=tell)
    seconds = time.monotonic() - started_s
    console.print(f"{about.rows:,} rows of {name} are in {folder}, written in {seconds:,.0f} s.", soft_wrap=True)
    if about.changed:
        console.print(
            f"{about.changed:,} rows changed while it was compared for the last time; run it again for those."
        )


def restore(config: Config, folder: Path, console: Console) -> None:
    """Make a collection of an export."""
    from serve_app.milvus import export as exporting

    written = 0
    with _site(config, console) as site, console.status("writing …") as shown:

        def tell(rows: int) -> None:
            nonlocal written
            written += rows
            shown.update(f"writing … {written:,} rows")

        name = exporting.restore(site.client, config.milvus, config.catalogue, folder, datetime.now(UTC), tell=tell)
    console.print(f"{name} holds {written:,} rows of {folder}. Next: shoplens index verify {name}", soft_wrap=True)
