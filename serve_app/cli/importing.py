"""`shoplens import`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from serve_app.catalogue.manifest import count
from serve_app.catalogue.report import Report, Status, Summary
from serve_app.cli.local import milvus_uri, need_detector_weights, set_ray_environment
from serve_app.config import Config
from serve_app.errors import BadConfig

LOCAL_IMAGES = 20_000
"""Up to about so many images, Milvus Lite answers fast enough (README, limits)."""


def import_catalogue(
    config: Config, manifest: Path, console: Console, *, address: str | None = None, collection: str | None = None
) -> Summary:
    """Import a manifest with progress, print what became of it and return that.

    With `collection`, the rows go to one that is being filled. Raises BadManifest, BadWeights, BadConfig,
    MilvusUnavailable, DeadlineExceeded and StageUnavailable.
    """
    total = count(manifest)
    need_detector_weights(config)
    if address is not None and config.milvus.uri is None:
        raise BadConfig("workers of a cluster can't reach this machine's index; set milvus.uri to a Milvus server")
    if config.milvus.uri is None and total > LOCAL_IMAGES:
        console.print(
            f"{total:,} images are many for the local index, which is meant for about {LOCAL_IMAGES:,}; "
            "set milvus.uri to a Milvus server for more."
        )
    with milvus_uri(config, console) as uri, Report(config.data_dir, datetime.now(UTC)) as report:
        try:
            _run(config, manifest, uri, address, collection, total, report, console)
        except KeyboardInterrupt:
            console.print("Interrupted. What was written stays; run the same import again to go on.")
            raise
        finally:
            _print(report.summary(), total, console)
    return report.summary()


def _run(
    config: Config,
    manifest: Path,
    uri: str,
    address: str | None,
    collection: str | None,
    total: int,
    report: Report,
    console: Console,
) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    if address is None:
        set_ray_environment()
    from serve_app.catalogue.driver import run

    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("comparing with the index", total=total)

        def starting() -> None:
            progress.update(task, description="starting the models")

        for outcomes in run(config, manifest, uri, address=address, starting=starting, collection=collection):
            report.add(outcomes)
            embedded = any(outcome.status is Status.EMBEDDED for outcome in outcomes)
            progress.update(task, description="importing" if embedded else None, advance=len(outcomes))


class _Rate(ProgressColumn):
    """Show images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} images/s")


def _print(summary: Summary, total: int, console: Console) -> None:
    """Say in a few lines what happened."""
    made = ", ".join(
        f"{number:,} {name}"
        for name, number in (
            ("embedded", summary.embedded),
            ("updated without the models", summary.updated),
            ("unchanged", summary.unchanged),
            ("left alone, because the index has newer", summary.stale),
        )
        if number
    )
    seen = f"{summary.rows:,} images" if summary.rows == total else f"{summary.rows:,} of {total:,} images"
    console.print(f"{seen} in {summary.seconds:,.1f} s: {made or 'none imported'}.")
    if summary.written_rows or summary.removed_views:
        removed = f", {summary.removed_views:,} removed" if summary.removed_views else ""
        console.print(f"{summary.written_rows:,} rows written to the index{removed}.")
    if summary.problems:
        kinds = ", ".join(f"{number:,} {escape(code)}" for code, number in summary.problems.items())
        console.print(f"{sum(summary.problems.values()):,} images were left out: {kinds}.")
        console.print(f"Each with its reason: {escape(str(summary.problems_file))}", soft_wrap=True)
