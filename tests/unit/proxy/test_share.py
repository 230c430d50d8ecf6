"""What an account owes, and when it has paid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.proxy.share import (
    ADVANCE_SECONDS,
    MAX_ACCOUNTS,
    MOST_OWED_SECONDS,
    SHARE,
    Account,
    Accounts,
)


def test_within_its_share_it_is_never_greedy() -> None:
    account, now = Account(), 100.0
    for _ in range(10_000):
        now += 0.01
        account.charge(0.01 * SHARE, now)
        assert not account.is_greedy(now)


def test_over_its_share_it_is_greedy_after_what_it_has_in_advance() -> None:
    account, now, used = Account(), 100.0, 0.0
    while not account.is_greedy(now):
        now += 0.001
        used += 0.001
        account.charge(0.001, now)
    assert used * (1 - SHARE) == pytest.approx(ADVANCE_SECONDS, abs=0.002)


def test_it_is_forgiven_soon() -> None:
    """A rollout's burst of handshakes is no fault that lasts."""
    account = Account()
    account.charge(100.0, 5.0)
    assert account.is_greedy(5.0)
    assert not account.is_greedy(5.0 + (MOST_OWED_SECONDS - ADVANCE_SECONDS) / SHARE)
    assert account.owed(1000.0) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 10)), max_size=50))
def test_what_is_owed_has_bounds(charges: list[tuple[float, float]]) -> None:
    account, now = Account(), 0.0
    for seconds, later in charges:
        now += later
        account.charge(seconds, now)
        assert 0 <= account.owed(now) <= MOST_OWED_SECONDS


def test_an_account_outlives_its_connections() -> None:
    accounts = Accounts()
    accounts.of("spiffe://a").charge(0.15, 1.0)
    assert accounts.of("spiffe://a").is_greedy(1.0)
    assert not accounts.of("spiffe://b").is_greedy(1.0)


def test_many_names_take_bounded_memory() -> None:
    accounts = Accounts()
    for number in range(MAX_ACCOUNTS + 10):
        accounts.of(number).charge(0.15, 1.0)
    assert not accounts.of(0).is_greedy(1.0)
    assert accounts.of(MAX_ACCOUNTS).is_greedy(1.0)
