"""What holds for any policies: of the two families, and of the index under them."""

from __future__ import annotations

import ipaddress
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.identity.spiffe import SpiffeId
from agent.policy.index import RuleSet
from agent.policy.match import (
    Attribute,
    Constraint,
    Facts,
    Pattern,
    Rule,
    Term,
    TextForm,
    ip_value,
)
from tests.unit.policy.tables.block import CLIENTS, TARGETS, Compiled, compile_all

PORTS = ("80", "81", "8080")
TEXTS = {
    "principals": ["*", "cluster.local/ns/shop/*", "*/sa/web", "cluster.local/vm/db"],
    "namespaces": ["shop", "jobs", "*", "sh*"],
    "serviceAccounts": ["web", "jobs/batch", "jobs/web.shop"],
    "ipBlocks": ["10.0.0.0/8", "10.2.0.0/16", "192.0.2.9", "::/0", "fd00::/8"],
}


def _some(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


def _not(name: str) -> str:
    return f"not{name[0].upper()}{name[1:]}"


@st.composite
def sources(draw: st.DrawFn) -> dict[str, Any]:
    """A `source` of one to three fields."""
    names = draw(_some(list(TEXTS)))
    return {
        _not(name) if draw(st.booleans()) else name: draw(_some(TEXTS[name]))
        for name in names
    }


OPERATIONS = st.fixed_dictionaries({"ports": _some(list(PORTS))}) | (
    st.fixed_dictionaries({"notPorts": _some(list(PORTS))})
)
CONDITIONS = st.one_of(
    st.fixed_dictionaries(
        {"key": st.just("source.ip"), "values": _some(TEXTS["ipBlocks"])}
    ),
    st.fixed_dictionaries(
        {"key": st.just("source.namespace"), "notValues": _some(TEXTS["namespaces"])}
    ),
    st.fixed_dictionaries(
        {"key": st.just("destination.ip"), "values": _some(["10.1.0.20", "::/0"])}
    ),
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "from": st.lists(
            sources().map(lambda source: {"source": source}), min_size=1, max_size=2
        ),
        "to": st.lists(
            OPERATIONS.map(lambda asked: {"operation": asked}), min_size=1, max_size=2
        ),
        "when": st.lists(CONDITIONS, max_size=2),
    },
)
SPECS = st.fixed_dictionaries(
    {"rules": st.lists(RULES, max_size=3), "action": st.sampled_from(["ALLOW", "DENY"])}
) | st.fixed_dictionaries(
    {
        "rules": st.lists(RULES, max_size=2),
        "selector": st.just({"matchLabels": {"app": "api"}}),
    }
)


def document(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An Istio AuthorizationPolicy; `name` is `namespace/name`."""
    namespace, _, short = name.partition("/")
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": namespace, "name": short},
        "spec": spec,
    }


@st.composite
def policies(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Some policies of some scopes, each with a name of its own."""
    specs = draw(st.lists(SPECS, max_size=4))
    scopes = [draw(st.sampled_from(["shop", "istio-system"])) for _ in specs]
    return [
        document(f"{scope}/p{number}", spec)
        for number, (scope, spec) in enumerate(zip(scopes, specs, strict=True))
    ]


def verdicts(compiled: Compiled, *, with_objects: bool = True) -> dict[str, str]:
    """What becomes of every client at every target and port."""
    found = {}
    for client in CLIENTS:
        for target in TARGETS:
            for port in (80, 81):
                row = compiled.judge(client, target, port)
                decided = row.decided if with_objects else ""
                found[f"{client} {target} {port}"] = f"{row.verdict} {decided}"
    return found


def allowed(compiled: Compiled) -> set[str]:
    """The connections that are let in."""
    told = verdicts(compiled, with_objects=False)
    return {asked for asked, verdict in told.items() if verdict.startswith("allow")}


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(policies(), SPECS)
def test_a_deny_more_never_allows_more(
    some: list[dict[str, Any]], spec: dict[str, Any]
) -> None:
    """Whatever it says, and whatever there is besides."""
    deny = document("shop/zz", {**spec, "action": "DENY"})

    assert allowed(compile_all(*some, deny)) <= allowed(compile_all(*some))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(policies(), st.randoms(use_true_random=False))
def test_order_of_objects_never_matters(
    some: list[dict[str, Any]], chance: Any
) -> None:
    """Neither for the verdict nor for the object that is named."""
    shuffled = list(some)
    chance.shuffle(shuffled)

    assert verdicts(compile_all(*shuffled)) == verdicts(compile_all(*some))


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(policies(), st.permutations(range(4)))
def test_renaming_never_matters(some: list[dict[str, Any]], names: list[int]) -> None:
    """Names order what is told, not what is decided."""
    renamed = []
    for item, number in zip(some, names, strict=False):
        metadata = {**item["metadata"], "name": f"p{number}"}
        renamed.append({**item, "metadata": metadata})

    assert allowed(compile_all(*renamed)) == allowed(compile_all(*some))


IDENTITY = "serviceaccount.identity.linkerd.cluster.local"


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from([("shop", "web"), ("jobs", "batch"), ("shop", "edge")]),
        min_size=1,
        unique=True,
    ),
    st.sampled_from(["10.0.0.0/8", "192.0.2.0/24"]),
    st.sampled_from([[], ["10.2.0.0/16"], ["10.1.0.9/32", "10.3.0.0/16"]]),
)
def test_both_families_agree(
    accounts: list[tuple[str, str]], cidr: str, excluded: list[str]
) -> None:
    """A Server with identities and networks says what an ALLOW for its port says."""
    inside = [one for one in excluded if cidr.startswith("10")]
    group = {"group": "policy.linkerd.io"}
    of_linkerd = [
        _linkerd("Server", {"podSelector": {}, "port": 80}),
        _linkerd(
            "MeshTLSAuthentication",
            {"identities": [f"{name}.{space}.{IDENTITY}" for space, name in accounts]},
        ),
        _linkerd(
            "NetworkAuthentication", {"networks": [{"cidr": cidr, "except": inside}]}
        ),
        _linkerd(
            "AuthorizationPolicy",
            {
                "targetRef": {**group, "kind": "Server", "name": "a"},
                "requiredAuthenticationRefs": [
                    {**group, "kind": "MeshTLSAuthentication", "name": "a"},
                    {**group, "kind": "NetworkAuthentication", "name": "a"},
                ],
            },
        ),
    ]
    source: dict[str, Any] = {
        "principals": [
            f"cluster.local/ns/{space}/sa/{name}" for space, name in accounts
        ],
        "ipBlocks": [cidr],
        **({"notIpBlocks": inside} if inside else {}),
    }
    of_istio = document(
        "shop/a",
        {
            "rules": [
                {
                    "from": [{"source": source}],
                    "to": [{"operation": {"ports": ["80"]}}],
                },
                {"to": [{"operation": {"notPorts": ["80"]}}]},
            ]
        },
    )

    assert allowed(compile_all(*of_linkerd)) == allowed(compile_all(of_istio))


