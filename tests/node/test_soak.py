"""A short soak: every path at once, each byte checked, and nothing left over."""

from __future__ import annotations

import dataclasses

import pytest

from tests.lab.topology import random_run
from tests.patience import patient
from tests.soak import faults, paths, world
from tests.soak.plan import KIB, Limits
from tests.soak.soak import Effort, Progress, Soak

SECONDS = patient(20.0)
# One takes its time on a slow machine.
SAMPLES = 10
POOLED = 8
EFFORT = Effort(
    SECONDS,
    seed=20,
    lanes=3,
    warm_up_seconds=2.0,
    sample_seconds=1.0,
    limits=Limits(most_bytes=1024 * KIB, longest_pause=4.0),
)


@pytest.mark.slow
def test_short() -> None:
    """
    No byte lost, doubled, swapped or wrong; no reset without a cause; no leak.

    Memory is for a longer run to judge: in twenty seconds it is still warming up. So
    are control's pools of connections, to the identity service and the status socket.
    """
    seen: list[Progress] = []
    with world.built(random_run()) as built:
        outcome = Soak(built, EFFORT, seen.append).run()

    assert outcome.differences == []
    leaks = {
        name: more
        for name, more in outcome.leaks.items()
        if not (name.endswith("control, descriptors") and more <= POOLED)
    }
    assert leaks == {}
    assert outcome.policy_changes >= 2
    assert outcome.revoked_live
    assert len(seen) > SAMPLES
    run = {path.name for path in paths.PATHS if paths.runnable(path)}
    assert set(outcome.totals) == run
    for name, total in outcome.totals.items():
        assert total.completed > 20, (name, dataclasses.asdict(total))
        assert total.up_bytes > 1 << 20
        assert total.down_bytes > 1 << 20


LONG = {"identity service hangs", "control stopped"}


@pytest.mark.slow
def test_short_with_faults() -> None:
    """
    Faults one after the other: nothing in plaintext, nothing past a deny, no transfer
    that looks complete and is not, and `check` finds each that lasts.
    """
    chosen = tuple(each for each in faults.FAULTS if each.name not in LONG)
    effort = dataclasses.replace(EFFORT, seconds=patient(45.0), seed=7, faults=chosen)
    with world.built(random_run()) as built:
        outcome = Soak(built, effort, lambda _progress: None).run()
    assert outcome.differences == []
    assert len(outcome.faults) >= 2
    assert outcome.denied > 10
    for name, total in outcome.totals.items():
        assert total.completed > 10, (name, dataclasses.asdict(total), outcome.faults)
