"""What the judge finds wrong with a connection, and what it lets pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.soak.ends import End, Outcome
from tests.soak.judge import Connection, Revocation, anonymous, differences
from tests.soak.plan import Await, Plan, Reset, Send, Side

PATH = "tunnel"
PLAN = Plan("short", Side((Send(100),)), Side((Await(100), Send(200))))
TORN = Plan("reset", Side((Send(100), Reset())), Side((Await(100), Send(200))))
CLIENT = End(
    "client",
    PATH,
    1,
    "end",
    sent=100,
    sent_hash="up",
    shut_down=True,
    received=200,
    received_hash="down",
    saw_end=True,
    opened=10,
    ended=20,
)
SERVER = replace(
    CLIENT, role="server", sent=200, sent_hash="down", received=100, received_hash="up"
)


def judge(
    client: End | None,
    server: End | None,
    plan: Plan = PLAN,
    revocations: tuple[Revocation, ...] = (),
) -> list[str]:
    return differences(Connection(1, PATH, plan, client, server), revocations)


def reset(end: End, received: int = 0) -> End:
    """The same end, reset after some bytes."""
    return replace(
        end, outcome="reset", saw_end=False, shut_down=False, received=received
    )


def test_all_in_order() -> None:
    """Nothing to say."""
    assert judge(CLIENT, SERVER) == []


@pytest.mark.parametrize("outcome", ["wrong byte", "stuck", "failed"])
def test_errors_of_an_end(outcome: Outcome) -> None:
    """Always a difference, of whichever end, whatever policy did."""
    bad = replace(SERVER, outcome=outcome, saw_end=False, detail="the detail")
    revoked = Revocation(PATH, 18)
    (line,) = judge(reset(CLIENT), bad, revocations=(revoked,))
    assert "tunnel 1 (short): server" in line
    assert "the detail" in line


def test_a_clean_end_with_missing_bytes() -> None:
    """Every byte that did arrive was right, and still."""
    short = replace(SERVER, received=99, received_hash="other")
    assert "99 of 100 bytes and a clean end; 100 were sent" in judge(CLIENT, short)[0]


def test_a_reset_that_arrives_as_a_clean_end() -> None:
    """Whoever was reset must not take what it has for the whole."""
    torn = replace(reset(CLIENT), outcome="own reset")
    server = replace(SERVER, outcome="end")
    assert "a clean end that nobody sent" in judge(torn, server, TORN)[0]


def test_a_clean_end_from_a_server_that_nobody_reached() -> None:
    """A refusal must be a reset."""
    empty = replace(CLIENT, received=0)
    assert "a clean end that nobody sent" in judge(empty, None)[0]


def test_another_hash() -> None:
    """Count and positions alone would let it pass."""
    assert "another hash" in judge(CLIENT, replace(SERVER, received_hash="x"))[0]


def test_more_than_was_sent() -> None:
    """Bytes that come from nowhere."""
    client = reset(CLIENT)
    torn = replace(SERVER, outcome="own reset", sent=0, saw_end=False)
    plan = Plan("reset", PLAN.client, Side((Reset(),)))
    assert "more than the 0" in judge(replace(client, received=1), torn, plan)[0]


def test_resets_by_plan() -> None:
    """The other end may have read any part; or may never have heard of it."""
    torn = replace(reset(CLIENT), outcome="own reset")
    assert judge(torn, reset(SERVER, 50), TORN) == []
    assert judge(torn, None, TORN) == []


def test_resets_without_a_cause() -> None:
    """Not by plan, not by policy, so by us."""
    lines = judge(reset(CLIENT), reset(SERVER))
    assert len(lines) == 2
    assert all("reset without cause" in line for line in lines)
    refused = replace(reset(CLIENT), outcome="refused")
    assert "refused without cause" in judge(refused, None)[0]


def test_resets_by_policy() -> None:
    """Excused while its own path is revoked, and for no other path or time."""
    ends = reset(CLIENT), reset(SERVER)
    assert judge(*ends, revocations=(Revocation(PATH, 19),)) == []
    assert judge(*ends, revocations=(Revocation("other", 19),))
    assert judge(*ends, revocations=(Revocation(PATH, 21),))
    assert judge(*ends, revocations=(Revocation(PATH, 1, 2),))


def test_a_connection_that_outlives_its_permit() -> None:
    """A revoked connection that goes on is a difference, though all bytes are right."""
    revoked = Revocation(PATH, 12)
    lines = judge(CLIENT, SERVER, revocations=(revoked,))
    assert ["lived 5.0 s longer than its permit" in line for line in lines] == [
        True
    ] * 2
    assert judge(CLIENT, SERVER, revocations=(Revocation(PATH, 18),)) == []
    # On a machine that is five times as slow it was in time.
    slow = Revocation(PATH, 12, slowness=5.0)
    assert judge(CLIENT, SERVER, revocations=(slow,)) == []


def test_before_the_introduction() -> None:
    """A reset is all that may happen to who has not said who it is."""
    end = End("server", PATH, None, "reset")
    assert anonymous(end) == []
    assert anonymous(replace(end, outcome="end", detail="0 bytes"))
