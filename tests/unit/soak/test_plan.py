"""What connections do: repeatable, and never a deadlock."""

from __future__ import annotations

from collections import Counter

from tests.soak.plan import (
    KINDS,
    Await,
    AwaitEnd,
    Limits,
    Plan,
    Reset,
    Send,
    Side,
    connection_key,
    planned,
)

LIMITS = Limits()
KEYS = [connection_key(7, "a path", number) for number in range(600)]


class Runner:
    """One end carried out with bytes that arrive at once."""

    def __init__(self, side: Side) -> None:
        self.steps = list(side.steps)
        self.sent = 0
        self.shut_down = False

    def go_on(self, other: Runner) -> bool:
        """Do what can be done now; whether that was anything."""
        done = False
        while self.steps and self._may(other):
            step = self.steps.pop(0)
            done = True
            if isinstance(step, Reset):
                self.steps.clear()
                return True
            self.sent += step.count if isinstance(step, Send) else 0
        if not self.steps and not self.shut_down:
            self.shut_down = done = True
        return done

    def _may(self, other: Runner) -> bool:
        step = self.steps[0]
        if isinstance(step, Await):
            return other.sent >= step.count
        return other.shut_down if isinstance(step, AwaitEnd) else True


def carried_out(plan: Plan) -> tuple[Runner, Runner]:
    """Both ends, as far as they come."""
    client, server = Runner(plan.client), Runner(plan.server)
    while client.go_on(server) | server.go_on(client):
        pass
    return client, server


def test_the_same_for_both_ends() -> None:
    """Nothing but seed, path and number decides; each of them does."""
    assert planned(KEYS[0], LIMITS) == planned(KEYS[0], LIMITS)
    keys = {
        connection_key(seed, path, number)
        for seed in (1, 2)
        for path in ("a", "b")
        for number in (1, 2)
    }
    assert len(keys) == 8


def test_they_come_to_an_end() -> None:
    """No end waits for what the other one sends only afterwards."""
    for plan in (planned(key, LIMITS) for key in KEYS):
        client, server = carried_out(plan)
        if plan.resets:
            assert plan.kind == "reset"
            continue
        assert not client.steps, plan
        assert not server.steps, plan
        assert (client.sent, server.sent) == (plan.client.total, plan.server.total)


def test_all_kinds_come() -> None:
    """And one in ten is reset by exactly one of its ends."""
    plans = [planned(key, LIMITS) for key in KEYS]
    counted = Counter(plan.kind for plan in plans)
    assert set(counted) == set(KINDS)
    for plan in plans:
        every = plan.client.steps + plan.server.steps
        assert sum(isinstance(step, Reset) for step in every) == (plan.kind == "reset")


def test_sizes_keep_to_the_limit() -> None:
    """From nothing at all to the most, in each direction."""
    sides = [side for key in KEYS for side in _sides(planned(key, LIMITS))]
    totals = [side.total for side in sides]
    assert min(totals) == 0
    assert LIMITS.most_bytes / 4 < max(totals) <= LIMITS.most_bytes
    for side in sides:
        assert all(stall.seconds > 0 for stall in side.stalls)


def _sides(plan: Plan) -> tuple[Side, Side]:
    return plan.client, plan.server
