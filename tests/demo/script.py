"""The order of the steps, and how one is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from rich.console import Console

from tests.demo.report import Notes, Report, Result
from tests.demo.stage import Stage
from tests.demo.steps import (
    attack,
    identity,
    locality,
    outage,
    policy,
    reach,
    transport,
)

Step = Callable[[Stage, Notes], None]
_World = TypeVar("_World")

STEPS: Final[tuple[tuple[str, Step], ...]] = (
    ("web reaches api by every address, and both see the truth", reach.every_address),
    ("the wire carries TLS 1.3 on port 15008 and nothing to read", reach.the_wire),
    ("both ends know each other's identity", identity.both_ends),
    ("batch is refused by policy, with the reason", policy.refused),
    (
        "a policy change takes effect within a second, also on live connections",
        policy.changed,
    ),
    ("a pod outside the mesh: refused or served, as the pod says", policy.outsider),
    ("two pods on one node talk, under the same rules", locality.neighbours),
    ("the agent is killed: closed, not open; and it comes back", outage.killed),
    ("large transfers, half-close, reset and a slow reader", transport.behaves),
    ("an attacker on the wire is detected, and nothing wrong arrives", attack.on_wire),
)


def perform(
    world: _World,
    steps: Sequence[tuple[str, Callable[[_World, Notes], None]]],
    report: Report,
    console: Console,
) -> None:
    """Run all steps; one that raises does not hold, and the next is still run."""
    for number, (name, step) in enumerate(steps, start=1):
        notes, began = Notes(), time.monotonic()
        with console.status(f"{number} of {len(steps)}: {name}"):
            try:
                step(world, notes)
            except Exception as error:  # noqa: BLE001 (reported as a fact)
                last = (str(error).splitlines() or [""])[-1]
                notes.saw(f"{type(error).__name__}: {last}", held=False)
        report.add(Result(name, notes, time.monotonic() - began))
