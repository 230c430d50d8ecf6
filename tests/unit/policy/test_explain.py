"""The hint in a refusal: which field of which rule nearly let it in."""

from __future__ import annotations

from agent.policy.explain import HINTS, nearest, what_matched
from agent.policy.match import Attribute, Constraint, Facts, Rule, Term

FACTS = Facts(80, (4, 1))


def port(*ports: int, field: str = "ports", negative: bool = False) -> Constraint:
    return Constraint(Attribute.PORT, ports, field, negative)


def rule(name: str, *constraints: Constraint) -> Rule:
    return Rule(name, "spec", (Term(constraints),))


def test_one_field_away_before_two() -> None:
    """Of two rules that failed, the one that lacked less."""
    far = rule("far", port(1, field="a"), port(2, field="b"))
    near = rule("near", port(80), port(81, field="c"))

    found = nearest((far, near), FACTS)

    assert found is not None
    assert (found[0].object, found[1].field) == ("near", "c")


def test_the_first_where_none_is_near() -> None:
    """And nothing where there is no rule."""
    far = rule("far", port(1, field="a"), port(2, field="b"))

    found = nearest((far,), FACTS)
    assert found is not None
    assert found[1].field == "a"
    assert nearest((), FACTS) is None


def test_looks_at_few_rules_and_at_no_long_list() -> None:
    """Who is refused does not decide how long it takes."""
    others = tuple(rule(f"r{number}", port(1), port(2)) for number in range(HINTS))
    late = rule("late", port(81))
    long = rule("long", port(*range(1000, 2000)))

    found = nearest((*others, late), FACTS)
    assert found is not None
    assert found[0].object == "r0"
    assert nearest((long,), FACTS) is None


def test_what_a_term_asks_for_says_more_than_what_it_excludes() -> None:
    """Then the exclusion, then the rule itself."""
    exclusion = port(81, field="not", negative=True)

    both = rule("a", exclusion, port(80))
    assert what_matched(both, both.terms[0]) == "ports"
    one = rule("a", exclusion)
    assert what_matched(one, one.terms[0]) == "not"
    none = rule("a")
    assert what_matched(none, none.terms[0]) == "spec"
