"""
`./run bench policy`: decision time, time to enforcement, and of closing connections.

Exits 0 when everything was measured, whatever it says; 2 when it could not be built.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.bench import stamp
from tests.bench.policy import decisions, effect
from tests.bench.policy.decisions import Timing
from tests.bench.policy.goals import GOALS, Figures, Goal
from tests.lab import system

SIZES: Final = (100, 1_000, 10_000)
ROUNDS: Final = 12
CLOSINGS: Final = 3


def main() -> int:
    """Measure and tell."""
    given = _options()
    console = Console(highlight=False)
    if os.geteuid() != 0:
        console.print("The benchmark makes namespaces and cgroups: run it as root.")
        return 2
    began = time.monotonic()
    figures = Figures()
    try:
        with console.status("deciding") as status:
            for size in SIZES:
                status.update(f"deciding among {size} policies")
                figures.timings[size] = decisions.measure(size)
            status.update("building two nodes")
            with effect.built() as bench:
                status.update("changing a file")
                figures.enforcement = effect.enforcement(bench, given.rounds)
                status.update(f"closing {effect.CONNECTIONS} connections")
                figures.closing = effect.closing(bench, CLOSINGS)
    except (system.LabError, OSError) as error:
        console.print(f"The benchmark could not be built: {error}", markup=False)
        return 2
    _show(console, figures)
    seconds = time.monotonic() - began
    if given.json:
        text = json.dumps(_document(figures, seconds), indent=2)
        given.json.write_text(text + "\n")
        console.print(f"wrote {given.json}", markup=False)
    console.print(f"{seconds:.0f} s")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./run bench policy", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="how often the file is changed"
    )
    return parser.parse_args()


def _show(console: Console, figures: Figures) -> None:
    table = Table("policies", box=None, title="CPU microseconds for a decision")
    for kind in ("permit", "refusal", "new caller"):
        table.add_column(f"{kind} p50")
        table.add_column("p99")
    for name in ("a scan p50", "times", "compiled in, s"):
        table.add_column(name)
    for each in figures.timings.values():
        table.add_row(str(each.policies), *(f"{value:.4g}" for value in _row(each)))
    console.print(table)
    for name, seconds in (
        ("enforced on both nodes", figures.enforcement),
        (f"{effect.CONNECTIONS} connections closed", figures.closing),
    ):
        middle, least, most = statistics.median(seconds), min(seconds), max(seconds)
        console.print(f"{name}: {middle:.3f} s ({least:.3f} to {most:.3f})")
    table = Table("goal", "at most", "figure", "", box=None)
    for goal in GOALS:
        figure = goal.figure(figures)
        verdict = "[green]met[/]" if goal.is_met(figures) else "[red]not met[/]"
        table.add_row(
            goal.name, f"{goal.bound:g} {goal.unit}", f"{figure:.3g}", verdict
        )
    console.print(table)


def _row(each: Timing) -> tuple[float, ...]:
    spreads = (each.permit, each.refusal, each.new)
    return (
        *(value for spread in spreads for value in (spread.p50, spread.p99)),
        each.scan.p50,
        each.gain,
        each.compile_seconds,
    )


def _document(figures: Figures, seconds: float) -> dict[str, Any]:
    return {
        "stamp": stamp.taken(()).document(),
        "seconds": round(seconds, 1),
        "decisions_microseconds": [asdict(each) for each in figures.timings.values()],
        "enforcement_seconds": figures.enforcement,
        "closing_seconds": figures.closing,
        "goals": [_goal(goal, figures) for goal in GOALS],
    }


def _goal(goal: Goal, figures: Figures) -> dict[str, Any]:
    return {
        "name": goal.name,
        "at_most": goal.bound,
        "unit": goal.unit,
        "figure": goal.figure(figures),
        "met": goal.is_met(figures),
    }


if __name__ == "__main__":
    sys.exit(main())
