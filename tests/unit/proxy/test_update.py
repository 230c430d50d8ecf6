"""A new world in a worker: who is judged again, who is not, and when it asks."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from agent.addresses import SocketAddress, TunnelAddress, parse_ip
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.decision import Permit, Request, authorize
from agent.policy.index import RuleSet
from agent.policy.match import Attribute, Constraint, Rule, Term
from agent.policy.rule import DefaultPolicy, InboundPolicy, IstioPolicy
from agent.proxy.instructions import WorldChanged, WorldUpdated, decode, encode
from agent.proxy.live import LiveConnection, Register
from agent.proxy.pod import LocalPod
from agent.proxy.pool import Pool, PoolKey
from agent.proxy.session import End
from agent.proxy.update import update
from agent.proxy.world import World
from agent.workload.connection import Message
from agent.workload.delta import Snapshot, diff
from agent.workload.directory import Directory, Peer

TD = TrustDomain("cluster.local")
API = SpiffeId.for_workload(TD, "shop", "api")
WEB = SpiffeId.for_workload(TD, "shop", "web")
REMOTE = parse_ip("10.0.1.1")
CLIENT = parse_ip("10.0.9.9")


def policy(name: str, default: DefaultPolicy) -> InboundPolicy:
    return InboundPolicy(name, default)


def rule(block: str) -> Rule:
    source = Constraint(Attribute.SOURCE, (ipaddress.ip_network(block),), "ipBlocks")
    return Rule("P", f"rules[{block}]", (Term((source,)),))


def peer(uid: str, *, meshed: bool = True) -> Peer:
    return Peer(uid, f"shop/{uid}", API, (REMOTE,), meshed=meshed, node="n2")


OPEN = DefaultPolicy.ALL_UNAUTHENTICATED
FIRST = Snapshot(
    1,
    Directory({REMOTE: peer("api")}),
    {"web": policy("shop/web", OPEN), "batch": policy("shop/batch", OPEN)},
)
KEY = PoolKey("web", WEB, "api", API, TunnelAddress(SocketAddress(REMOTE, 15008)))


@dataclass
class FakePool:
    """Has one tunnel, and notes what of it was purged."""

    keys: list[PoolKey] = field(default_factory=lambda: [KEY])

    draining: list[PoolKey] = field(default_factory=list)

    def purge(self, stale: object, reason: str) -> None:
        assert callable(stale)
        self.keys = [key for key in self.keys if not stale(key)]

    def drain(self, stale: object) -> None:
        assert callable(stale)
        self.draining = [key for key in self.keys if stale(key)]


class Bench:
    """A worker's parts with two pods, each with one connection let in."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[Message] = []
        self.register = Register(0, self.told.append, lambda: 100.0)
        self.world, self.pool = World(), FakePool()
        self.pods = {uid: self.pod(uid) for uid in ("web", "batch")}
        self.judged: list[str] = []
        self.update(WorldUpdated(FIRST))
        self.live = {uid: self.connection(uid) for uid in self.pods}

        def judge(request: Request, policy: InboundPolicy) -> Permit:
            self.judged.append(policy.workload)
            return authorize(request, policy)

        monkeypatch.setattr("agent.proxy.live.authorize", judge)

    def pod(self, uid: str) -> LocalPod:
        made = LocalPod.__new__(LocalPod)
        made.uid, made.name, made.policy = uid, f"shop/{uid}", FIRST.policies[uid]
        return made

    def connection(self, uid: str) -> LiveConnection:
        live = self.register.begin(
            self.pods[uid], "inbound", "tunnel", End("10.0.9.9:4"), End("10.0.0.1:80")
        )
        live.request = Request(None, CLIENT, 80)
        return live

    def update(self, told: WorldUpdated | WorldChanged) -> str | None:
        return update(told, self.world, self.pods, self.register, cast(Pool, self.pool))

    def change(self, new: Snapshot) -> str | None:
        assert self.world.snapshot is not None
        return self.update(WorldChanged(diff(self.world.snapshot, new)))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def denied(uid: str, version: int) -> Snapshot:
    changed = {uid: policy(f"shop/{uid}", DefaultPolicy.DENY)}
    return replace(FIRST, version=version, policies={**FIRST.policies, **changed})


