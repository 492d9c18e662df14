"""`shoplens import`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from serve_app.catalogue import past, quarantine, reading
from serve_app.catalogue.manifest import count
from serve_app.catalogue.quarantine import Quarantine
from serve_app.catalogue.report import Report, Status, Summary
from serve_app.cli.local import milvus_uri, need_models, set_ray_environment
from serve_app.collection import STAMP
from serve_app.config import Config
from serve_app.errors import BadConfig, BadManifest, TooManyProblems
from serve_app.image_folders import remember

if TYPE_CHECKING:
    from serve_app.catalogue.driver import Job

LOCAL_IMAGES = 20_000
"""Up to about so many images, Milvus Lite answers fast enough (README, limits)."""


@dataclass(frozen=True, slots=True)
class Options:
    """Say how a manifest is imported.

    `manifest` may be a URL; with `retry`, a quarantine's folder is imported instead. A `full` manifest is all that its
    feed holds: what it no longer names is removed, with `yes` however much that is. With `collection`, the rows go to
    one that is being filled.
    """

    manifest: str | None
    retry: Path | None = None
    feed: str = ""
    full: bool = False
    yes: bool = False
    address: str | None = None
    collection: str | None = None
    metrics_port: int | None = None


def import_catalogue(config: Config, options: Options, console: Console) -> Summary:
    """Import a manifest with progress, print what became of it and return that.

    Raises BadManifest, BadWeights, BadConfig, MilvusUnavailable, DeadlineExceeded and StageUnavailable; at the end
    TooMuchGone, and TooManyProblems, where more was left out than `import.max_error_ratio`.
    """
    now = datetime.now(UTC)
    folder = config.data_dir / past.FOLDER / now.strftime(STAMP)
    _check(config, options)
    if options.retry is not None:
        name, manifest, base = str(options.retry), options.retry, quarantine.base(options.retry)
    else:
        name = options.manifest or ""
        manifest, base = reading.local_copy(name, folder, config), reading.base_of(name)
    total = count(manifest)
    need_models(config, config.importing.device)
    if config.milvus.uri is None and total > LOCAL_IMAGES:
        console.print(
            f"{total:,} images are many for the local index, which is meant for about {LOCAL_IMAGES:,}; "
            "set milvus.uri to a Milvus server for more."
        )
    if options.address is None:
        set_ray_environment()
    from serve_app.catalogue.driver import Job

    job = Job(manifest, base, now, options.feed, options.collection)
    if not reading.scheme_of(base):
        remember(config.data_dir, base)
    left_out = Quarantine(folder / "quarantine", name, base)
    report = Report(left_out, _calls(config))
    with milvus_uri(config, console) as uri:
        try:
            _run(config, job, uri, options, total, report, console)
        except KeyboardInterrupt:
            console.print("Interrupted. What was written stays; run the same import again to go on.")
            raise
        finally:
            left_out.flush()
            summary = report.summary()
            at = now.isoformat(timespec="seconds")
            past.write(folder, name, at, summary, 0)
            _print(summary, total, console)
        if summary.error_ratio > config.importing.max_error_ratio:
            raise TooManyProblems(
                f"{summary.error_ratio:.0%} of the rows were left out, more than "
                f"{config.importing.max_error_ratio:.0%} (import.max_error_ratio)"
            )
        removed = _remove(config, job, uri, options, console)
        past.write(folder, name, at, summary, removed)
    _write_page(config, folder / "summary.html", name, base, report, removed, now, console)
    return summary


def _check(config: Config, options: Options) -> None:
    if (options.manifest is None) == (options.retry is None):
        raise BadManifest("name a manifest, or a quarantine with --retry-quarantine")
    if options.full and (options.retry or options.collection):
        raise BadConfig("--full is for a manifest of all that a feed holds")
    if options.address is not None and config.milvus.uri is None:
        raise BadConfig("workers of a cluster can't reach this machine's index; set milvus.uri to a Milvus server")


def _calls(config: Config) -> Mapping[str, int]:
    options = config.importing
    return {
        "readers": options.readers,
        "models": options.workers,
        "writers": options.writers * options.writes_at_once,
    }


def _run(config: Config, job: Job, uri: str, options: Options, total: int, report: Report, console: Console) -> None:
    from serve_app.catalogue.driver import run

    metrics = None
    if options.metrics_port is not None:
        from serve_app.catalogue.metrics import ImportMetrics

        metrics = ImportMetrics(config.http.host, options.metrics_port)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[left_out]}{task.fields[busy]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("comparing with the index", total=total, left_out="", busy="")

        def starting() -> None:
            progress.update(task, description="starting the models")

        for step in run(config, job, uri, address=options.address, starting=starting):
            report.add(step.outcomes, step.seconds)
            if metrics is not None:
                metrics.add(step.outcomes, step.seconds)
            embedded = any(outcome.status is Status.EMBEDDED for outcome in step.outcomes)
            summary = report.summary()
            left_out = sum(summary.problems.values())
            progress.update(
                task,
                description="importing" if embedded else None,
                advance=len(step.outcomes),
                left_out=f"{left_out:,} left out, " if left_out else "",
                busy=", ".join(f"{name} {part:.0%}" for name, part in summary.busy.items()),
            )


class _Rate(ProgressColumn):
    """Show images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} images/s")


def _remove(config: Config, job: Job, uri: str, options: Options, console: Console) -> int:
    if not options.full:
        return 0
    from serve_app.catalogue.driver import remove_gone

    with console.status("looking for what is gone from the feed …"):
        removed = remove_gone(config, job, uri, yes=options.yes)
    if removed:
        console.print(f"{removed:,} images removed, which the manifest no longer names.")
    return removed


def _write_page(
    config: Config, path: Path, name: str, base: str, report: Report, removed: int, now: datetime, console: Console
) -> None:
    if not report.accepted and not report.refused:
        return
    from serve_app.catalogue import page

    with closing(reading.ImageReader(config, base)) as reader:
        page.write(path, page.About(name, now.isoformat(timespec="seconds"), removed), report, reader)
    console.print(f"A summary with pictures: {escape(str(path))}", soft_wrap=True)


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
    if summary.duplicates:
        console.print(f"{summary.duplicates:,} images show a picture that was there already.")
    if summary.problems:
        kinds = ", ".join(f"{number:,} {escape(code)}" for code, number in summary.problems.items())
        console.print(f"{sum(summary.problems.values()):,} images were left out: {kinds}.")
        console.print(f"Each with its reason: {escape(str(summary.quarantine))}", soft_wrap=True)
        console.print("Mend what can be mended and try them again with --retry-quarantine.")
