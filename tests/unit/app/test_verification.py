"""What an agent claims about the redirect, whatever is found and in whatever order."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.app.verification import FRESH_SECONDS, Verification
from agent.redirect.facts import Fault

GONE = Fault("redirect", "redirect4: detached", bypass=True)
POD = Fault("shop/web", "its entry is missing", uid="u-web", bypass=True)
LASTING = Fault("shop/api", "its namespace is gone", uid="u-api", lasting=True)


def test_detached_is_reported_since_the_last_good_look() -> None:
    """Not ready, since the last time at which it was verified; no pod is named."""
    state = Verification()
    state.begin(1.0)
    state.observed([], 10.0)

    new, ended = state.observed([GONE, POD], 10.5)

    assert (new, ended) == ([GONE, POD], None)
    (reason,) = state.reasons(10.6)
    assert reason == (
        "redirect missing since 1970-01-01T00:00:10.000Z: redirect4: detached; "
        "1 pods are not redirected wholly"
    )
    _, ended = state.observed([], 11.0)
    assert ended is not None
    assert (ended.since, ended.until, ended.faults) == (10.0, 11.0, (GONE, POD))
    assert not state.reasons(11.0)


def test_what_was_not_looked_at_lately_is_not_claimed() -> None:
    """After two seconds without a look the time of the last one is given."""
    state = Verification()
    state.begin(1.0)
    assert state.reasons(1.0) == ["the redirect has not been verified yet"]
    state.observed([LASTING], 5.0)
    assert not state.reasons(5.0 + FRESH_SECONDS)
    (reason,) = state.reasons(5.1 + FRESH_SECONDS)
    assert reason == "the redirect was last verified at 1970-01-01T00:00:05.000Z"


class Claims(RuleBasedStateMachine):
    """Looks with any result, at any pace: ready only on a good look that is fresh."""

    @initialize()
    def begin(self) -> None:
        self.state, self.now = Verification(), 1000.0
        self.state.begin(self.now)
        self.good: float | None = None
        self.bad = False

    @rule(seconds=st.floats(0.01, 5))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(faults=st.sets(st.sampled_from([GONE, POD, LASTING])))
    def look(self, faults: set[Fault]) -> None:
        _, ended = self.state.observed(faults, self.now)
        missing = {each for each in faults if not each.lasting}
        assert (ended is not None) == (self.bad and not missing)
        self.bad = bool(missing)
        if not missing:
            self.good = self.now

    @invariant()
    def claims_what_was_seen(self) -> None:
        fresh = self.good is not None and self.now - self.good <= FRESH_SECONDS
        assert (not self.state.reasons(self.now)) == (fresh and not self.bad)
        assert self.state.is_fresh(self.now) == (fresh and not self.bad)
        assert self.state.since is None or self.state.since <= self.now


TestClaims = Claims.TestCase