def test_both_families_agree_about_mutual_tls() -> None:
    """STRICT of the mesh is the default all-authenticated of the cluster."""
    strict = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"namespace": "istio-system", "name": "default"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }

    of_linkerd = compile_all(default="all-authenticated")
    assert allowed(compile_all(strict)) == allowed(of_linkerd)


def _linkerd(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    version = "v1beta3" if kind == "Server" else "v1alpha1"
    return {
        "apiVersion": f"policy.linkerd.io/{version}",
        "kind": kind,
        "metadata": {"namespace": "shop", "name": "a"},
        "spec": spec,
    }


# The index against the definition: a scan of all rules in order.

NAMES = ["a", "ab", "abc", "b", ""]
NETWORKS = [
    ipaddress.ip_network(text)
    for text in ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0")
]
VALUES: dict[Attribute, st.SearchStrategy[Any]] = {
    Attribute.PORT: st.integers(1, 4),
    Attribute.SOURCE: st.sampled_from(NETWORKS),
    Attribute.DESTINATION: st.sampled_from(NETWORKS),
    Attribute.PRINCIPAL: st.builds(
        Pattern, st.sampled_from(list(TextForm)), st.sampled_from(NAMES)
    ).map(lambda it: Pattern(it.form) if it.form is TextForm.ANY else it),
}


@st.composite
def constraints(draw: st.DrawFn) -> Constraint:
    """A constraint of some attribute, also one without values."""
    attribute = draw(st.sampled_from(list(VALUES)))
    values = draw(st.lists(VALUES[attribute], max_size=3))
    return Constraint(attribute, tuple(values), str(attribute), draw(st.booleans()))


TERMS = st.lists(constraints(), max_size=4).map(lambda some: Term(tuple(some)))
RULE_LISTS = st.lists(st.lists(TERMS, max_size=3), max_size=12).map(
    lambda lists: tuple(
        Rule(f"object {number}", "spec", tuple(terms))
        for number, terms in enumerate(lists)
    )
)
ADDRESSES = st.sampled_from(["10.1.2.3", "10.1.9.9", "11.0.0.1", "::1"]).map(
    lambda text: ip_value(ipaddress.ip_address(text))
)
FACTS = st.builds(
    Facts,
    port=st.integers(1, 5),
    source=ADDRESSES,
    destination=ADDRESSES | st.none(),
    principal=st.sampled_from([*NAMES[:4], None]),
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(RULE_LISTS, st.lists(FACTS, max_size=6))
def test_the_index_finds_the_first_rule_that_matches(
    rules: tuple[Rule, ...], asked: list[Facts]
) -> None:
    """As a scan does, also a second time, and in another process."""
    index = RuleSet(("all",), rules)
    other: RuleSet = pickle.loads(pickle.dumps(index))  # noqa: S301 - our own bytes

    for facts in (*asked, *asked):
        scanned = next(
            (
                rule.object
                for rule in rules
                if any(term.matches(facts) for term in rule.terms)
            ),
            None,
        )
        for copy in (index, other):
            found = copy.first(facts)
            assert (found.object if found else None) == scanned


@given(st.sampled_from(list(CLIENTS)))
def test_facts_of_an_identity(client: str) -> None:
    """Who has no identity has no name of any kind; a mapped source is IPv4."""
    identity, source = CLIENTS[client]
    known = SpiffeId.parse(identity) if identity else None
    facts = Facts.of(known, ipaddress.ip_address(source), 80, None)

    assert (facts.principal is None) == (identity is None)
    assert facts.source[0] == (6 if source.startswith(("fd00", "2001")) else 4)
    assert f"spiffe://{facts.principal}" == identity or identity is None
