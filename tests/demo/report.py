"""What a demo found out, for a person and as data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

TICK = "[bold green]✓[/]"
CROSS = "[bold red]✗[/]"


@dataclass(frozen=True, slots=True)
class Note:
    """Something done (`held` None), or a fact seen that held or did not."""

    text: str
    held: bool | None = None


@dataclass(slots=True)
class Notes:
    """What one step did and saw, in order."""

    all: list[Note] = field(default_factory=list)

    def did(self, what: str) -> None:
        """Something was done."""
        self.all.append(Note(what))

    def saw(self, fact: str, held: object = True) -> bool:
        """Something was seen; a step holds when all that it saw held."""
        self.all.append(Note(fact, bool(held)))
        return bool(held)

    @property
    def facts(self) -> list[Note]:
        """What was seen."""
        return [note for note in self.all if note.held is not None]


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one step; `seconds` is how long it took."""

    name: str
    notes: Notes
    seconds: float

    @property
    def held(self) -> bool:
        """Whether something was seen at all, and all of it held."""
        facts = self.notes.facts
        return bool(facts) and all(fact.held for fact in facts)

    def document(self) -> dict[str, Any]:
        """The step as data; what did not hold is also listed on its own."""
        facts = self.notes.facts
        return {
            "name": self.name,
            "held": self.held,
            "did": [note.text for note in self.notes.all if note.held is None],
            "seen": [fact.text for fact in facts],
            "failed": [fact.text for fact in facts if not fact.held],
            "seconds": round(self.seconds, 3),
        }


@dataclass(slots=True)
class Report:
    """All steps, printed as they end."""

    console: Console
    results: list[Result] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    """What was counted and measured, by name."""

    @property
    def held(self) -> bool:
        """Whether every step held."""
        return bool(self.results) and all(result.held for result in self.results)

    def add(self, result: Result) -> None:
        """Print a step and keep it."""
        self.results.append(result)
        mark = TICK if result.held else CROSS
        title = f"[bold]{len(self.results):2}. {escape(result.name)}[/]"
        took = f"[dim]{result.seconds:.1f} s[/]"
        self.console.print(f"{mark} {title}  {took}", soft_wrap=True)
        for note in result.notes.all:
            self.console.print(f"      {_line(note)}", soft_wrap=True)

    def conclude(self, seconds: float) -> None:
        """Print the last line."""
        for name, figure in self.figures.items():
            self.console.print(f"    {name.replace('_', ' ')}: {figure}")
        held = sum(result.held for result in self.results)
        mark = TICK if self.held else CROSS
        total = len(self.results)
        self.console.print(f"\n{mark} {held} of {total} steps hold, {seconds:.1f} s")

    def write(self, path: Path, seconds: float) -> None:
        """Write the same as JSON."""
        document = {
            "held": self.held,
            "seconds": round(seconds, 3),
            "figures": self.figures,
            "steps": [result.document() for result in self.results],
        }
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _line(note: Note) -> str:
    text = escape(note.text)
    if note.held is None:
        return f"{text}:"
    return f"  {TICK if note.held else CROSS} {text}"
