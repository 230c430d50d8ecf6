"""
Stacks as they were sampled, what they were busy with, and a flame graph of them. Pure.

The text comes from `py-spy record --native --format raw`: one stack a line, its frames
from the outermost inwards, joined by semicolons, and a count.
"""

from __future__ import annotations

import html
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Part = Literal["system calls", "OpenSSL", "interpreter"]
Stack = tuple[str, ...]
Stacks = Mapping[Stack, int]

PARTS: Final[tuple[Part, ...]] = ("system calls", "OpenSSL", "interpreter")
# An idle worker is found here; py-spy does not tell it from one that is busy in it.
WAITING: Final = "epoll_wait ("
_OPENSSL: Final = ("(libssl.", "(libcrypto.")
# What libc does itself; every other name of it is a call into the kernel.
_NO_CALLS: Final = ("0x", "mem", "str", "malloc", "calloc", "realloc", "free", "cfree")

WIDTH: Final = 1200
ROW: Final = 17
HEAD: Final = 34
LEAST_PIXELS: Final = 0.4
# Average width of a letter at 11 px.
LETTER: Final = 6.3
_COLOURS: Final[dict[Part, tuple[int, int]]] = {
    "system calls": (212, 20),
    "OpenSSL": (130, 20),
    "interpreter": (28, 22),
}


class InvalidSamples(ValueError):
    """Text that is not what py-spy writes."""


def parse(text: str) -> dict[Stack, int]:
    """The stacks without those that waited. Raises: InvalidSamples."""
    stacks: dict[Stack, int] = {}
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        if not frames or not count.isdigit():
            raise InvalidSamples(f"expected 'frame;frame COUNT', found {line[:80]!r}")
        stack = tuple(frames.split(";"))
        if not stack[-1].startswith(WAITING):
            stacks[stack] = stacks.get(stack, 0) + int(count)
    return stacks


def part(frame: str) -> Part:
    """What a process in this innermost frame is busy with."""
    if any(library in frame for library in _OPENSSL):
        return "OpenSSL"
    if "(libc.so" in frame and not frame.startswith(_NO_CALLS):
        return "system calls"
    return "interpreter"


def parts(stacks: Stacks) -> dict[Part, int]:
    """How many samples of each part."""
    counts: dict[Part, int] = dict.fromkeys(PARTS, 0)
    for stack, count in stacks.items():
        counts[part(stack[-1])] += count
    return counts


@dataclass(slots=True)
class _Node:
    count: int = 0
    below: dict[str, _Node] = field(default_factory=dict)


def _tree(stacks: Stacks) -> _Node:
    root = _Node()
    for stack, count in stacks.items():
        node = root
        node.count += count
        for frame in stack:
            node = node.below.setdefault(frame, _Node())
            node.count += count
    return root


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the graph: from `start` on `count` samples wide."""

    frame: str
    depth: int
    start: int
    count: int


def boxes(stacks: Stacks) -> list[Box]:
    """All rectangles, callers before what they call."""
    return list(_boxes(_tree(stacks), 0, 0))


def _boxes(node: _Node, depth: int, start: int) -> Iterator[Box]:
    for frame, child in sorted(node.below.items()):
        yield Box(frame, depth, start, child.count)
        yield from _boxes(child, depth + 1, start)
        start += child.count


def draw(stacks: Stacks, title: str) -> str:
    """An SVG: the outermost frames at the top, colours by part, names on hover."""
    total = sum(stacks.values())
    every = boxes(stacks)
    rows = max((box.depth for box in every), default=0) + 1
    height = HEAD + rows * ROW + 8
    legend = ", ".join(
        f"{name} {count / total:.0%}"
        for name, count in (parts(stacks) if total else {}).items()
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="6" y="14" font-size="13">{html.escape(title)}</text>',
        f'<text x="6" y="28" fill="#555">{total} samples while busy: {legend}</text>',
        *(text for box in every for text in _drawn(box, total)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _drawn(box: Box, total: int) -> Iterator[str]:
    width = box.count / total * WIDTH
    if width < LEAST_PIXELS:
        return
    x, y = box.start / total * WIDTH, HEAD + box.depth * ROW
    share = f"{box.frame}: {box.count} samples, {box.count / total:.1%}"
    letters = int((width - 4) / LETTER)
    name = box.frame if len(box.frame) <= letters else f"{box.frame[: letters - 1]}…"
    yield f"<g><title>{html.escape(share)}</title>"
    yield (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}" '
        f'fill="{_colour(box.frame)}"/>'
    )
    if letters >= 3:
        text = html.escape(name)
        yield f'<text x="{x + 2:.1f}" y="{y + 12}">{text}</text>'
    yield "</g>"


def _colour(frame: str) -> str:
    """By part, with a shade of its own, the same in every graph."""
    hue, spread = _COLOURS[part(frame)]
    chance = zlib.crc32(frame.encode())
    return f"hsl({hue + chance % spread}, 75%, {68 + chance // spread % 14}%)"
