"""
One picture: a panel for each question, a bar for each contestant.

SVG by hand: a few rectangles need no library. Bars are medians, the thin line reaches
from the least to the most of the rounds. Podlock has the colour, no mesh is pale.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from tests.bench.goals import CROSS, PLAIN, PODLOCK
from tests.bench.report import Results, number
from tests.bench.statistics import (
    CPU_BYTES,
    MEMORY,
    P50,
    P99,
    RATE,
    SPEED,
    Metric,
    Spread,
    Summary,
)

COLUMNS: Final = 3
PANEL_WIDTH: Final = 320
LABEL_WIDTH: Final = 64
VALUE_WIDTH: Final = 56
BAR_HEIGHT: Final = 16
BAR_PITCH: Final = 22
HEAD_HEIGHT: Final = 46
MARGIN: Final = 24
TITLE_HEIGHT: Final = 48
FOOT_HEIGHT: Final = 30

COLOURS: Final = {PODLOCK: "#0b7285", PLAIN: "#dee2e6"}
OTHER_COLOUR: Final = "#adb5bd"
INK: Final = "#212529"
FAINT: Final = "#868e96"


@dataclass(frozen=True, slots=True)
class Panel:
    """One question of the picture."""

    title: str
    case: str
    metric: Metric


PANELS: Final = (
    Panel("Round trip of 100 bytes", "round trip, 1", P50),
    Panel("Requests, 64 connections", "round trip, 64", RATE),
    Panel("Round trip beside bulk, p99", "mixed", P99),
    Panel("Bulk, 1 stream", "bulk up, 1", SPEED),
    Panel("Bulk, 8 streams", "bulk up, 8", SPEED),
    Panel("CPU for bulk, 1 stream", "bulk up, 1", CPU_BYTES),
    Panel("New connection and round trip", "new connection, 1", P50),
    Panel("New connections, 32 at a time", "new connection, 32", RATE),
    Panel("Memory of an idle connection", "idle, 1000", MEMORY),
)


def svg(results: Results, scope: str = CROSS) -> str:
    """The picture of one scope."""
    names = [name for name in results.contestants if _is_in(results, scope, name)]
    height = HEAD_HEIGHT + BAR_PITCH * len(names) + MARGIN
    rows = -(-len(PANELS) // COLUMNS)
    width = MARGIN + COLUMNS * (PANEL_WIDTH + MARGIN)
    total = TITLE_HEIGHT + rows * height + FOOT_HEIGHT
    title = f"Podlock and mutual TLS sidecars, {scope}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{total}" '
        f'viewBox="0 0 {width} {total}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{total}" fill="#ffffff"/>',
        _text(MARGIN, 32, title, size=18, bold=True),
    ]
    for index, panel in enumerate(PANELS):
        x = MARGIN + (index % COLUMNS) * (PANEL_WIDTH + MARGIN)
        y = TITLE_HEIGHT + (index // COLUMNS) * height
        parts.append(f'<g transform="translate({x} {y})">')
        parts += _panel(panel, results.summary, scope, names)
        parts.append("</g>")
    rounds = f"median of {results.rounds} rounds, line: least to most"
    foot = f"{results.stamp.line()}; {rounds}"
    parts.append(_text(MARGIN, total - 12, foot, colour=FAINT, size=11))
    return "\n".join([*parts, "</svg>", ""])


def _is_in(results: Results, scope: str, name: str) -> bool:
    """Whether a contestant took part: same-node, direct has nothing across nodes."""
    get = results.summary.get
    return any(get(scope, each.case, each.metric, name) for each in PANELS)


def write(results: Results, path: Path) -> list[Path]:
    """
    Write the picture as SVG, and as PNG beside it where rsvg-convert is at hand.

    Returns what was written.
    """
    vector, bitmap = path.with_suffix(".svg"), path.with_suffix(".png")
    vector.write_text(svg(results))
    argv = ["rsvg-convert", "--zoom", "2", "--output", str(bitmap), str(vector)]
    try:
        subprocess.run(argv, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return [vector]
    return [vector, bitmap]


def _panel(
    panel: Panel, summary: Summary, scope: str, names: Sequence[str]
) -> Iterator[str]:
    metric = panel.metric
    found = {name: summary.get(scope, panel.case, metric, name) for name in names}
    longest = max((each.most for each in found.values() if each), default=0.0)
    yield _text(0, 16, panel.title, size=14, bold=True)
    better = f"{metric.unit}, {metric.better} is better"
    yield _text(0, 33, better, colour=FAINT, size=11)
    for index, name in enumerate(names):
        top = HEAD_HEIGHT + index * BAR_PITCH
        own = name == PODLOCK
        yield _text(LABEL_WIDTH - 8, top + 12, name, anchor="end", bold=own)
        yield from _bar(found[name], metric, name, longest, top)


def _bar(
    found: Spread | None, metric: Metric, name: str, longest: float, top: int
) -> Iterator[str]:
    if found is None or longest <= 0:
        yield _text(LABEL_WIDTH, top + 12, "-", colour=FAINT)
        return
    room = PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH

    def at(value: float) -> float:
        return round(LABEL_WIDTH + room * max(value, 0.0) / longest, 1)

    width = round(at(found.median) - LABEL_WIDTH, 1)
    colour = COLOURS.get(name, OTHER_COLOUR)
    yield (
        f'<rect x="{LABEL_WIDTH}" y="{top}" width="{width}" '
        f'height="{BAR_HEIGHT}" fill="{colour}"/>'
    )
    middle = top + BAR_HEIGHT // 2
    yield (
        f'<line x1="{at(found.least)}" x2="{at(found.most)}" y1="{middle}" '
        f'y2="{middle}" stroke="{INK}" stroke-width="1"/>'
    )
    text = number(found.median * metric.scale)
    yield _text(at(found.most) + 6, top + 12, text, bold=name == PODLOCK)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    colour: str = INK,
    bold: bool = False,
    anchor: str = "start",
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" '
        f'text-anchor="{anchor}"{weight}>{escape(text)}</text>'
    )
