"""Matches of identities and networks match what they say, and nothing near it."""

from __future__ import annotations

import ipaddress
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import parse_ip
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.names import dns_name
from agent.policy.rule import (
    Authorization,
    DefaultPolicy,
    IdentityMatch,
    InboundPolicy,
    InvalidIdentityMatch,
    NetworkMatch,
    PortPolicy,
)

SUFFIX = "serviceaccount.identity.linkerd.cluster.local"
WEB = SpiffeId.parse("spiffe://cluster.local/ns/shop/sa/web")

LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
IDENTITIES = st.builds(
    lambda namespace, account: SpiffeId.for_workload(
        TrustDomain("cluster.local"), namespace, account
    ),
    st.sampled_from(["shop", "workshop", "sh"]) | LABELS,
    st.sampled_from(["web", "a.web", "web.shop"]) | LABELS,
)


def dns_form(identity: SpiffeId) -> str:
    namespace, account = identity.namespace, identity.service_account
    assert namespace is not None
    assert account is not None
    return dns_name(namespace, account, str(identity.trust_domain))


def matches(pattern: str, identity: str) -> bool:
    return IdentityMatch.parse(pattern).matches(SpiffeId.parse(identity))


class TestIdentityMatchRefuses:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "**",
            "*web",
            "*.",
            "*.*",
            "web.*",
            ".web",
            "web.",
            "we..b",
            "Web.shop",
            "-web",
            "web-",
            "web_1",
            "web\n",
            "wéb",
            "spiffe://",
            "spiffe://cluster.local",
            "spiffe://cluster.local/ns/shop/*",
            "spiffe://cluster.local/ns/shop/sa/web/",
            "SPIFFE://cluster.local/ns/shop/sa/web",
        ],
    )
    def test_what_is_no_identity(self, text: str) -> None:
        """A pattern that Linkerd would not know is an error, not a match of nothing."""
        with pytest.raises(InvalidIdentityMatch):
            IdentityMatch.parse(text)

    @given(st.text())
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        """Nothing but InvalidIdentityMatch comes out."""
        try:
            assert IdentityMatch.parse(text).text == text
        except InvalidIdentityMatch:
            return


