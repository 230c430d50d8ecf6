"""Who may open which port: Linkerd's rules as a table, and a reason for every no."""

from __future__ import annotations

import ipaddress
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import parse_ip
from agent.identity.spiffe import SpiffeId
from agent.policy.decision import Denied, Permit, Request, authorize
from agent.policy.rule import (
    DEFAULT_ANNOTATION,
    Authorization,
    DefaultPolicy,
    IdentityMatch,
    InboundPolicy,
    NetworkMatch,
    PortPolicy,
)

SUFFIX = "serviceaccount.identity.linkerd.cluster.local"
WEB = "spiffe://cluster.local/ns/shop/sa/web"
BATCH = "spiffe://cluster.local/ns/jobs/sa/batch"
VM = "spiffe://cluster.local/vm/db"
POD, OUTSIDE, POD6, OUTSIDE6 = "10.1.0.9", "192.0.2.9", "fd00::9", "2001:db8::9"
CLUSTER = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def who(*patterns: str) -> tuple[IdentityMatch, ...]:
    return tuple(IdentityMatch.parse(pattern) for pattern in patterns)


def net(cidr: str, *excluded: str) -> NetworkMatch:
    networks = tuple(ipaddress.ip_network(text) for text in excluded)
    return NetworkMatch(ipaddress.ip_network(cidr), networks)


def request(identity: str | None, source: str, port: int = 80) -> Request:
    known = SpiffeId.parse(identity) if identity else None
    return Request(known, parse_ip(source), port)


def with_default(value: str, default_from: str = "configuration") -> InboundPolicy:
    return InboundPolicy(
        "shop/api",
        DefaultPolicy(value),
        default_from=default_from,
        cluster_networks=CLUSTER,
    )


def with_server(*authorizations: Authorization, access: str = "deny") -> InboundPolicy:
    port = PortPolicy("Server shop/api-http", DefaultPolicy(access), authorizations)
    return InboundPolicy(
        "shop/api",
        DefaultPolicy.ALL_UNAUTHENTICATED,
        ports={80: port},
        cluster_networks=CLUSTER,
    )


def is_permitted(asked: Request, policy: InboundPolicy) -> bool:
    try:
        authorize(asked, policy)
    except Denied:
        return False
    return True


ANYONE = Authorization("AuthorizationPolicy shop/anyone")
AUTHENTICATED = Authorization("AuthorizationPolicy shop/mesh", who("*"))
WEB_ONLY = Authorization("AuthorizationPolicy shop/web", who(WEB))
WEB_DNS = Authorization("AuthorizationPolicy shop/dns", who(f"web.shop.{SUFFIX}"))
SHOP = Authorization("AuthorizationPolicy shop/ns", who(f"*.shop.{SUFFIX}"))
EITHER = Authorization("AuthorizationPolicy shop/two", who(WEB, BATCH))
NOBODY = Authorization("AuthorizationPolicy shop/missing", ())
NETWORK = Authorization(
    "AuthorizationPolicy shop/net", None, (net("10.0.0.0/8", "10.2.0.0/16"),)
)
BOTH = Authorization(
    "AuthorizationPolicy shop/both", who(WEB), (net("10.0.0.0/8"), net("fd00::/8"))
)
NOWHERE = Authorization("AuthorizationPolicy shop/nowhere", None, ())


class TestDefault:
    @pytest.mark.parametrize(
        ("default", "identity", "source", "permitted"),
        [
            ("all-unauthenticated", None, OUTSIDE, True),
            ("all-unauthenticated", None, OUTSIDE6, True),
            ("all-unauthenticated", WEB, POD, True),
            ("cluster-unauthenticated", None, POD, True),
            ("cluster-unauthenticated", None, POD6, True),
            ("cluster-unauthenticated", WEB, POD, True),
            ("cluster-unauthenticated", None, OUTSIDE, False),
            ("cluster-unauthenticated", None, OUTSIDE6, False),
            ("cluster-unauthenticated", WEB, OUTSIDE, False),
            ("all-authenticated", None, POD, False),
            ("all-authenticated", None, OUTSIDE, False),
            ("all-authenticated", WEB, POD, True),
            ("all-authenticated", WEB, OUTSIDE, True),
            ("all-authenticated", VM, OUTSIDE6, True),
            ("cluster-authenticated", None, POD, False),
            ("cluster-authenticated", None, OUTSIDE, False),
            ("cluster-authenticated", WEB, OUTSIDE, False),
            ("cluster-authenticated", WEB, OUTSIDE6, False),
            ("cluster-authenticated", WEB, POD, True),
            ("cluster-authenticated", VM, POD6, True),
            ("deny", None, POD, False),
            ("deny", WEB, POD, False),
            ("deny", VM, OUTSIDE, False),
            ("audit", None, OUTSIDE, True),
            ("audit", WEB, POD, True),
        ],
    )
    def test_a_port_without_a_server_takes_the_default(
        self, default: str, identity: str | None, source: str, permitted: bool
    ) -> None:
        """Each of Linkerd's six values does what its name says."""
        assert is_permitted(request(identity, source), with_default(default)) is (
            permitted
        )


