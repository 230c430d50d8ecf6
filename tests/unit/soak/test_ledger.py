"""Both reports of a connection find each other, and everything is added up."""

from __future__ import annotations

from dataclasses import replace

from tests.soak.ends import End
from tests.soak.judge import Revocation
from tests.soak.ledger import MOST_TOLD, Ledger, Total
from tests.soak.plan import Limits, connection_key, planned

SEED, PATH, LIMITS = 3, "tunnel", Limits()
NUMBER = next(
    number
    for number in range(100)
    if planned(connection_key(SEED, PATH, number), LIMITS).kind == "chat"
)
PLAN = planned(connection_key(SEED, PATH, NUMBER), LIMITS)
CLIENT = End(
    "client",
    PATH,
    NUMBER,
    "end",
    sent=PLAN.client.total,
    sent_hash="up",
    shut_down=True,
    received=PLAN.server.total,
    received_hash="down",
    saw_end=True,
    opened=10,
    ended=11,
)
SERVER = replace(
    CLIENT,
    role="server",
    sent=PLAN.server.total,
    sent_hash="down",
    received=PLAN.client.total,
    received_hash="up",
)


def ledger() -> Ledger:
    return Ledger(SEED, LIMITS, {PATH: Total()})


def test_two_ends_are_one_connection() -> None:
    """In whichever order they report."""
    for ends in ((CLIENT, SERVER), (SERVER, CLIENT)):
        its = ledger()
        for end in ends:
            its.take(End.parse(end.line()))
        assert (its.connections, its.count) == (1, 0)
        assert its.totals[PATH].completed == 1
        assert its.totals[PATH].kinds == {"chat": 1}
        assert its.received_bytes == PLAN.client.total + PLAN.server.total


def test_who_reported_alone_is_judged_at_the_end() -> None:
    """A client that read a clean end, from a server that knows nothing of it."""
    its = ledger()
    its.take(CLIENT)
    assert its.connections == 0
    its.finish()
    assert its.connections == 1
    assert "clean end that nobody sent" in its.differences[0]


def test_what_is_no_report_is_a_difference() -> None:
    """A traceback of the load, for instance."""
    its = ledger()
    its.take("Traceback (most recent call last):")
    assert its.count == 1


def test_the_same_end_twice() -> None:
    """A connection that arrived twice."""
    its = ledger()
    its.take(SERVER)
    its.take(SERVER)
    assert any("two reports of the server" in line for line in its.differences)


def test_before_the_introduction() -> None:
    """Resets are counted, all else is a difference."""
    its = ledger()
    its.take(End("server", PATH, None, "reset"))
    assert (its.nameless_resets, its.count) == (1, 0)
    its.take(End("server", PATH, None, "end"))
    assert its.count == 1


def test_revoked_live_connections_are_timed() -> None:
    """From the file's change to the client's reset."""
    its = ledger()
    its.revocations.append(Revocation(PATH, 10.5))
    for end in (CLIENT, SERVER):
        its.take(replace(end, outcome="reset", saw_end=False))
    assert (its.count, its.revoked_live, its.slowest_revocation) == (0, 1, 0.5)


def test_a_flood_is_counted_and_not_kept() -> None:
    """The first ones tell what is wrong."""
    its = ledger()
    for _ in range(MOST_TOLD + 50):
        its.take("broken")
    assert (its.count, len(its.differences)) == (MOST_TOLD + 50, MOST_TOLD)
