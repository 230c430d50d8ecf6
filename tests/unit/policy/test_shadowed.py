"""A rule is called superfluous only if others match all that it matches."""

from __future__ import annotations

import ipaddress
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.spiffe import SpiffeId
from agent.policy.match import (
    Attribute,
    Constraint,
    Facts,
    Pattern,
    Rule,
    Term,
    TextForm,
)
from agent.policy.shadowed import Covers

IDENTITIES = [
    None,
    *(SpiffeId.parse(f"spiffe://cluster.local/ns/{n}/sa/a") for n in ("x", "y")),
]
PORTS = (80, 81)
SOURCE = ipaddress.ip_address("10.0.0.1")
PATTERNS = (
    Pattern(TextForm.EXACT, "x"),
    Pattern(TextForm.EXACT, "y"),
    Pattern(TextForm.ANY),
)


def asks(attribute: Attribute, *values: int | Pattern, negative: bool = False) -> Term:
    return Term((Constraint(attribute, values, "f", negative),))


CONSTRAINT = st.one_of(
    st.builds(
        lambda values, negative: Constraint(
            Attribute.NAMESPACE, tuple(values), "f", negative
        ),
        st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2),
        st.booleans(),
    ),
    st.builds(
        lambda values, negative: Constraint(
            Attribute.PORT, tuple(values), "f", negative
        ),
        st.lists(st.sampled_from(PORTS), min_size=1, max_size=2),
        st.booleans(),
    ),
)
TERM = st.builds(Term, st.lists(CONSTRAINT, max_size=3).map(tuple))
RULE = st.lists(TERM, min_size=1, max_size=2).map(tuple)


def everything() -> list[Facts]:
    return [
        Facts.of(identity, SOURCE, port, None)
        for identity, port in product(IDENTITIES, (*PORTS, 82))
    ]


def matches(rules: list[Rule], facts: Facts) -> bool:
    return any(term.matches(facts) for rule in rules for term in rule.terms)


@given(st.lists(RULE, max_size=4))
def test_without_superfluous_rules_nothing_changes(
    all_terms: list[tuple[Term, ...]],
) -> None:
    """All of them together can be left out."""
    rules = [Rule(f"R{i}", "f", terms) for i, terms in enumerate(all_terms)]
    covers = Covers.of(rules)
    kept = [rule for rule in rules if covers.covering(rule, same=False) is None]
    for facts in everything():
        assert matches(kept, facts) == matches(rules, facts)


ANY_PORT = Term()
X, Y = PATTERNS[:2]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (asks(Attribute.PORT, 80), asks(Attribute.PORT, 80)),
        (asks(Attribute.NAMESPACE, X, Y), asks(Attribute.NAMESPACE, Y)),
        (ANY_PORT, asks(Attribute.NAMESPACE, Y, negative=True)),
        (asks(Attribute.NAMESPACE, PATTERNS[2]), asks(Attribute.NAMESPACE, Y)),
    ],
)
def test_found(first: Term, second: Term) -> None:
    """The same, one value of several, less, and any name."""
    rules = [Rule("first", "f", (first,)), Rule("second", "f", (second,))]
    covers = Covers.of(rules)
    assert covers.covering(rules[0], same=False) is None
    assert covers.covering(rules[1], same=False) is rules[0]


def test_by_two_together() -> None:
    """Each of its values by another rule."""
    one, two = (Rule(str(p), "f", (asks(Attribute.PORT, p),)) for p in PORTS)
    both = Rule("both", "f", (asks(Attribute.PORT, *PORTS),))
    assert Covers.of([one, two]).covering(both, same=True) is one
    assert Covers.of([one]).covering(both, same=True) is None
