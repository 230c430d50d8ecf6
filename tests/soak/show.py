"""What a soak found: tables for a person, one document for a program."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.soak import paths
from tests.soak.soak import Outcome, Progress

MIB: Final = 1 << 20
MOST_LINES: Final = 20


def line(progress: Progress) -> str:
    """How it stands, in one line."""
    memory = ", ".join(
        f"{name} {size / MIB:.0f}" for name, size in progress.memory.items()
    )
    return (
        f"{progress.elapsed:5.0f} s  {progress.phase}: {progress.connections:,} "
        f"connections, {progress.received_bytes / MIB:,.0f} MiB, "
        f"{progress.differences} differences, "
        f"{progress.policy_changes} policy changes, "
        f"{progress.certificates} certificates" + (f"; MiB: {memory}" if memory else "")
    )


def document(outcome: Outcome) -> dict[str, Any]:
    """All of it as plain data."""
    found = dataclasses.asdict(outcome)
    not_run = [path.name for path in paths.PATHS if not paths.runnable(path)]
    return {
        "held": outcome.held,
        **found,
        "leaks": outcome.leaks,
        "not_run": not_run,
    }


def show(outcome: Outcome, console: Console) -> None:
    """Print the tables, then what is wrong, then the verdict."""
    console.print(_traffic(outcome))
    for path in paths.PATHS:
        if not paths.runnable(path):
            needs = " = ".join(path.needs or ())
            said = f"not run: {path.name}: this agent has no setting {needs}"
            console.print(escape(said))
    console.print(_memory(outcome))
    console.print(
        f"policy changed {outcome.policy_changes} times, {outcome.revoked_live} live "
        "connections reset by it, the slowest after "
        f"{outcome.slowest_revocation:.2f} s; {outcome.certificates} certificates "
        f"seen; {outcome.nameless_resets} connections reset before they said which "
        "they were"
    )
    if outcome.faults:
        console.print(f"{len(outcome.faults)} faults: {', '.join(outcome.faults)}")
    console.print(f"asked {outcome.denied} times for what is denied")
    console.print(
        f"counted before and after: {len(outcome.before)} figures "
        "(descriptors, threads, map entries, sockets)"
    )
    for name, more in outcome.leaks.items():
        before, after = outcome.before.get(name, 0), outcome.after[name]
        console.print(
            f"[bold red]leak[/] {escape(name)}: {before} -> {after} (+{more})"
        )
        kept = outcome.kept.get(name.partition(",")[0], {})
        if name.endswith(", descriptors"):
            for what, count in kept.items():
                console.print(f"     {count} x {escape(what)}")
    for each in outcome.differences[:MOST_LINES]:
        console.print(f"[bold red]difference[/] {escape(each)}", soft_wrap=True)
    more = outcome.difference_count - MOST_LINES
    if more > 0:
        console.print(f"... and {more} more; --json has the first 200")
    console.print(_verdict(outcome))


def _verdict(outcome: Outcome) -> str:
    minutes, seconds = divmod(round(outcome.seconds), 60)
    word = "[bold green]held[/]" if outcome.held else "[bold red]did not hold[/]"
    swollen = sum(each.flat is False for each in outcome.memory)
    return (
        f"{word}: {outcome.difference_count} differences, {len(outcome.leaks)} leaks, "
        f"{swollen} processes with growing memory, in {minutes} min {seconds} s "
        f"(seed {outcome.effort.seed})"
    )


def _traffic(outcome: Outcome) -> Table:
    table = Table(title="connections, each byte checked at its end")
    table.add_column("path")
    names = ("all", "complete", "resets made", "seen", "refused", "up MiB", "down MiB")
    for name in names:
        table.add_column(name, justify="right")
    for path, total in outcome.totals.items():
        table.add_row(
            path,
            f"{total.connections:,}",
            f"{total.completed:,}",
            f"{total.own_resets:,}",
            f"{total.resets_seen:,}",
            f"{total.refused:,}",
            f"{total.up_bytes / MIB:,.0f}",
            f"{total.down_bytes / MIB:,.0f}",
        )
    return table


def _memory(outcome: Outcome) -> Table:
    table = Table(title="memory (PSS), medians of the thirds of the load, MiB")
    for name in ("process", "first", "second", "last", "flat"):
        table.add_column(name, justify="left" if name == "process" else "right")
    for each in outcome.memory:
        sizes = (each.first_bytes, each.second_bytes, each.last_bytes)
        said = {True: "yes", False: "NO", None: "too short to say"}[each.flat]
        table.add_row(each.process, *(f"{size / MIB:.1f}" for size in sizes), said)
    return table