class TestServer:
    @pytest.mark.parametrize(
        ("authorizations", "identity", "source", "permitted"),
        [
            ([], None, POD, False),
            ([], WEB, POD, False),
            ([ANYONE], None, OUTSIDE, True),
            ([ANYONE], WEB, POD, True),
            ([AUTHENTICATED], None, POD, False),
            ([AUTHENTICATED], WEB, OUTSIDE, True),
            ([AUTHENTICATED], VM, OUTSIDE6, True),
            ([WEB_ONLY], WEB, POD, True),
            ([WEB_ONLY], BATCH, POD, False),
            ([WEB_ONLY], VM, POD, False),
            ([WEB_ONLY], None, POD, False),
            ([WEB_DNS], WEB, POD, True),
            ([WEB_DNS], BATCH, POD, False),
            ([WEB_DNS], VM, POD, False),
            ([SHOP], WEB, POD, True),
            ([SHOP], BATCH, POD, False),
            ([SHOP], "spiffe://cluster.local/ns/workshop/sa/web", POD, False),
            ([SHOP], "spiffe://other/ns/shop/sa/web", POD, False),
            ([SHOP], VM, POD, False),
            ([EITHER], WEB, POD, True),
            ([EITHER], BATCH, POD, True),
            ([EITHER], VM, POD, False),
            ([NOBODY], WEB, POD, False),
            ([NOBODY], None, POD, False),
            ([NOBODY, WEB_ONLY], WEB, POD, True),
            ([NETWORK], None, POD, True),
            ([NETWORK], WEB, POD, True),
            ([NETWORK], None, "10.2.0.1", False),
            ([NETWORK], WEB, "10.2.0.1", False),
            ([NETWORK], None, OUTSIDE, False),
            ([NETWORK], None, POD6, False),
            ([BOTH], WEB, POD, True),
            ([BOTH], WEB, POD6, True),
            ([BOTH], WEB, OUTSIDE, False),
            ([BOTH], BATCH, POD, False),
            ([BOTH], None, POD, False),
            ([NOWHERE], WEB, POD, False),
            ([WEB_ONLY, NETWORK], BATCH, POD, True),
            ([WEB_ONLY, NETWORK], BATCH, OUTSIDE, False),
            ([WEB_ONLY, NETWORK], WEB, OUTSIDE, True),
            ([BOTH, SHOP], WEB, OUTSIDE, True),
        ],
    )
    def test_one_authorization_is_enough_and_none_is_not(
        self,
        authorizations: list[Authorization],
        identity: str | None,
        source: str,
        permitted: bool,
    ) -> None:
        """Authorizations are alternatives; what one demands must all be met."""
        policy = with_server(*authorizations)

        assert is_permitted(request(identity, source), policy) is permitted

    @pytest.mark.parametrize(
        ("access", "identity", "source", "permitted"),
        [
            ("deny", BATCH, POD, False),
            ("all-unauthenticated", None, OUTSIDE, True),
            ("cluster-unauthenticated", None, POD, True),
            ("cluster-unauthenticated", None, OUTSIDE, False),
            ("all-authenticated", None, POD, False),
            ("all-authenticated", BATCH, OUTSIDE, True),
            ("cluster-authenticated", BATCH, OUTSIDE, False),
            ("cluster-authenticated", BATCH, POD, True),
            ("cluster-authenticated", None, POD, False),
            ("audit", None, OUTSIDE, True),
            # What an authorization admits is not held against the access policy.
            ("deny", WEB, OUTSIDE, True),
            ("cluster-authenticated", WEB, OUTSIDE, True),
        ],
    )
    def test_the_access_policy_decides_where_no_authorization_does(
        self, access: str, identity: str | None, source: str, permitted: bool
    ) -> None:
        """`accessPolicy` replaces the Server's deny, for the rest of the clients."""
        policy = with_server(WEB_ONLY, access=access)

        assert is_permitted(request(identity, source), policy) is permitted

    def test_a_server_speaks_for_its_own_port_only(self) -> None:
        """The other ports of the pod keep the default."""
        policy = with_server()

        assert not is_permitted(request(WEB, POD, port=80), policy)
        assert is_permitted(request(WEB, POD, port=81), policy)


