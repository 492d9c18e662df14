"""`shoplens index …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.options import ConfigOption, DataDirOption, console
from serve_app.config import load_config

app = typer.Typer(help="The index: what there is, and replacing it while it is searched.", invoke_without_command=True)

CollectionArgument = Annotated[str, typer.Argument(help="A collection, as `shoplens index` lists it.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Load it even where its memory may not be there.")]


@app.callback()
def _index(
    context: typer.Context,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is indexed, or replace an index while it is searched and written to.

    Without a command: `status`. The way to a new index, each step of which can be killed and run again:

        create → backfill → verify → switch, and back by rollback; drop ends it
    """
    if context.invoked_subcommand is None:
        status(config, data_dir, as_json)


@app.command()
def status(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show collections, rows, which one each model searches, and how far a replacement has come."""
    from serve_app.cli.lifecycle import show_status

    show_status(load_config(config, data_dir=data_dir), console(), as_json=as_json)


@app.command()
def create(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Make an empty collection for the configured model, with the index that `milvus` in the settings names."""
    from serve_app.cli.lifecycle import create as run

    run(load_config(config, data_dir=data_dir), console())


@app.command()
def backfill(
    collection: CollectionArgument,
    manifest: Annotated[
        Path | None, typer.Option(help="Embed these images anew; default: copy the vectors of the same model's index.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster, for --manifest.")] = None,
    force: ForceOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Fill a collection while the other one is searched; imports write to both from here on."""
    from serve_app.cli.lifecycle import backfill as run

    settings = load_config(config, data_dir=data_dir)
    run(settings, collection, manifest, console(), address=address, force=force)


@app.command()
def verify(
    collection: CollectionArgument,
    queries: Annotated[int, typer.Option(help="Rows drawn as queries.", min=1, max=10_000)] = 100,
    min_recall: Annotated[float, typer.Option(help="Least recall@10 against exact search.", min=0, max=1)] = 0.95,
    min_overlap: Annotated[
        float, typer.Option(help="Least share of products that old and new find.", min=0, max=1)
    ] = 0.9,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Check that a collection holds every row, and that its index finds what exact search finds."""
    from serve_app.cli.lifecycle import verify as run

    run(load_config(config, data_dir=data_dir), collection, queries, min_recall, min_overlap, console())


@app.command()
def switch(collection: CollectionArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Let searches use a verified collection from now on; running services follow by themselves."""
    from serve_app.cli.lifecycle import switch as run

    run(load_config(config, data_dir=data_dir), collection, console())


@app.command()
def rollback(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Let searches of the configured model use what they used before the last switch."""
    from serve_app.cli.lifecycle import rollback as run

    run(load_config(config, data_dir=data_dir), console())


@app.command()
def retire(collection: CollectionArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Take the index of a model that no longer runs out of use, so that it can be dropped."""
    from serve_app.cli.lifecycle import retire as run

    run(load_config(config, data_dir=data_dir), collection, console())


@app.command()
def drop(
    collection: CollectionArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Delete a collection that isn't searched, with all its rows."""
    from serve_app.cli.lifecycle import drop as run

    if not yes:
        typer.confirm(f"Delete {collection} and all its rows?", abort=True)
    run(load_config(config, data_dir=data_dir), collection, console())


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder, or one whose export is to go on.")],
    collection: Annotated[str | None, typer.Option(help="Default: what the configured model searches.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Write an index to Parquet files, with its vectors; run again, it goes on."""
    from serve_app.cli.lifecycle import export as run

    run(load_config(config, data_dir=data_dir), folder, collection, console())


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="What `export` wrote.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a new collection of an export; run again, it goes on. Then verify it and switch to it."""
    from serve_app.cli.lifecycle import restore as run

    run(load_config(config, data_dir=data_dir), folder, console())
