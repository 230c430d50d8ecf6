"""What cannot be enforced, or is probably not meant, is said."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.istio import AuthorizationPolicy, IstioPolicies
from agent.policy.istio_remarks import Domains
from agent.policy.istio_rules import TranslatedPolicy, translate
from agent.policy.istio_scope import IstioResolver
from agent.policy.match import Facts
from agent.policy.problem import Problem


def problems(spec: Any) -> tuple[Problem, ...]:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "a"},
        "spec": spec,
    }
    policy = msgspec.convert(document, AuthorizationPolicy)
    return translate(policy, Domains(TrustDomain("cluster.local"))).problems


def rule(**parts: Any) -> dict[str, Any]:
    return {
        name: [
            {"source": one} if name == "from" else {"operation": one} for one in some
        ]
        if name != "when"
        else some
        for name, some in parts.items()
    }


@pytest.mark.parametrize(
    ("action", "effect"), [("ALLOW", "lets nobody in"), ("DENY", "refuses nothing")]
)
def test_http_fields_are_reported_with_what_becomes_of_the_rule(
    action: str, effect: str
) -> None:
    """Each by its path, in one sentence a rule."""
    asked = rule(
        **{
            "from": [{"namespaces": ["a"]}, {"requestPrincipals": ["*"]}],
            "to": [{"ports": ["80"], "paths": ["/"], "hosts": ["a"]}],
            "when": [{"key": "request.headers[x]", "values": ["y"]}],
        }
    )
    (problem, *rest) = problems({"action": action, "rules": [{}, asked]})

    assert problem.object == "Istio AuthorizationPolicy shop/a"
    assert problem.field == "spec.rules[1]"
    for field in (
        "from[1].source.requestPrincipals",
        "to[0].operation.hosts",
        "to[0].operation.paths",
        "when[0] request.headers[x]",
    ):
        assert field in problem.message
    assert effect in problem.message
    assert not rest


def test_a_deny_without_anything_left_is_said_to_refuse_nothing() -> None:
    """Whoever wrote it believes in it."""
    told = problems({"action": "DENY", "rules": [rule(to=[{"methods": ["GET"]}])]})

    assert len(told) == 1
    assert "refuses nothing" in told[-1].message
    assert "refuses more" not in told[-1].message


@pytest.mark.parametrize("action", ["AUDIT", "CUSTOM"])
def test_other_actions_are_reported(action: str) -> None:
    """They have no effect."""
    more = {"provider": {"name": "x"}} if action == "CUSTOM" else {}
    (problem,) = problems({"action": action, "rules": [{}], **more})

    assert problem.field == "spec.action"
    assert f"{action} is not enforceable" in problem.message


@pytest.mark.parametrize(
    ("source", "warned"),
    [
        ({"notPrincipals": ["cluster.local/ns/a/sa/a"]}, True),
        ({"notNamespaces": ["a"]}, True),
        ({"notServiceAccounts": ["a"], "ipBlocks": ["10.0.0.0/8"]}, True),
        ({"notPrincipals": ["cluster.local/ns/a/sa/a"], "principals": ["*"]}, False),
        ({"ipBlocks": ["10.0.0.0/8"]}, False),
        ({"namespaces": ["a"]}, False),
    ],
)
def test_an_allow_by_exclusion_alone_lets_plaintext_in(
    source: dict[str, Any], warned: bool
) -> None:
    """As Istio does, and said; a DENY by exclusion is how plaintext is refused."""
    rules = [rule(**{"from": [source]})]

    told = problems({"rules": rules})
    assert [problem.field for problem in told] == ["spec.rules[0].from"] * warned
    assert all('principals: ["*"]' in problem.message for problem in told)
    assert problems({"action": "DENY", "rules": rules}) == ()


def test_host_bits_are_remarked_upon() -> None:
    """With the network that holds; a single address has none."""
    told = problems(
        {
            "rules": [
                rule(
                    **{
                        "from": [{"ipBlocks": ["10.0.0.1/8", "10.0.0.1"]}],
                        "when": [{"key": "destination.ip", "values": ["fd00::1/64"]}],
                    }
                )
            ]
        }
    )

    assert [problem.message for problem in told] == [
        "10.0.0.1/8 has host bits; 10.0.0.0/8 holds",
        "fd00::1/64 has host bits; fd00::/64 holds",
    ]


def test_cluster_local_is_the_meshs_own_trust_domain() -> None:
    """As Istio reads it; else a DENY of it would match nobody under another name."""
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "a"},
        "spec": {
            "action": "DENY",
            "rules": [
                rule(**{"from": [{"principals": ["cluster.local/ns/foo/sa/client"]}]}),
                rule(**{"from": [{"principals": ["cluster.local/ns/foo/*"]}]}),
                rule(**{"from": [{"trustDomains": ["cluster.local"]}]}),
                rule(
                    when=[
                        {
                            "key": "source.principal",
                            "values": ["cluster.local/ns/foo/sa/client"],
                        }
                    ]
                ),
            ],
        },
    }
    policy = msgspec.convert(document, AuthorizationPolicy)
    client = SpiffeId.parse("spiffe://corp.example/ns/foo/sa/client")
    facts = Facts.of(client, ip_address("10.0.0.1"), 80, None)

    made = translate(policy, Domains(TrustDomain("corp.example")))

    assert made.problems == ()
    assert [any(term.matches(facts) for term in each.terms) for each in made.rules] == [
        True
    ] * 4


@pytest.mark.parametrize(
    "source",
    [
        {"principals": ["spiffe://cluster.local/ns/shop/sa/web"]},
        {"principals": ["spiffe://cluster.local/*"]},
        {"notPrincipals": ["spiffe://*"]},
        {"principals": ["web"]},
        {"principals": ["Cluster.Local/ns/shop/sa/web"]},
        {"namespaces": ["Shop"]},
        {"namespaces": ["shop.web"]},
        {"notNamespaces": ["shop/web"]},
        {"namespaces": ["Shop*"]},
    ],
)
def test_a_name_that_nobody_can_have_is_refused(source: Any) -> None:
    """A DENY of it would match nothing, and be open without a message."""
    with pytest.raises(msgspec.ValidationError):
        problems({"action": "DENY", "rules": [rule(**{"from": [source]})]})


OWN, PARTNER = TrustDomain("corp.example"), TrustDomain("partner.example")


def translated(action: str, domains: Domains, **source: list[str]) -> TranslatedPolicy:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "a"},
        "spec": {"action": action, "rules": [rule(**{"from": [source]})]},
    }
    return translate(msgspec.convert(document, AuthorizationPolicy), domains)


class TestNoIdentity:
    """A principal that no client can have, and what becomes of the policy."""

    @pytest.mark.parametrize("text", ["corp.example/web", "cluster.local/foo/web"])
    @pytest.mark.parametrize(
        ("action", "field", "refused"),
        [
            ("DENY", "principals", True),
            ("DENY", "notPrincipals", False),
            ("ALLOW", "principals", False),
            ("ALLOW", "notPrincipals", True),
        ],
    )
    def test_ours(self, text: str, action: str, field: str, refused: bool) -> None:
        """Where it would keep nobody out the policy is refused; else a warning."""
        made = translated(action, Domains(OWN), **{field: [text]})
        assert made.refused is refused
        told = [each.message for each in made.problems if text in each.message]
        assert len(told) == 1
        assert "matches no pod" in told[0]
        assert ("namespace is closed" in told[0]) is refused

    def test_of_a_spiffe_agent(self) -> None:
        """Which may issue such identities: read as Istio reads it."""
        made = translated(
            "DENY", Domains(OWN, only_pods=False), principals=["corp.example/vm/1"]
        )
        assert not made.refused
        machine = SpiffeId.parse("spiffe://corp.example/vm/1")
        facts = Facts.of(machine, ip_address("10.0.0.1"), 80, None)
        assert made.rules[0].terms[0].matches(facts)

    @pytest.mark.parametrize(
        "text",
        [
            "corp.example/namespace/shop/*",
            "cluster.local/shop*",
            "corp.example/ns/shop/web*",
            "corp.example/ns//sa/*",
            "corp.example/ns/shop/sa/web/*",
        ],
    )
    def test_beginnings_of_ours(self, text: str) -> None:
        """A DENY of one that no pod has is refused as a whole name is."""
        made = translated("DENY", Domains(OWN), principals=[text])
        assert made.refused
        assert not translated("ALLOW", Domains(OWN), principals=[text]).refused

    def test_every_pattern_of_a_pod(self) -> None:
        """Cut before or after any letter of its identity."""
        whole = "corp.example/ns/shop/sa/web"
        for place in range(1, len(whole)):
            for text in (f"{whole[:place]}*", f"*{whole[place:]}"):
                made = translated("DENY", Domains(OWN), principals=[text])
                assert (made.problems, made.refused) == ((), False), text

    @pytest.mark.parametrize("text", ["*/serviceaccount/web", "*/sa/web/", "*/ns/web"])
    def test_ends(self, text: str) -> None:
        """No pod has them: a warning; a machine of a federated domain may."""
        made = translated("DENY", Domains(OWN), principals=[text])
        assert not made.refused
        assert len(made.problems) == 1
        federated = Domains(OWN, frozenset({PARTNER}))
        assert not translated("DENY", federated, principals=[text]).problems

    @pytest.mark.parametrize(
        "text",
        [
            *("*", "corp*", "corp.example/*", "corp.example/n*", "corp.example/ns/s*"),
            *(
                "corp.example/ns/shop/*",
                "corp.example/ns/shop/s*",
                "cluster.local/ns/*",
            ),
            *("corp.example/ns/shop/sa/w*", "*web", "*/web", "*a/web", "*/sa/web"),
            *("*op/sa/web", "*/shop/sa/web", "*ns/shop/sa/web", "*/ns/shop/sa/web"),
            "*example/ns/shop/sa/web",
        ],
    )
    def test_patterns_that_pods_have(self, text: str) -> None:
        """Cut anywhere."""
        made = translated("DENY", Domains(OWN), principals=[text])
        assert not made.problems
        assert not made.refused

    @pytest.mark.parametrize(
        "text", ["partner.example/vm/1", "partner.example/ns/a/sa/b"]
    )
    def test_of_another_domain(self, text: str) -> None:
        """Good where the domain is federated; else a warning."""
        assert not translated(
            "DENY", Domains(OWN, frozenset({PARTNER})), principals=[text]
        ).problems
        made = translated("DENY", Domains(OWN), principals=[text])
        assert not made.refused
        (told,) = made.problems
        assert "partner.example is no trust domain of this mesh" in told.message


def test_a_refused_policy_closes_its_namespace() -> None:
    """As one that cannot be read."""
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "a"},
        "spec": {
            "action": "DENY",
            "rules": [rule(**{"from": [{"principals": ["corp.example/web"]}]})],
        },
    }
    policy = msgspec.convert(document, AuthorizationPolicy)
    rules, _ = IstioResolver(OWN).resolve(IstioPolicies((policy,)))
    found, _ = rules.policy_for("shop", {})
    assert found is not None
    assert [each.rules for each in found.allows] == [()]
    assert rules.policy_for("other", {}) == (None, ())
