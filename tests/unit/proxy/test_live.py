"""Connections are registered, judged, judged again, and reported exactly once."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from agent.addresses import parse_ip
from agent.errors import PeerError
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.decision import Denied, Request
from agent.policy.rule import (
    Authorization,
    DefaultPolicy,
    IdentityMatch,
    InboundPolicy,
    PortPolicy,
)
from agent.proxy.live import INCIDENTS_PER_SECOND, LiveConnection, Register
from agent.proxy.pod import LocalPod
from agent.proxy.session import End, State
from agent.workload.connection import (
    ConnectionChanged,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Incident,
    Message,
)

TD = TrustDomain("cluster.local")
WEB = SpiffeId.for_workload(TD, "shop", "web")
BATCH = SpiffeId.for_workload(TD, "shop", "batch")
SOURCE = parse_ip("10.244.1.2")


def admits(*identities: SpiffeId) -> InboundPolicy:
    """Port 80 for these identities; everything else is denied."""
    matches = tuple(IdentityMatch.parse(str(identity)) for identity in identities)
    port = PortPolicy(
        "Server shop/api-http",
        DefaultPolicy.DENY,
        (Authorization("AuthorizationPolicy shop/callers", matches),),
    )
    network = ipaddress.ip_network("10.0.0.0/8")
    return InboundPolicy("shop/api", DefaultPolicy.DENY, "Pod", {80: port}, (network,))


class Bench:
    """A register with a pod, and what it told."""

    def __init__(self, policy: InboundPolicy) -> None:
        self.told: list[Message] = []
        self.register = Register(0, self.told.append, lambda: 100.0)
        self.pod = LocalPod.__new__(LocalPod)
        self.pod.uid, self.pod.name, self.pod.policy = "u1", "shop/api", policy

    def begin(self) -> LiveConnection:
        live = self.register.begin(
            self.pod, "inbound", "tunnel", End("10.244.1.2:4"), End("10.244.2.2:80")
        )
        live.session.advance(State.IDENTIFIED)
        live.session.advance(State.LOCATED)
        return live

    async def relay(self, live: LiveConnection, identity: SpiffeId) -> None:
        """A connection of `identity` that stays open."""

        async def work() -> None:
            live.authorize(Request(identity, SOURCE, 80))
            live.opened()
            await trio.sleep_forever()

        await self.register.run(live, work)

    def change(self, policy: InboundPolicy) -> None:
        self.pod.policy = policy
        self.register.judge_again({"u1": policy})


async def test_a_denied_connection_is_reported_with_its_rule() -> None:
    """The refusal names the object that decided."""
    bench = Bench(admits(WEB))
    await bench.relay(bench.begin(), BATCH)

    (refused,) = bench.told
    assert isinstance(refused, ConnectionRefused)
    assert (refused.outcome, refused.rule) == ("refused", "Server shop/api-http")
    assert str(BATCH) in refused.reason


async def test_a_change_closes_who_lost_the_permit_and_nobody_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """batch goes, web stays."""
    bench = Bench(admits(WEB, BATCH))
    web, batch = bench.begin(), bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.relay, web, WEB)
        nursery.start_soon(bench.relay, batch, BATCH)
        await trio.testing.wait_all_tasks_blocked()
        bench.change(admits(WEB))
        await trio.testing.wait_all_tasks_blocked()

        ended = [m for m in bench.told if isinstance(m, ConnectionClosed)]
        assert [(m.id, m.outcome) for m in ended] == [(batch.session.id, "refused")]
        assert bench.register.count(bench.pod, "inbound") == 1
        nursery.cancel_scope.cancel()


async def test_a_change_between_registering_and_judging_leaves_no_gap() -> None:
    """A connection that waits when policy changes is judged by the new one."""
    bench = Bench(admits(WEB))
    live = bench.begin()

    async def work() -> None:
        bench.change(admits(BATCH))
        live.authorize(Request(WEB, SOURCE, 80))

    await bench.register.run(live, work)
    assert [type(m) for m in bench.told] == [ConnectionRefused]


async def test_each_ending_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """In order, by a fault of the peer, by a bug: one message each, nothing escapes."""
    for failure, outcome in (
        (None, "closed"),
        (PeerError("broken"), "failed"),
        (RuntimeError("a bug"), "failed"),
    ):
        bench = Bench(admits(WEB))
        live = bench.begin()

        async def work(
            live: LiveConnection = live, failure: Exception | None = failure
        ) -> None:
            live.authorize(Request(WEB, SOURCE, 80))
            live.opened()
            if failure:
                raise failure

        await bench.register.run(live, work)
        opened, closed = bench.told
        assert isinstance(opened, ConnectionOpened)
        assert isinstance(closed, ConnectionClosed)
        assert (closed.outcome, closed.reason) == (
            outcome,
            str(failure) if failure else None,
        )
        assert bench.register.count(bench.pod, "inbound") == 0


async def test_an_audited_permit_is_told() -> None:
    """What only audit lets in is allowed, and said so."""
    policy = replace(admits(WEB), ports={}, default=DefaultPolicy.AUDIT)
    bench = Bench(policy)
    live = bench.begin()

    async def work() -> None:
        assert live.authorize(Request(None, SOURCE, 81)).audit

    await bench.register.run(live, work)
    assert any(getattr(message, "kind", "") == "audit" for message in bench.told)


async def test_a_permit_that_becomes_an_audit() -> None:
    """The connection goes on; that it would be denied is told, and told once."""
    bench = Bench(admits(WEB))
    live = bench.begin()
    heard = replace(admits(BATCH).ports[80], access_policy=DefaultPolicy.AUDIT)
    policy = replace(admits(BATCH), ports={80: heard})

    async def work() -> None:
        live.authorize(Request(WEB, SOURCE, 80))
        live.opened()
        for _ in range(2):
            bench.register.judge_again({bench.pod.uid: policy})
        assert not live.is_revoked()

    await bench.register.run(live, work)
    kinds = [type(message) for message in bench.told]
    assert kinds == [ConnectionOpened, ConnectionChanged, Incident, ConnectionClosed]
    changed = bench.told[1]
    assert isinstance(changed, ConnectionChanged)
    assert changed.audit == changed.rule == "Server shop/api-http accessPolicy audit"


async def test_another_rule_permits_it() -> None:
    """It goes on, and is told under the rule that permits it now."""
    bench = Bench(admits(WEB))
    live = bench.begin()
    policy = replace(admits(WEB), ports={}, default=DefaultPolicy.ALL_AUTHENTICATED)

    async def work() -> None:
        live.authorize(Request(WEB, SOURCE, 80))
        live.opened()
        bench.register.judge_again({bench.pod.uid: policy})

    await bench.register.run(live, work)
    _, changed, _ = bench.told
    assert isinstance(changed, ConnectionChanged)
    assert (changed.audit, changed.rule) == (None, live.session.rule)


def test_denied_is_what_the_policy_raises() -> None:
    """`authorize` of a live connection lets Denied through, state unchanged."""
    bench = Bench(admits(WEB))
    live = bench.begin()
    with pytest.raises(Denied):
        live.authorize(Request(BATCH, SOURCE, 80))
    assert live.session.state is State.LOCATED


def test_a_flood_of_incidents_is_summed_up() -> None:
    """Twenty of a kind are told in a second; the next one says how many were not."""
    told: list[Message] = []
    now = [100.0]
    register = Register(0, told.append, lambda: now[0])
    for _ in range(50):
        register.incident("tunnel-refused", "shop/api", "garbage")
    register.incident("audit", "shop/api", "another kind")
    assert len(told) == 21
    now[0] = 101.0
    register.incident("tunnel-refused", "shop/api", "garbage")
    assert "30 more" in getattr(told[-1], "message", "")


async def test_a_flood_of_refusals_does_not_fill_the_log() -> None:
    """Each is told to control; the log has some a second, and how many it left out."""
    bench = Bench(admits(WEB))
    now = 100.0
    bench.register = Register(0, bench.told.append, lambda: now)
    with capture_logs() as lines:
        for _ in range(500):
            await bench.relay(bench.begin(), BATCH)
        assert len(bench.told) == 500
        assert len(lines) == INCIDENTS_PER_SECOND
        now += 1
        await bench.relay(bench.begin(), BATCH)
    assert lines[-1]["not_logged"] == 500 - INCIDENTS_PER_SECOND
