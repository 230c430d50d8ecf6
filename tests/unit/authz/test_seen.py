"""Connections summed up by flow, within bounds."""

from __future__ import annotations

from agent.authz.seen import MAX_SOURCES, Flow, Seen
from agent.workload.connection import (
    ConnectionChanged,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Direction,
    Endpoint,
    Path,
)

from .samples import spiffe

API = Endpoint("10.0.2.1:80", "shop/api")
WEB = Endpoint("10.0.1.1:40000", "shop/web", spiffe("web"))
RULE = "AuthorizationPolicy shop/api"


def opened(
    source: Endpoint = WEB,
    to: Endpoint = API,
    *,
    id: str = "1",
    at: float = 10,
    direction: Direction = "inbound",
    path: Path = "tunnel",
    audit: str | None = None,
) -> ConnectionOpened:
    return ConnectionOpened(
        id=id,
        worker=0,
        direction=direction,
        path=path,
        source=source,
        destination=to,
        opened=at,
        rule=RULE,
        audit=audit,
    )


def refused(
    source: Endpoint = WEB, rule: str | None = "Server shop/api"
) -> ConnectionRefused:
    return ConnectionRefused(
        id="r",
        worker=0,
        direction="inbound",
        path="tunnel",
        source=source,
        destination=API,
        closed=20,
        reason="no",
        rule=rule,
    )


def outsider(number: int) -> Endpoint:
    return Endpoint(f"192.0.2.{number}:1")


def test_counts() -> None:
    """Allowed and refused of one flow, when it was first and last seen, from where."""
    seen = Seen(0)
    for message in (opened(), opened(at=15), refused()):
        seen.apply(message)
    ((flow, tally),) = seen.flows()
    assert flow == Flow(spiffe("web"), True, "shop/api", 80, "tunnel")
    assert (tally.allowed, tally.refused) == (2, 1)
    assert (tally.first, tally.last) == (10, 20)
    assert tally.rule == "Server shop/api"
    assert tally.sources == {"10.0.1.1": "shop/web"}


def test_what_is_no_flow() -> None:
    """What left here, what came to nobody, and what policy did not decide."""
    seen = Seen(0)
    seen.apply(opened(direction="outbound"))
    seen.apply(opened(to=Endpoint("10.0.2.1:80")))
    seen.apply(opened(to=Endpoint("nonsense", "shop/api")))
    seen.apply(refused(rule=None))
    seen.apply(ConnectionClosed(id="1", outcome="closed", closed=5))
    assert not list(seen.flows())


def test_direct() -> None:
    """Told by the client's side; by a Service's address the pod's port is not known."""
    seen = Seen(0)
    seen.apply(opened(direction="outbound", path="direct"))
    by_service = Endpoint("10.96.0.1:8000", "shop/api", None, "shop/api")
    seen.apply(opened(to=by_service, direction="outbound", path="direct"))
    ((flow, tally),) = seen.flows()
    assert (flow.path, flow.port, tally.allowed) == ("direct", 80, 1)


def test_plaintext() -> None:
    """By address, without the port, and apart from the mesh."""
    seen = Seen(0)
    seen.apply(opened(outsider(1), path="plaintext"))
    seen.apply(opened(Endpoint("192.0.2.1:2"), path="plaintext"))
    ((flow, tally),) = seen.flows()
    assert (flow.client, flow.meshed, tally.allowed) == ("192.0.2.1", False, 2)


class TestAudit:
    def test_when_it_opens(self) -> None:
        """Counted by flow and altogether, with what would have denied it."""
        seen = Seen(0)
        seen.apply(opened(audit="Server shop/api"))
        ((_, tally),) = seen.flows()
        assert (tally.allowed, tally.audited, seen.audited) == (1, 1, 1)
        assert tally.would_deny == "Server shop/api"

    def test_when_policy_changes(self) -> None:
        """A live connection that only audit lets in from now on."""
        seen = Seen(0)
        seen.apply(opened())
        seen.apply(ConnectionChanged(id="1", rule="R", audit="R"))
        seen.apply(ConnectionChanged(id="unknown", rule="R", audit="R"))
        assert seen.audited == 1
        seen.apply(ConnectionClosed(id="1", outcome="closed", closed=5))
        seen.apply(ConnectionChanged(id="1", rule="R", audit="R"))
        assert seen.audited == 1


def test_a_worker_that_died() -> None:
    """What its connections were is forgotten; what was counted is not."""
    seen = Seen(0)
    seen.apply(opened())
    seen.worker_lost(0)
    seen.apply(ConnectionChanged(id="1", rule="R", audit="R"))
    ((_, tally),) = seen.flows()
    assert (tally.allowed, seen.audited) == (1, 0)


class TestBounds:
    def test_the_oldest_goes(self) -> None:
        """The flow seen longest ago makes room, and is counted."""
        seen = Seen(0, limit=2)
        for number in (1, 2, 1, 3):
            seen.apply(opened(outsider(number), path="plaintext"))
        assert [flow.client for flow, _ in seen.flows()] == ["192.0.2.1", "192.0.2.3"]
        assert seen.dropped == 1

    def test_strangers_push_out_no_peer(self) -> None:
        """However many addresses knock in plaintext."""
        seen = Seen(0, limit=2)
        seen.apply(opened())
        for number in range(20):
            seen.apply(opened(outsider(number), path="plaintext"))
        assert sum(flow.meshed for flow, _ in seen.flows()) == 1

    def test_sources(self) -> None:
        """The latest addresses of a flow."""
        seen = Seen(0)
        for number in range(MAX_SOURCES + 5):
            ends = Endpoint(f"10.0.3.{number}:1", "shop/web", spiffe("web"))
            seen.apply(opened(ends))
        ((_, tally),) = seen.flows()
        assert len(tally.sources) == MAX_SOURCES
        assert f"10.0.3.{MAX_SOURCES + 4}" in tally.sources
