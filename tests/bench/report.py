"""What a run found out: tables for a person, one document for a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.goals import PODLOCK, Verdict
from tests.bench.stamp import Stamp
from tests.bench.statistics import Metric, Run, Spread, Summary

NOTHING: Final = "-"
# From here on median and spread of five contestants fit beside each other.
WIDE: Final = 190
TICK: Final = "[bold green]✓[/]"
CROSS: Final = "[bold red]✗[/]"
CAPTION: Final = "median (least-most); ratio: Podlock to the best peer"


@dataclass(frozen=True, slots=True)
class Results:
    """Everything a run knows. `asked` is which metrics each case answers, in order."""

    stamp: Stamp
    seconds: float
    rounds: int
    contestants: Sequence[str]
    asked: Sequence[tuple[str, str, Metric]]
    runs: Sequence[Run]
    summary: Summary
    verdicts: Sequence[Verdict]

    @property
    def failures(self) -> list[Run]:
        """The runs that failed."""
        return [run for run in self.runs if run.error]


def document(results: Results) -> dict[str, Any]:
    """All of it as plain data."""
    return {
        "stamp": results.stamp.document(),
        "seconds": round(results.seconds, 1),
        "rounds": results.rounds,
        "contestants": list(results.contestants),
        "goals": [verdict.document() for verdict in results.verdicts],
        "summary": [
            {
                **key._asdict(),
                "median": found.median,
                "least": found.least,
                "most": found.most,
                "rounds": found.rounds,
            }
            for key, found in results.summary.spreads.items()
        ],
        "runs": [
            {
                "round": run.round,
                "scope": run.scope,
                "case": run.case,
                "contestant": run.contestant,
                "figures": dict(run.figures),
                **({"error": run.error} if run.error else {}),
            }
            for run in results.runs
        ],
    }


def show(results: Results, console: Console) -> None:
    """Print the tables, the goals, and what failed."""
    gap = " " if console.width >= WIDE else "\n"
    scopes = dict.fromkeys(scope for scope, _case, _metric in results.asked)
    for scope in scopes:
        console.print(_figures(results, scope, gap))
    console.print(_goals(results.verdicts))
    for line in failures(results.failures):
        console.print(f"[red]failed:[/] {escape(line)}")
    met = sum(verdict.met for verdict in results.verdicts)
    console.print(f"\n{met} of {len(results.verdicts)} goals met. {CAPTION}.")
    console.print(escape(results.stamp.line()))
    versions = results.stamp.versions.items()
    console.print(escape("; ".join(f"{name}: {what}" for name, what in versions)))


def failures(runs: Iterable[Run]) -> Iterator[str]:
    """One line for each thing that failed, with how often."""
    counted: dict[str, int] = {}
    for run in runs:
        line = f"{run.scope}, {run.case}, {run.contestant}: {run.error}"
        counted[line] = counted.get(line, 0) + 1
    for line, times in counted.items():
        yield f"{line} ({times} times)" if times > 1 else line


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(found: Spread | None, metric: Metric, gap: str = " ") -> str:
    """A median with its spread, in the metric's unit."""
    if found is None:
        return NOTHING
    median, least, most = (
        number(value * metric.scale)
        for value in (found.median, found.least, found.most)
    )
    return median if found.rounds == 1 else f"{median}{gap}({least}-{most})"


def _figures(results: Results, scope: str, gap: str) -> Table:
    table = Table(title=scope, title_justify="left", title_style="bold")
    table.add_column("case")
    table.add_column("figure")
    for name in results.contestants:
        table.add_column(name, justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("best peer")
    before = None
    for where, case, metric in results.asked:
        if where != scope:
            continue
        if before not in (None, case):
            table.add_section()
        table.add_row(*_row(results, scope, case, metric, gap, repeat=case == before))
        before = case
    return table


def _row(
    results: Results, scope: str, case: str, metric: Metric, gap: str, *, repeat: bool
) -> list[str]:
    summary = results.summary
    cells = [
        cell(summary.get(scope, case, metric, name), metric, gap)
        for name in results.contestants
    ]
    ratio = summary.to_best(scope, case, metric, PODLOCK)
    title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
    best = summary.best_peer(scope, case, metric) or ""
    said = NOTHING if ratio is None else f"{ratio:.2f}"
    return ["" if repeat else case, title, *cells, said, best]


def _goals(verdicts: Iterable[Verdict]) -> Table:
    table = Table(title="goals", title_justify="left", title_style="bold")
    for column in ("", "case", "goal", "figure"):
        table.add_column(column, justify="right" if column == "figure" else "left")
    for verdict in verdicts:
        mark = TICK if verdict.met else CROSS
        table.add_row(mark, verdict.goal.case, verdict.goal.text, verdict.said)
    return table
