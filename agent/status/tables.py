"""
What documents for people are made of: words, sizes, ages and tables.

Names and reasons may come from a peer, so nothing of them is taken as markup or as a
terminal's control sequence. `now` is Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from agent.printable import escaped

_GOOD: Final = frozenset({"captured", "open", "valid", "current", "ready", "trusted"})
_BAD: Final = frozenset(
    {"refused", "failed", "expired", "not ready", "tainted", "outdated"}
)
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def span(seconds: float) -> str:
    """`42s`, `5m`, `3h`, `2d`: the largest whole unit."""
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            return f"{int(abs(seconds) // size)}{unit}"
    return "0s"


def size(count: float) -> str:
    """`512 B`, `1.5 KiB`, `256.0 MiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


def when(time: str | None, now: float) -> str:
    """`3m ago` or `in 5h` for an ISO 8601 time."""
    if time is None:
        return "-"
    ahead = datetime.fromisoformat(time).timestamp() - now
    return f"in {span(ahead)}" if ahead > 0 else f"{span(ahead)} ago"


def lasted(begin: str | None, end: str | None, now: float) -> str:
    """`12s` from one ISO 8601 time to another, or until now; `-` without a begin."""
    if begin is None:
        return "-"
    until = datetime.fromisoformat(end).timestamp() if end else now
    return span(until - datetime.fromisoformat(begin).timestamp())


def plain(value: object) -> str:
    """Text that does to a terminal what text does; `-` for what is unknown."""
    if value is None or value == "":
        return "-"
    return escaped(str(value))


def short(fingerprint: str | None) -> str:
    """Enough of a fingerprint to tell one from another."""
    return plain(fingerprint and fingerprint[:12])


def cell(value: object) -> Text:
    """One value, in the colour of what it says."""
    text = plain(value)
    style = "green" if text in _GOOD else "red" if text in _BAD else ""
    return Text(text, style=style)


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """Columns and rows, without lines."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column.upper(), overflow="fold")
    for row in rows:
        made.add_row(*map(cell, row))
    return made


def or_none(listed: Table, what: str) -> RenderableType:
    """The table, or a sentence where it has no rows."""
    return listed if listed.row_count else Text(f"no {what}", style="dim")
