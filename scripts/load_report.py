"""The page that a load test ends in: verdicts first, then one picture for each question."""

from __future__ import annotations

import base64
import html
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.load_outcome import Answered, between, latency_s
from scripts.load_schedule import Schedule
from scripts.load_watch import Sample
from scripts.measuring import Report

BIN_S = 1.0
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1f }
h1 { margin-bottom: 0 }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid #ddd }
td.number { text-align: right }
.ok { color: #0a6b2d }
.missed { color: #b00020; font-weight: 600 }
figure { margin: 2rem 0 }
figcaption { color: #444 }
img { max-width: 100% }
"""
GREY, GREEN, ORANGE, RED = "#9aa0a6", "#0a6b2d", "#c77700", "#b00020"


@dataclass(frozen=True)
class Run:
    """Hold all that a report shows."""

    report: Report
    schedule: Schedule
    answers: Sequence[Answered]
    samples: Sequence[Sample]
    goal_s: float


def write(run: Run, path: Path) -> None:
    """Write one HTML file that needs nothing beside it."""
    figures = "".join(_figure(title, caption, draw, run) for title, caption, draw in FIGURES)
    settings = "; ".join(f"{name} {value}" for name, value in run.report.settings.items())
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Load test: {run.schedule.shape}</title>"
        f"<style>{STYLE}</style><h1>Load test: {run.schedule.shape}</h1>"
        f"<p>{html.escape(run.report.when)}. {html.escape(settings)}.</p>"
        f"{_goals(run.report)}{_rows(run.report)}{figures}"
        "<p>Latency counts from the moment a search was due, not from when it was sent, so a service that makes "
        "shoppers wait can't hide it. <em>Refused</em> searches were answered 429 with the seconds to wait; "
        "<em>failed</em> ones got no answer, or an error.</p></html>",
        encoding="utf-8",
    )


def _goals(report: Report) -> str:
    rows = "".join(
        f"<tr><td class={'ok' if goal.ok else 'missed'}>{'met' if goal.ok else 'missed'}<td>{html.escape(goal.name)}"
        f"<td class=number>{goal.value:.3g}<td>{'≥' if goal.better == 'higher' else '≤'} {goal.goal:g}"
        for goal in report.goals
    )
    return f"<table><tr><th>Goal<th>What<th>Measured<th>Asked{rows}</table>"


def _rows(report: Report) -> str:
    if not report.rows:
        return ""
    head = "".join(f"<th>{html.escape(name)}" for name in report.rows[0])
    body = "".join("<tr>" + "".join(_cell(value) for value in row.values()) for row in report.rows)
    return f"<table><tr>{head}{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"<td>{html.escape(value)}"
    return f"<td class=number>{value:.3g}" if isinstance(value, float) else f"<td class=number>{value}"


def _figure(title: str, caption: str, draw: Callable[[Axes, Run], bool], run: Run) -> str:
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.add_subplot()
    if not draw(axes, run):
        return f"<figure><h2>{title}</h2><figcaption>Not shown: it can't be seen from here.</figcaption></figure>"
    axes.set_xlim(0, run.schedule.seconds)
    axes.set_xlabel("seconds since the start")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f"<figure><h2>{title}</h2><img alt='{title}' src='data:image/png;base64,{data}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _bins(run: Run) -> list[float]:
    return [BIN_S * number for number in range(math.ceil(run.schedule.seconds / BIN_S))]


def _draw_rate(axes: Axes, run: Run) -> bool:
    bins = _bins(run)
    due = Counter(int(answer.due_s / BIN_S) for answer in run.answers)
    done = Counter(int(answer.ended_s / BIN_S) for answer in run.answers if answer.status == 200)
    refused = Counter(int(answer.ended_s / BIN_S) for answer in run.answers if answer.is_refused)
    failed = Counter(int(answer.ended_s / BIN_S) for answer in run.answers if answer.is_failed)
    axes.plot(bins, [run.schedule.rate(at_s) for at_s in bins], "k--", linewidth=1, label="asked of the test")
    lines = (("due", due, GREY), ("answered", done, GREEN), ("refused", refused, ORANGE), ("failed", failed, RED))
    for name, counts, colour in lines:
        axes.plot(bins, [counts[number] / BIN_S for number in range(len(bins))], color=colour, label=name)
    axes.set_ylabel("searches per second")
    return True


def _draw_latency(axes: Axes, run: Run) -> bool:
    bins = _bins(run)
    for share, colour in ((0.5, "#1a73e8"), (0.9, "#8430ce"), (0.99, RED)):
        values = [1e3 * latency_s(between(run.answers, at_s, at_s + BIN_S), share) for at_s in bins]
        axes.plot(bins, values, color=colour, label=f"{share:.0%} are faster")
    axes.axhline(1e3 * run.goal_s, color="k", linestyle="--", linewidth=1, label="goal")
    axes.set_yscale("log")
    axes.set_ylabel("milliseconds")
    return True


def _draw_replicas(axes: Axes, run: Run) -> bool:
    stages = sorted({stage for sample in run.samples for stage in sample.wanted})
    times = [sample.at_s for sample in run.samples]
    for number, stage in enumerate(stages):
        colour = f"C{number}"
        axes.step(times, [s.wanted[stage] for s in run.samples], color=colour, linestyle=":", label=f"{stage}: wanted")
        axes.step(times, [s.ready[stage] for s in run.samples], color=colour, label=f"{stage}: ready")
    axes.set_ylabel("replicas")
    return bool(stages)


def _draw_queue(axes: Axes, run: Run) -> bool:
    times = [sample.at_s for sample in run.samples]
    axes.plot(times, [sample.in_flight for sample in run.samples], label="searches in work")
    axes.plot(times, [sample.capacity for sample in run.samples], label="known capacity, searches per second")
    return bool(run.samples)


def _draw_memory(axes: Axes, run: Run) -> bool:
    seen = [(sample.at_s, sample.memory_mib) for sample in run.samples if sample.memory_mib]
    axes.plot(*zip(*seen, strict=True), label="all processes") if seen else None
    axes.set_ylim(bottom=0)
    axes.set_ylabel("MiB")
    return bool(seen)


def _draw_batches(axes: Axes, run: Run) -> bool:
    stages = sorted({stage for sample in run.samples for stage in sample.batches})
    for stage in stages:
        points = [
            (after.at_s, (after.items[stage] - before.items[stage]) / (after.batches[stage] - before.batches[stage]))
            for before, after in pairwise(run.samples)
            if after.batches[stage] > before.batches[stage]
        ]
        axes.plot(*zip(*points, strict=True), label=stage) if points else None
    axes.set_ylabel("photos or crops per batch")
    return bool(stages)


def _draw_codes(axes: Axes, run: Run) -> bool:
    bins = _bins(run)
    names = sorted({flag for answer in run.answers for flag in _shown(answer)})
    counts = {name: Counter(int(a.ended_s / BIN_S) for a in run.answers if name in _shown(a)) for name in names}
    for name in names:
        axes.plot(bins, [counts[name][number] for number in range(len(bins))], label=name)
    axes.plot([], [], " ", label="" if names else "none")
    axes.set_ylabel("searches per second")
    return True


def _shown(answer: Answered) -> tuple[str, ...]:
    """Return the codes of problems, and what answers lacked."""
    return answer.degraded if answer.status == 200 else (answer.code,)


FIGURES: tuple[tuple[str, str, Callable[[Axes, Run], bool]], ...] = (
    ("Was the load answered?", "Answered should follow due. What is refused was told to come back later.", _draw_rate),
    ("How long did shoppers wait?", "Accepted searches by the second they were due in; the scale is logarithmic.",
     _draw_latency),
    ("Did the stages grow in time?", "Dotted: replicas that the policy wants. Solid: replicas that are ready.",
     _draw_replicas),
    ("What was in work?", "A queue that stands means that more comes in than can be answered.", _draw_queue),
    ("Were batches formed?", "Busy stages should serve several photos or crops at once.", _draw_batches),
    ("Did its memory stay?", "All processes of the service, pages that they share counted once.", _draw_memory),
    ("What went wrong, or was left out?", "Codes of problems, and what answers lacked (`degraded`).", _draw_codes),
)  # fmt: skip