class TestPolicies:
    def test_only_what_changed_is_judged_again(self, bench: Bench) -> None:
        """web's connection ends, and nobody looks at batch's."""
        assert bench.change(denied("web", 2)) is None
        assert bench.judged == ["shop/web"]
        assert bench.live["web"].revoked is not None
        assert bench.live["batch"].revoked is None
        assert bench.pods["web"].policy.default is DefaultPolicy.DENY

    def test_a_rule_far_down_counts(self, bench: Bench) -> None:
        """Rules travel as an index and a few of them: the copies may look alike."""
        for version, last in ((2, "10.0.9.9/32"), (3, "10.0.8.8/32")):
            blocks = (*(f"192.0.2.{number}/32" for number in range(9)), last)
            istio = IstioPolicy(allows=(RuleSet(("P",), tuple(map(rule, blocks))),))
            strict = replace(policy("shop/web", OPEN), istio=istio)
            new = {**FIRST.policies, "web": strict}
            assert bench.world.snapshot is not None
            made = diff(
                bench.world.snapshot, replace(FIRST, version=version, policies=new)
            )
            told = decode(encode(WorldChanged(made)))
            assert isinstance(told, WorldChanged)
            bench.update(told)
            assert (bench.live["web"].revoked is None) is (version == 2)

    def test_a_directory_that_changes_judges_nobody(self, bench: Bench) -> None:
        """Policy is the same, so the verdict is."""
        bench.change(replace(FIRST, version=2, directory=Directory()))
        assert bench.judged == []
        assert bench.world.known() == Directory()


class TestAGap:
    def test_is_asked_about_once_and_nothing_changes(self, bench: Bench) -> None:
        """The last whole state stays in force, of directory and policies alike."""
        late = WorldChanged(diff(denied("web", 2), denied("batch", 3)))
        later = WorldChanged(diff(denied("batch", 3), denied("web", 4)))
        assert bench.update(late) == "a change from version 2 came to version 1"
        assert bench.update(later) is None
        assert bench.world.snapshot == FIRST
        assert bench.judged == []
        assert {p.policy.default for p in bench.pods.values()} == {OPEN}

    def test_the_whole_closes_it(self, bench: Bench) -> None:
        """Everything is as control has it, and the next change follows."""
        bench.update(WorldChanged(diff(denied("web", 7), denied("batch", 8))))
        assert bench.update(WorldUpdated(denied("batch", 8))) is None
        assert sorted(bench.judged) == ["shop/batch", "shop/web"]
        assert bench.live["batch"].revoked is not None
        assert bench.change(denied("web", 9)) is None
        assert bench.live["web"].revoked is not None

    def test_a_change_before_any_whole(self, bench: Bench) -> None:
        """A worker that knows nothing does not begin with a part."""
        bench.world = World()
        told = WorldChanged(diff(Snapshot(), FIRST))
        assert bench.update(told) is not None
        assert bench.world.directory is None


class TestTheDirectory:
    def test_tunnels_to_who_is_there_stay(self, bench: Bench) -> None:
        """A change somewhere else is no reason to shake hands again."""
        bench.change(denied("web", 2))
        assert bench.pool.keys == [KEY]

    def test_tunnels_to_another_pod_go(self, bench: Bench) -> None:
        """The address is somebody else's now."""
        bench.change(
            replace(FIRST, version=2, directory=Directory({REMOTE: peer("b")}))
        )
        assert bench.pool.keys == []

    def test_tunnels_to_a_pod_of_another_identity_drain(self, bench: Bench) -> None:
        """It is the same pod: what is open goes on, new connections shake hands."""
        renamed = replace(peer("api"), identity=WEB)
        assert not bench.world.was_renamed("api")
        bench.change(replace(FIRST, version=2, directory=Directory({REMOTE: renamed})))
        assert bench.pool.keys == bench.pool.draining == [KEY]
        assert bench.world.was_renamed("api")

    def test_a_tunnel_that_was_opening_goes_at_the_next_change(
        self, bench: Bench
    ) -> None:
        """Whatever that change is about."""
        bench.change(replace(FIRST, version=2, directory=Directory()))
        bench.pool.keys = [KEY]
        bench.change(replace(denied("web", 3), directory=Directory()))
        assert bench.pool.keys == []

    def test_plaintext_to_who_joins_the_mesh_ends(self, bench: Bench) -> None:
        """And only that."""
        outside = Directory({REMOTE: peer("api", meshed=False)})
        bench.change(replace(FIRST, version=2, directory=outside))
        bench.live["web"].outside = SocketAddress(REMOTE, 80)
        bench.live["batch"].outside = SocketAddress(CLIENT, 80)
        bench.change(replace(FIRST, version=3))
        assert bench.live["web"].revoked is not None
        assert bench.live["batch"].revoked is None