class TestIdentityMatch:
    @pytest.mark.parametrize(
        ("pattern", "identity", "matched"),
        [
            ("*", "spiffe://cluster.local/ns/shop/sa/web", True),
            ("*", "spiffe://cluster.local/vm/db", True),
            (str(WEB), str(WEB), True),
            (str(WEB), "spiffe://cluster.local/ns/shop/sa/web2", False),
            (str(WEB), "spiffe://cluster.local/ns/Shop/sa/web", False),
            (str(WEB), "spiffe://other/ns/shop/sa/web", False),
            ("spiffe://cluster.local/vm/db", "spiffe://cluster.local/vm/db", True),
            (f"web.shop.{SUFFIX}", str(WEB), True),
            (f"web.shop.{SUFFIX}", "spiffe://other/ns/shop/sa/web", False),
            (f"web.shop.{SUFFIX}", "spiffe://cluster.local/ns/shop/sa/api", False),
            (f"web.shop.{SUFFIX}", "spiffe://cluster.local/ns/web/sa/shop", False),
            ("web.shop.serviceaccount.identity.l5d.cluster.local", str(WEB), False),
            (f"*.shop.{SUFFIX}", str(WEB), True),
            (f"*.shop.{SUFFIX}", "spiffe://cluster.local/ns/workshop/sa/web", False),
            (f"*.shop.{SUFFIX}", "spiffe://cluster.local/ns/web/sa/shop", False),
            (f"*.shop.{SUFFIX}", "spiffe://other/ns/shop/sa/web", False),
            (f"*.shop.{SUFFIX}", "spiffe://cluster.local/vm/shop", False),
            (f"*.shop.{SUFFIX}", "spiffe://cluster.local/ns/x.shop/sa/web", False),
            (f"*.shop.{SUFFIX}", "spiffe://cluster.local/ns/shop/sa/a.b", True),
            (f"*.b.shop.{SUFFIX}", "spiffe://cluster.local/ns/shop/sa/a.b", True),
            (f"*.web.shop.{SUFFIX}", str(WEB), False),
            (f"*.{SUFFIX}", str(WEB), True),
            ("*.cluster.local", str(WEB), True),
            ("*.local", str(WEB), False),
            ("*.cluster.local", "spiffe://evil.cluster.local/ns/shop/sa/web", False),
            ("*.partner.example", "spiffe://partner.example/ns/shop/sa/web", True),
            (f"*.shop.{SUFFIX}", f"spiffe://shop.{SUFFIX}/ns/shop/sa/web", False),
            (f"*.{SUFFIX}", f"spiffe://shop.{SUFFIX}/ns/shop/sa/web", False),
            ("*.cluster.local", "spiffe://cluster.local/vm/db", False),
            ("*.shop", "spiffe://cluster.local/ns/a/sa/shop", False),
        ],
    )
    def test_table(self, pattern: str, identity: str, matched: bool) -> None:
        """Exact in either form; a suffix by whole labels of the DNS form only."""
        assert matches(pattern, identity) is matched

    @given(IDENTITIES, LABELS)
    def test_a_namespace_suffix_matches_that_namespace_only(
        self, identity: SpiffeId, namespace: str
    ) -> None:
        """The suffix rule never reaches into a namespace of another name."""
        pattern = IdentityMatch.parse(f"*.{namespace}.{SUFFIX}")

        assert pattern.matches(identity) is (identity.namespace == namespace)

    @given(IDENTITIES)
    def test_both_forms_are_one_identity(self, identity: SpiffeId) -> None:
        """An identity matches its own URI and its own DNS form."""
        dns = dns_form(identity)

        assert IdentityMatch.parse(str(identity)).matches(identity)
        assert IdentityMatch.parse(dns).matches(identity)

    @given(IDENTITIES, st.data())
    def test_covers_is_true_to_matches(
        self, identity: SpiffeId, data: st.DataObject
    ) -> None:
        """What covers a pattern matches everything that the pattern matches."""
        dns = dns_form(identity)
        forms = ["*", str(identity), dns, f"*.{dns.partition('.')[2]}", f"*.{SUFFIX}"]
        patterns = st.sampled_from([*forms, str(WEB), f"*.shop.{SUFFIX}"])
        outer = IdentityMatch.parse(data.draw(patterns))
        inner = IdentityMatch.parse(data.draw(patterns))

        if outer.covers(inner) and inner.matches(identity):
            assert outer.matches(identity)
        if outer.matches(identity) and inner.matches(identity):
            assert outer.covers(inner) or inner.covers(outer)


class TestNetworkMatch:
    @pytest.mark.parametrize(
        ("cidr", "excluded", "source", "matched"),
        [
            ("10.0.0.0/8", [], "10.1.2.3", True),
            ("10.0.0.0/8", [], "11.0.0.1", False),
            ("10.0.0.0/8", ["10.1.0.0/16"], "10.1.2.3", False),
            ("10.0.0.0/8", ["10.1.0.0/16"], "10.2.0.1", True),
            ("0.0.0.0/0", [], "::1", False),
            ("::/0", [], "10.0.0.1", False),
            ("2001:db8::/32", [], "2001:db8::1", True),
            ("10.0.0.9/32", [], "10.0.0.9", True),
            ("10.0.0.0/8", [], "::ffff:10.0.0.1", True),
        ],
    )
    def test_table(
        self, cidr: str, excluded: list[str], source: str, matched: bool
    ) -> None:
        """In the network, in none of the excepted ones, and of its family."""
        networks = tuple(ipaddress.ip_network(text) for text in excluded)
        match = NetworkMatch(ipaddress.ip_network(cidr), networks)

        assert match.matches(parse_ip(source)) is matched
        assert match.matches(ipaddress.ip_address(source)) is matched


class TestAuthorization:
    def test_an_empty_demand_is_met_by_nobody(self) -> None:
        """No identities means no demand; an empty tuple is a demand nobody meets."""
        assert Authorization("a", identities=None).admits_identity(None)
        assert not Authorization("a", identities=()).admits_identity(WEB)
        assert not Authorization("a", networks=()).admits_source(parse_ip("10.0.0.1"))


class TestInboundPolicy:
    def test_travels_to_a_worker(self) -> None:
        """A policy is the same after pickling."""
        who = (IdentityMatch.parse("*"),)
        port = PortPolicy("Server shop/api", authorizations=(Authorization("a", who),))
        policy = InboundPolicy("shop/api", DefaultPolicy.DENY, ports={80: port})

        assert pickle.loads(pickle.dumps(policy)) == policy  # noqa: S301 - our own
