"""Who may talk past the agent, and when that ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.addresses import DeliveryAddress, SocketAddress, parse_ip
from agent.identity.spiffe import SpiffeId
from agent.policy.decision import Denied
from agent.policy.rule import (
    Authorization,
    DefaultPolicy,
    IdentityMatch,
    InboundPolicy,
    NetworkMatch,
    PortPolicy,
)
from agent.workload.connection import ConnectionOpened, Endpoint
from agent.workload.direct import (
    NotDirect,
    Pair,
    Resident,
    Residents,
    services_about,
)
from agent.workload.directory import Endpoint as Backend
from agent.workload.directory import VirtualService

PORT = 80
TO_API = Pair(1, SocketAddress.parse("10.0.0.2:80"))


def identity(name: str) -> SpiffeId:
    return SpiffeId.parse(f"spiffe://cluster.local/ns/shop/sa/{name}")


def policy(*callers: str, access: DefaultPolicy = DefaultPolicy.DENY) -> InboundPolicy:
    """Port 80 is for these; other ports are for everybody."""
    matches = tuple(IdentityMatch.parse(str(identity(name))) for name in callers)
    rule = Authorization("AuthorizationPolicy shop/api", identities=matches)
    return InboundPolicy(
        "shop/api",
        DefaultPolicy.ALL_UNAUTHENTICATED,
        ports={PORT: PortPolicy("Server shop/api", access, (rule,))},
    )


WEB = Resident(
    "u-web",
    "shop/web",
    identity("web"),
    1,
    (parse_ip("10.0.0.1"), parse_ip("fd00::1")),
    policy(),
)
API = Resident(
    "u-api",
    "shop/api",
    identity("api"),
    2,
    (parse_ip("10.0.0.2"), parse_ip("fd00::2")),
    policy("web"),
)
HERE = Residents.of([WEB, API])


def opened(**other: Any) -> ConnectionOpened:
    facts: dict[str, Any] = {
        "id": "1",
        "worker": 0,
        "direction": "inbound",
        "path": "tunnel",
        "source": Endpoint("10.0.0.1:40000"),
        "destination": Endpoint("10.0.0.2:80"),
        "opened": 1.0,
    }
    return ConnectionOpened(**(facts | other))


class TestJudge:
    @pytest.mark.parametrize("to", ["10.0.0.2:80", "[fd00::2]:80"])
    def test_two_captured_pods_and_a_rule(self, to: str) -> None:
        """Permitted by the rule that permits the tunnel, from the pod's own address."""
        destination = SocketAddress.parse(to)
        grounds = HERE.judge(Pair(1, destination))
        assert grounds.rule == "AuthorizationPolicy shop/api"
        assert (grounds.source.name, grounds.destination.name) == ("shop/web", API.name)
        assert grounds.source_ip.version == destination.ip.version
        assert grounds.source_ip in WEB.addresses

    def test_what_policy_refuses(self) -> None:
        """The refusal is policy's own."""
        with pytest.raises(Denied, match="no authorization of Server shop/api"):
            Residents.of([WEB, replace(API, policy=policy("till"))]).judge(TO_API)

    @pytest.mark.parametrize("where", ["port", "default"])
    def test_what_audit_alone_lets_in(self, where: str) -> None:
        """The pair is permitted, and marked: each new connection must be told."""
        audit = (
            policy(access=DefaultPolicy.AUDIT)
            if where == "port"
            else InboundPolicy("shop/api", DefaultPolicy.AUDIT)
        )
        assert Residents.of([WEB, replace(API, policy=audit)]).judge(TO_API).audit

    def test_from_permitted_to_audited(self) -> None:
        """What is open stays open."""
        heard = policy(access=DefaultPolicy.AUDIT)
        now = Residents.of([WEB, replace(API, policy=heard)])
        kept, revoked = now.review({TO_API: HERE.judge(TO_API)})
        assert kept[TO_API].audit
        assert not revoked

    def test_by_the_address_that_it_comes_from(self) -> None:
        """A rule about networks is asked about the pod's own address."""
        rule = Authorization(
            "AuthorizationPolicy shop/near",
            networks=(NetworkMatch(cidr=_network("10.0.0.0/30")),),
        )
        near = InboundPolicy(
            "shop/api",
            DefaultPolicy.DENY,
            ports={PORT: PortPolicy("Server shop/api", authorizations=(rule,))},
        )
        api = replace(API, policy=near)
        assert Residents.of([WEB, api]).judge(TO_API).rule == rule.name
        far = replace(WEB, addresses=(parse_ip("10.9.0.1"),))
        with pytest.raises(Denied):
            Residents.of([far, api]).judge(TO_API)

    @pytest.mark.parametrize(
        ("pair", "missing"),
        [
            (Pair(9, TO_API.destination), "the client"),
            (Pair(1, SocketAddress.parse("10.0.0.9:80")), "10.0.0.9"),
        ],
    )
    def test_who_is_not_captured_here(self, pair: Pair, missing: str) -> None:
        """Both ends must be pods of this node."""
        with pytest.raises(NotDirect, match=missing):
            HERE.judge(pair)

    def test_itself(self) -> None:
        """A pod that calls its own address does not leave its loopback."""
        with pytest.raises(NotDirect):
            HERE.judge(Pair(2, TO_API.destination))

    def test_without_an_address_of_the_family(self) -> None:
        """There would be no source that is its own."""
        web = replace(WEB, addresses=(parse_ip("fd00::1"),))
        with pytest.raises(NotDirect, match="no address"):
            Residents.of([web, API]).judge(TO_API)


