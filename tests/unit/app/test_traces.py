"""A kernel's trace as the ledger's words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.addresses import SocketAddress
from agent.app.traces import Story, carried, counted
from agent.redirect.inet_diag import DiagSocket, TcpState
from agent.redirect.records import Trace
from agent.workload.connection import ConnectionClosed, ConnectionRefused
from agent.workload.direct import Revocation
from tests.unit.workload.test_direct import HERE, TO_API

GROUNDS = HERE.judge(TO_API)
LIVE = Trace(
    verdict=7,
    netns=1,
    source=SocketAddress.parse("10.0.0.1:40000"),
    destination=TO_API.destination,
    meant=SocketAddress.parse("10.96.0.1:80"),
    state=TcpState.ESTABLISHED,
    opened=100.0,
    closed=None,
    acked_bytes=0,
    received_bytes=0,
    received_before=0,
)
STORY = Story(0xAB, LIVE, 1000.0, GROUNDS, "shop/api")


def ended(state: TcpState, acked: int, received: int, before: int = 0) -> Trace:
    return replace(
        LIVE,
        state=state,
        closed=101.0,
        acked_bytes=acked,
        received_bytes=received,
        received_before=before,
    )


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        # Both FINs were acknowledged; whoever closed first.
        (ended(TcpState.LAST_ACK, 1 + 10 + 1, 20 + 1), (10, 20)),
        (ended(TcpState.CLOSING, 1 + 10 + 1, 20 + 1), (10, 20)),
        # Half closed, then the peer's last words and its FIN.
        (ended(TcpState.FIN_WAIT2, 1 + 10 + 1, 20 + 1, before=5), (10, 20)),
        # Closed altogether: the kernel waits for no FIN.
        (ended(TcpState.FIN_WAIT2, 1 + 10 + 1, 20, before=20), (10, 20)),
        # Reset in the middle.
        (ended(TcpState.ESTABLISHED, 1 + 10, 20), (10, 20)),
        (ended(TcpState.CLOSE_WAIT, 1 + 10, 20 + 1), (10, 20)),
        # Nothing ever got through.
        (ended(TcpState.SYN_SENT, 0, 0), (0, 0)),
    ],
)
def test_bytes_without_syn_and_fin(trace: Trace, expected: tuple[int, int]) -> None:
    """The application's bytes, and not TCP's own."""
    assert carried(trace) == expected


@pytest.mark.parametrize(
    ("state", "acked", "received"),
    [
        (TcpState.ESTABLISHED, 11, 20),
        (TcpState.FIN_WAIT2, 12, 20),
        (TcpState.CLOSE_WAIT, 11, 21),
    ],
)
def test_bytes_of_a_live_one(state: TcpState, acked: int, received: int) -> None:
    """The same while it is open, or half of it is."""
    found = DiagSocket(2, state, LIVE.source, LIVE.destination, b"", 1, acked, received)
    told = counted("x", found)
    assert (told.sent_bytes, told.received_bytes) == (10, 20)


def test_opened() -> None:
    """Who, whom, by which service, by which rule, since when; no worker."""
    told = STORY.opened()
    assert (told.id, told.path, told.direction) == ("direct-ab", "direct", "outbound")
    assert told.worker is None
    assert told.opened == 1100.0
    assert told.rule == GROUNDS.rule
    assert told.source.workload == "shop/web"
    assert told.destination.address == "10.96.0.1:80"
    assert told.destination.workload == "shop/api"
    assert told.destination.service == "shop/api"


def test_of_an_earlier_agents_time() -> None:
    """What is not known is not made up."""
    told = replace(STORY, grounds=None).opened()
    assert told.source.address == "10.0.0.1:40000"
    assert told.source.workload is None
    assert told.rule is None


class TestEnds:
    def test_in_order(self) -> None:
        """No reason is told where there is none."""
        told = replace(STORY, trace=ended(TcpState.LAST_ACK, 12, 21)).ended(101.0)
        assert isinstance(told, ConnectionClosed)
        assert (told.outcome, told.reason, told.closed) == ("closed", None, 1101.0)
        assert (told.sent_bytes, told.received_bytes) == (10, 20)

    def test_by_a_reset(self) -> None:
        """It failed."""
        told = replace(STORY, trace=ended(TcpState.ESTABLISHED, 1, 0)).ended(101.0)
        assert (told.outcome, told.reason) == ("failed", "reset")

    def test_by_us(self) -> None:
        """Refused, with the reason and the object that decided."""
        revocation = Revocation(TO_API, GROUNDS, "no authorization", "Server shop/api")
        trace = ended(TcpState.ESTABLISHED, 1, 0)
        told = replace(STORY, trace=trace, revocation=revocation).ended(101.0)
        assert (told.outcome, told.reason) == ("refused", "no authorization")
        assert told.rule == "Server shop/api"

    def test_in_order_before_a_revocation_was_looked_at(self) -> None:
        """What had finished by itself was not ended by us."""
        revocation = Revocation(TO_API, GROUNDS, "no authorization")
        trace = ended(TcpState.LAST_ACK, 12, 21)
        told = replace(STORY, trace=trace, revocation=revocation).ended(101.0)
        assert told.outcome == "closed"

    def test_that_never_opened(self) -> None:
        """The application did not listen, or did not answer."""
        told = replace(STORY, trace=ended(TcpState.SYN_SENT, 0, 0)).ended(101.0)
        assert isinstance(told, ConnectionRefused)
        assert (told.outcome, told.worker) == ("failed", None)
        assert "did not accept" in told.reason