class TestPermit:
    def test_names_the_authorization(self) -> None:
        """The first that admits, by its object."""
        permit = authorize(request(WEB, POD), with_server(NOBODY, WEB_ONLY, SHOP))

        assert permit == Permit(WEB_ONLY.name, WEB_ONLY.name, "spec")

    def test_names_where_the_default_was_set(self) -> None:
        """A default has an object too."""
        policy = with_default("all-authenticated", "Namespace shop")

        assert authorize(request(WEB, POD), policy) == Permit(
            "Namespace shop default-inbound-policy all-authenticated",
            "Namespace shop",
            f"metadata.annotations[{DEFAULT_ANNOTATION}]",
        )

    def test_the_configuration_has_a_field_too(self) -> None:
        """Where nobody annotated anything, the setting is named."""
        permit = authorize(request(WEB, POD), with_default("all-authenticated"))

        assert (permit.object, permit.field) == (
            "configuration",
            "policy.default_inbound",
        )

    def test_audit_says_what_would_have_denied(self) -> None:
        """An audited connection is allowed, flagged, and names the rule."""
        by_default = authorize(request(None, POD), with_default("audit", "Pod shop/a"))
        by_server = authorize(request(None, POD), with_server(access="audit"))
        by_policy = authorize(request(WEB, POD), with_server(WEB_ONLY, access="audit"))

        assert by_default.rule == "Pod shop/a default-inbound-policy audit"
        assert [denial.object for denial in by_default.would_deny] == ["Pod shop/a"]
        assert by_server.rule == "Server shop/api-http accessPolicy audit"
        (denial,) = by_server.would_deny
        assert (denial.object, denial.field) == (
            "Server shop/api-http",
            "spec.accessPolicy",
        )
        assert "no authorization of Server shop/api-http" in denial.reason
        assert by_default.audit
        assert by_server.audit
        assert not by_policy.audit


class TestDenied:
    @pytest.mark.parametrize(
        ("policy", "identity", "source", "rule", "reason"),
        [
            (
                with_server(WEB_ONLY),
                BATCH,
                POD,
                "Server shop/api-http",
                f"no authorization of Server shop/api-http matches identity {BATCH}",
            ),
            (
                with_server(),
                None,
                POD,
                "Server shop/api-http",
                "no authorization of Server shop/api-http matches plaintext from "
                "10.1.0.9",
            ),
            (
                with_server(BOTH),
                WEB,
                OUTSIDE,
                "Server shop/api-http",
                f"no authorization of Server shop/api-http matches identity {WEB}; "
                "AuthorizationPolicy shop/both does not admit it from 192.0.2.9",
            ),
            (
                with_server(BOTH),
                None,
                POD,
                "Server shop/api-http",
                "no authorization of Server shop/api-http matches plaintext from "
                "10.1.0.9; AuthorizationPolicy shop/both admits 10.1.0.9 only with an "
                "identity",
            ),
            (
                with_server(access="all-authenticated"),
                None,
                POD,
                "Server shop/api-http",
                "no authorization of Server shop/api-http matches plaintext from "
                "10.1.0.9, and its accessPolicy all-authenticated refuses plaintext "
                "from 10.1.0.9",
            ),
            (
                with_default("all-authenticated", "Namespace shop"),
                None,
                POD,
                "Namespace shop default-inbound-policy all-authenticated",
                "Namespace shop: default all-authenticated refuses plaintext from "
                "10.1.0.9",
            ),
            (
                with_default("cluster-authenticated"),
                WEB,
                OUTSIDE,
                "configuration default-inbound-policy cluster-authenticated",
                "configuration: default cluster-authenticated refuses identity "
                f"{WEB}: 192.0.2.9 is outside the cluster networks",
            ),
            (
                with_default("deny", "Pod shop/api"),
                WEB,
                POD,
                "Pod shop/api default-inbound-policy deny",
                f"Pod shop/api: default deny refuses identity {WEB}",
            ),
        ],
    )
    def test_says_what_decided_and_what_failed(
        self,
        policy: InboundPolicy,
        identity: str | None,
        source: str,
        rule: str,
        reason: str,
    ) -> None:
        """A person can find the object and see what to change."""
        with pytest.raises(Denied) as caught:
            authorize(request(identity, source), policy)

        assert (caught.value.rule, caught.value.reason) == (rule, reason)
        assert str(caught.value) == reason

    def test_travels_to_another_process(self) -> None:
        """A refusal made in a worker keeps its rule and its sentence."""
        denied = pickle.loads(pickle.dumps(Denied("Server a/b", "why")))  # noqa: S301

        assert (denied.rule, str(denied)) == ("Server a/b", "why")


AUTHORIZATIONS = st.lists(
    st.sampled_from(
        [ANYONE, AUTHENTICATED, WEB_ONLY, SHOP, NOBODY, NETWORK, BOTH, NOWHERE]
    ),
    max_size=4,
)
REQUESTS = st.builds(
    request,
    st.sampled_from([None, WEB, BATCH, VM]),
    st.sampled_from([POD, OUTSIDE, POD6, OUTSIDE6, "10.2.0.1"]),
)
ACCESS = st.sampled_from([policy.value for policy in DefaultPolicy])


class TestProperties:
    @given(REQUESTS, AUTHORIZATIONS, ACCESS)
    def test_order_of_authorizations_never_matters(
        self, asked: Request, some: list[Authorization], access: str
    ) -> None:
        """They are alternatives: any order gives the same answer."""
        assert is_permitted(asked, with_server(*some, access=access)) is is_permitted(
            asked, with_server(*reversed(some), access=access)
        )

    @given(REQUESTS, AUTHORIZATIONS, AUTHORIZATIONS)
    def test_one_more_authorization_never_takes_away(
        self, asked: Request, some: list[Authorization], more: list[Authorization]
    ) -> None:
        """An authorization can only admit."""
        if is_permitted(asked, with_server(*some)):
            assert is_permitted(asked, with_server(*some, *more))
