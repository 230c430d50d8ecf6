"""A session takes the steps of its table and tells what happened, in order."""

from __future__ import annotations

import pytest

from agent.proxy.session import NEXT, End, Meter, Session, State, Traffic, WrongOrder


def session() -> Session:
    source, to = End("10.244.1.2:40000"), End("10.244.2.2:80")
    return Session("0-1", 0, "outbound", "tunnel", source, to, opened=100.0)


def test_a_step_out_of_order_is_a_bug() -> None:
    """Relaying before anybody was located can not happen unnoticed."""
    with pytest.raises(WrongOrder, match="ACCEPTED -> RELAYING"):
        session().open()


def test_closed_is_the_end() -> None:
    """Nothing follows CLOSED, and every state but CLOSED leads there."""
    assert NEXT[State.CLOSED] == frozenset()
    assert all(State.CLOSED in NEXT[s] for s in State if s is not State.CLOSED)


def test_a_whole_life() -> None:
    """Opened, counted, closed: the messages carry what the session knows."""
    one = session()
    for state in (State.LOCATED, State.IDENTIFIED, State.AUTHORIZED):
        one.advance(state)
    one.rule = "AuthorizationPolicy shop/api-clients"

    opened = one.open()
    one.traffic.sent, one.traffic.received = 10, 20
    closed = one.close("closed", None, 101.0)

    assert (opened.id, opened.rule) == ("0-1", "AuthorizationPolicy shop/api-clients")
    assert (closed.sent_bytes, closed.received_bytes) == (10, 20)
    assert (closed.outcome, closed.reason, closed.closed) == ("closed", None, 101.0)


def test_a_refusal_says_why() -> None:
    """A connection that never relayed is one message with the reason."""
    refused = session().refuse("refused", "no ready endpoint", 100.5)

    assert (refused.outcome, refused.reason) == ("refused", "no ready endpoint")
    assert refused.source.address == "10.244.1.2:40000"


@pytest.mark.parametrize(
    ("app_is_client", "expected"), [(True, (5, 7)), (False, (7, 5))]
)
def test_bytes_are_counted_as_the_client_sees_them(
    app_is_client: bool, expected: tuple[int, int]
) -> None:
    """`sent` flows from client to server, whichever end we stand at."""
    traffic = Traffic()
    meter = Meter(traffic, app_is_client)
    meter.from_app(5)
    meter.to_app(7)

    assert (traffic.sent, traffic.received) == expected
