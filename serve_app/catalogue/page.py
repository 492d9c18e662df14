"""The summary of an import as one HTML page, for a person to look at."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw

from serve_app.catalogue.reading import Bytes, ImageReader
from serve_app.catalogue.report import Outcome, Report, Summary
from serve_app.errors import BadInput
from serve_app.images import decode

SIDE_PX = 192
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .2rem 1.2rem .2rem 0; text-align: left; vertical-align: top }
td.number { font-variant-numeric: tabular-nums; text-align: right }
ul { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)) }
ul { list-style: none; padding: 0 }
li { overflow-wrap: anywhere } img, .none { background: #8882; height: 12rem; object-fit: contain; width: 100% }
.none { align-items: center; display: flex; justify-content: center } small { display: block }
"""


@dataclass(frozen=True, slots=True)
class About:
    """Name an import for its page."""

    manifest: str
    at: str
    removed: int


def write(path: Path, about: About, report: Report, reader: ImageReader) -> None:
    """Write the page; the images of its sample are read once more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(_page(about, report, reader)), encoding="utf-8")


def _page(about: About, report: Report, reader: ImageReader) -> Iterator[str]:
    summary = report.summary()
    title = f"Import of {escape(about.manifest)}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<h1>{title}</h1><p>{escape(about.at)}, {summary.seconds:,.0f} s</p>"
    yield _table(_counts(summary, about.removed))
    yield "<h2>How busy the workers were</h2>"
    yield _table([(name, f"{part:.0%}") for name, part in summary.busy.items()])
    if summary.problems:
        yield f"<h2>Left out</h2><p>Each with its reason: {escape(str(summary.quarantine))}</p>"
        yield _table([(code, f"{number:,}") for code, number in summary.problems.items()])
        yield from _gallery("Some of what was left out", report.refused, reader)
    yield from _gallery("Some of what was embedded; the frame is the main object", report.accepted, reader)


def _counts(summary: Summary, removed: int) -> list[tuple[str, str]]:
    counts = {
        "Images": summary.rows,
        "Embedded": summary.embedded,
        "Updated without the models": summary.updated,
        "Unchanged": summary.unchanged,
        "Left alone, because the index has newer": summary.stale,
        "Show a picture that was there already": summary.duplicates,
        "Removed, because the feed no longer names them": removed,
        "Left out": sum(summary.problems.values()),
    }
    return [(name, f"{number:,}") for name, number in counts.items() if number or name == "Images"]


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f'<tr><th>{escape(name)}</th><td class="number">{value}</td></tr>' for name, value in rows)
    return f"<table>{cells}</table>"


def _gallery(title: str, outcomes: Sequence[Outcome], reader: ImageReader) -> Iterator[str]:
    if not outcomes:
        return
    found = reader.read([outcome.image for outcome in outcomes], {})
    yield f"<h2>{title}</h2><ul>"
    for outcome, read in zip(outcomes, found, strict=True):
        picture = _thumbnail(read.data, outcome.box) if isinstance(read, Bytes) else None
        shown = (
            f'<img alt="" src="data:image/jpeg;base64,{picture}">' if picture else '<div class="none">no picture</div>'
        )
        said = f"{outcome.code}: {outcome.reason}" if outcome.code else outcome.label
        yield (
            f"<li>{shown}<strong>{escape(outcome.product_id)}</strong> {escape(outcome.image)}"
            f"<small>{escape(said)}</small></li>"
        )
    yield "</ul>"


def _thumbnail(data: bytes, box: tuple[float, float, float, float] | None) -> str | None:
    """Return a small JPEG as base64; None of what can't be decoded."""
    try:
        image = Image.fromarray(decode(data).pixels)
    except BadInput:
        return None
    image.thumbnail((SIDE_PX, SIDE_PX))
    if box is not None:
        x0, y0, x1, y1 = box
        frame = (x0 * image.width, y0 * image.height, x1 * image.width - 1, y1 * image.height - 1)
        ImageDraw.Draw(image).rectangle(frame, outline="red", width=2)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()
