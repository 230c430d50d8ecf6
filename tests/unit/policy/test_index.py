"""Many rules asked at once; test_properties compares it with a scan."""

from __future__ import annotations

import pickle

from agent.policy import index
from agent.policy.index import RuleIndex, RuleSet
from agent.policy.match import (
    Attribute,
    Constraint,
    Facts,
    Pattern,
    Rule,
    Term,
    TextForm,
)


def rule(number: int, *constraints: Constraint) -> Rule:
    return Rule(f"object {number}", f"spec.rules[{number}]", (Term(constraints),))


def port(*ports: int, negative: bool = False) -> Constraint:
    return Constraint(Attribute.PORT, ports, "ports", negative)


def principal(text: str) -> Constraint:
    exact = Pattern(TextForm.EXACT, text)
    return Constraint(Attribute.PRINCIPAL, (exact,), "principals")


def ask(number: int, who: str | None = None) -> Facts:
    return Facts(number, (4, 1), principal=who)


def test_no_rules_match_nothing() -> None:
    """And neither does a rule without terms."""
    assert RuleIndex(()).first(ask(80)) is None
    assert RuleIndex((Rule("a", "spec", ()),)).first(ask(80)) is None


def test_the_first_of_those_that_match() -> None:
    """With its object, its path, and the field that says most."""
    rules = RuleIndex((rule(0, port(81)), rule(1, port(80)), rule(2)))
    found = rules.first(ask(80))

    assert found is not None
    assert (found.object, found.rule, found.field) == (
        "object 1",
        "spec.rules[1]",
        "ports",
    )
    assert found.title == "object 1 spec.rules[1]"
    anything = rules.first(ask(82))
    assert anything is not None
    assert anything.field == "spec.rules[2]"


def test_ten_thousand_rules() -> None:
    """Values that few have, and one that all have; each rule is found."""
    rules = RuleIndex(
        tuple(
            rule(number, principal(f"p{number}"), port(80, number))
            for number in range(10_000)
        )
    )

    for number in (0, 1, 4_999, 9_999):
        found = rules.first(ask(80, f"p{number}"))
        assert found is not None
        assert found.object == f"object {number}"
        assert rules.first(ask(number + 20_000, f"p{number}")) is None
    assert rules.first(ask(80, "p10000")) is None
    assert rules.first(ask(80)) is None


def test_more_values_than_are_remembered() -> None:
    """What was asked is forgotten, and worked out again."""
    rules = RuleIndex(tuple(rule(number, port(number)) for number in range(50)))
    for number in range(index.MAX_REMEMBERED + 10):
        assert (rules.first(ask(number)) is not None) is (number < 50)
    assert rules.first(ask(3)) is not None


def test_several_exclusions_are_one_longer_exclusion() -> None:
    """A term may exclude by two fields of one attribute."""
    rules = RuleIndex((rule(0, port(80, negative=True), port(81, negative=True)),))

    assert rules.first(ask(82)) is not None
    assert rules.first(ask(80)) is None
    assert rules.first(ask(81)) is None


def test_two_demands_of_one_attribute_must_both_hold() -> None:
    """A value of each list."""
    rules = RuleIndex((rule(0, port(80, 81), port(81, 82)),))

    assert rules.first(ask(81)) is not None
    assert rules.first(ask(80)) is None
    assert rules.first(ask(82)) is None


def test_an_exclusion_between_two_demands() -> None:
    """Both must hold all the same."""
    exclusion = port(90, negative=True)
    rules = RuleIndex((rule(0, port(80, 81, 90), exclusion, port(81, 82, 90)),))

    assert rules.first(ask(81)) is not None
    assert rules.first(ask(80)) is None
    assert rules.first(ask(82)) is None
    assert rules.first(ask(90)) is None


def test_little_travels_to_another_process() -> None:
    """The index and a few rules for hints; the verdicts are the same."""
    whole = RuleSet(("a",), tuple(rule(number, port(number)) for number in range(2000)))
    data = pickle.dumps(whole)
    copy: RuleSet = pickle.loads(data)  # noqa: S301 - our own bytes

    assert len(data) < 100 * 2000
    assert len(copy.rules) < 10
    assert copy.objects == whole.objects
    assert copy.first(ask(1999)) == whole.first(ask(1999))
    assert copy.first(ask(2000)) is None
