"""
Which field decided: for the sentence that a person reads.

Bounded whatever the rules are: who is refused must not be able to make it slow.
"""

from __future__ import annotations

from typing import Final

from agent.policy.match import Constraint, Facts, Rule, Term

HINTS: Final = 4  # so many rules of a set are looked at
_TERMS: Final = 2  # of each rule
_VALUES: Final = 8  # a constraint with more is not looked into


def what_matched(rule: Rule, term: Term) -> str:
    """The field of the matching term that says most; the rule where it asks nothing."""
    for constraint in term.constraints:
        if not constraint.negative:
            return constraint.field
    return term.constraints[0].field if term.constraints else rule.field


def nearest(rules: tuple[Rule, ...], facts: Facts) -> tuple[Rule, Constraint] | None:
    """
    The first rule that failed by one field only, else the first rule; and the field.

    Looks at a few rules of many: it is a hint, and no decision.
    """
    first: tuple[Rule, Constraint] | None = None
    for rule in rules[:HINTS]:
        for term in rule.terms[:_TERMS]:
            if any(len(item.values) > _VALUES for item in term.constraints):
                continue
            failures = term.failures(facts)
            if not failures:
                continue
            if len(failures) == 1:
                return rule, failures[0]
            first = first or (rule, failures[0])
    return first
