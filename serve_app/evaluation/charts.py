"""Charts as inline SVG, which a report holds without any other file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from serve_app.calibration import Check

WIDTH, HEIGHT = 460, 240
LEFT, BOTTOM, TOP, RIGHT = 44, 34, 12, 12
BARS = 30
RIGHT_COLOUR, WRONG_COLOUR = "#2a9d5c", "#d1495b"


def histogram(right: Sequence[float], wrong: Sequence[float], label: str) -> str:
    """Return the scores of right and of wrong products, each as a share of its own kind."""
    scores = [*right, *wrong]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    edges = np.linspace(low, max(high, low + 0.01), BARS + 1)
    shares = [np.histogram(some, edges)[0] / max(1, len(some)) for some in (right, wrong)]
    top = max(0.01, float(np.max(shares)))
    shapes = []
    for values, colour in zip(shares, (RIGHT_COLOUR, WRONG_COLOUR), strict=True):
        for i, share in enumerate(values):
            if share:
                x0, x1 = (_x(float(edge), edges[0], edges[-1]) for edge in edges[i : i + 2])
                y = _y(float(share), top)
                shapes.append(
                    f'<rect x="{x0:.1f}" y="{y:.1f}" width="{x1 - x0:.1f}" height="{_y(0, top) - y:.1f}" '
                    f'fill="{colour}" fill-opacity=".55"/>'
                )
    marks = [(f"{edge:.2f}", float(edge)) for edge in np.linspace(edges[0], edges[-1], 5)]
    axes = _axes(marks, (float(edges[0]), float(edges[-1])), top, "score", "share")
    legend = _legend([(f"right ({len(right)})", RIGHT_COLOUR), (f"wrong ({len(wrong)})", WRONG_COLOUR)])
    return _svg(label, [*shapes, *axes, *legend])


def reliability(check: Check, label: str) -> str:
    """Return what was said against what was true; a circle's area goes by its number of products."""
    most = max(each.products for each in check.bins)
    x0, y0, x1, y1 = _x(0, 0, 1), _y(0, 1), _x(1, 0, 1), _y(1, 1)
    shapes = [f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="currentColor" stroke-dasharray="4 4"/>']
    for each in check.bins:
        radius = 3 + 9 * (each.products / most) ** 0.5
        said = f"said {each.said:.2f}, true {each.true:.2f}, {each.products:,} products"
        shapes.append(
            f'<circle cx="{_x(each.said, 0, 1):.1f}" cy="{_y(each.true, 1):.1f}" r="{radius:.1f}" '
            f'fill="{RIGHT_COLOUR}" fill-opacity=".7"><title>{said}</title></circle>'
        )
    marks = [(f"{value:.2f}", value) for value in (0, 0.25, 0.5, 0.75, 1)]
    return _svg(label, [*shapes, *_axes(marks, (0, 1), 1, "chance that was said", "share that was right")])


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP)


def _axes(
    marks: Sequence[tuple[str, float]], ends: tuple[float, float], top: float, across: str, up: str
) -> Iterator[str]:
    base = HEIGHT - BOTTOM
    yield f'<path d="M{LEFT} {TOP}V{base}H{WIDTH - RIGHT}" fill="none" stroke="currentColor"/>'
    for text, value in marks:
        yield f'<text x="{_x(value, *ends):.1f}" y="{base + 14}" text-anchor="middle">{text}</text>'
    for share in (0, 0.5, 1):
        yield f'<text x="{LEFT - 6}" y="{_y(share * top, top) + 4:.1f}" text-anchor="end">{share * top:.2f}</text>'
    yield f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(across)}</text>'
    yield f'<text transform="translate(10 {base / 2}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'


def _legend(names: Sequence[tuple[str, str]]) -> Iterator[str]:
    for i, (name, colour) in enumerate(names):
        y = TOP + 4 + 16 * i
        yield f'<rect x="{LEFT + 10}" y="{y}" width="10" height="10" fill="{colour}"/>'
        yield f'<text x="{LEFT + 26}" y="{y + 9}">{escape(name)}</text>'


def _svg(label: str, shapes: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{escape(label)}">'
        f"<title>{escape(label)}</title>{''.join(shapes)}</svg>"
    )