def _network(text: str) -> Any:
    import ipaddress

    return ipaddress.ip_network(text)


class TestReview:
    def test_nothing_changed(self) -> None:
        """What rests on the same grounds is kept."""
        held = {TO_API: HERE.judge(TO_API)}
        assert HERE.review(held) == (held, [])

    def test_another_rule_permits_it_now(self) -> None:
        """It goes on, and its record tells the new rule."""
        held = {TO_API: HERE.judge(TO_API)}
        open_ = InboundPolicy("shop/api", DefaultPolicy.ALL_AUTHENTICATED)
        kept, revoked = Residents.of([WEB, replace(API, policy=open_)]).review(held)
        assert not revoked
        assert kept[TO_API].rule.endswith("all-authenticated")

    def test_policy_refuses_it_now(self) -> None:
        """With the object that decided."""
        held = {TO_API: HERE.judge(TO_API)}
        _, (gone,) = Residents.of([WEB, replace(API, policy=policy())]).review(held)
        assert (gone.pair, gone.rule) == (TO_API, "Server shop/api")
        assert "no authorization" in gone.reason

    @pytest.mark.parametrize(
        ("residents", "reason"),
        [
            ([WEB], "10.0.0.2 is no captured pod"),
            ([API], "the client is no captured pod"),
            ([WEB, replace(API, uid="u-2", name="shop/two")], "replaced by shop/two"),
            ([WEB, replace(API, identity=identity("other"))], "sa/other now"),
            ([WEB, replace(API, netns=7)], "another network namespace"),
            (
                [replace(WEB, addresses=(parse_ip("10.0.0.7"),)), API],
                "another address",
            ),
        ],
        ids=["destination", "client", "reuse", "identity", "namespace", "address"],
    )
    def test_one_end_is_not_who_it_was(
        self, residents: list[Resident], reason: str
    ) -> None:
        """Also where policy would permit the new one: it is another pair."""
        held = {TO_API: HERE.judge(TO_API)}
        kept, (gone,) = Residents.of(residents).review(held)
        assert not kept
        assert reason in gone.reason

    def test_a_client_with_another_identity(self) -> None:
        """What it was permitted as, it is no more."""
        open_ = replace(API, policy=InboundPolicy("a", DefaultPolicy.ALL_AUTHENTICATED))
        held = {TO_API: Residents.of([WEB, open_]).judge(TO_API)}
        other = replace(WEB, identity=identity("other"))
        _, (gone,) = Residents.of([other, open_]).review(held)
        assert "shop/web is spiffe://cluster.local/ns/shop/sa/other now" in gone.reason


class TestPairOf:
    def test_a_tunnel_into_a_pod(self) -> None:
        """The client's namespace and what it asked for."""
        assert HERE.pair_of(opened()) == TO_API

    @pytest.mark.parametrize(
        "other",
        [
            {"direction": "outbound"},
            {"path": "plaintext"},
            {"path": "direct"},
            {"source": Endpoint("10.1.0.1:40000")},
            {"source": Endpoint("web")},
            {"destination": Endpoint("10.1.0.2:80")},
            {"destination": Endpoint("api.shop:80")},
        ],
    )
    def test_anything_else(self, other: dict[str, Any]) -> None:
        """Other paths, other nodes, and words that a worker might make up."""
        assert HERE.pair_of(opened(**other)) is None


def test_services_with_a_direct_endpoint() -> None:
    """All of their endpoints, and none of the other services."""
    near, far = (SocketAddress.parse(t) for t in ("10.0.0.2:80", "10.1.0.2:80"))

    def service(*endpoints: SocketAddress) -> VirtualService:
        backends = tuple(Backend(DeliveryAddress(at), None) for at in endpoints)
        return VirtualService("shop/api", 80, backends)

    one, two, three = (SocketAddress.parse(f"10.96.0.{n}:80") for n in (1, 2, 3))
    services = {one: service(near, far), two: service(far), three: service()}
    assert services_about(services, {near}) == {one: (near, far)}
