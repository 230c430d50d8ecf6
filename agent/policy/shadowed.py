"""
Rules that change nothing, since others match all that they match. Pure.

A rule is looked up by what its terms ask, and by all that asks less, so the cost grows
with the number of rules and not with its square. What is not found that way (a network
inside another, a prefix of a prefix) is not reported: a hint may miss, never accuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

from agent.policy.match import Attribute, Constraint, Pattern, Rule, Term, TextForm

# A term of several values is as many terms of one each, up to so many.
_MAX_ATOMS: Final = 16
# What asks less than a term of n constraints is up to 4^n terms.
_MAX_CONSTRAINTS: Final = 3

_Ask = tuple[Attribute, bool, frozenset[object]]
_Atom = frozenset[_Ask]

_ANY: Final = Pattern(TextForm.ANY)


@dataclass(slots=True)
class Covers:
    """
    Rules by what they ask. The first two that ask the same: one may be the rule that
    is looked at.
    """

    _rules: dict[_Atom, list[tuple[int, Rule]]] = field(default_factory=dict)
    _count: int = 0

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> Covers:
        """Rules in their order."""
        made = cls()
        for rule in rules:
            made.add(rule)
        return made

    def add(self, rule: Rule) -> None:
        """One more, after the others."""
        for term in rule.terms:
            for atom in _atoms(term):
                known = self._rules.setdefault(atom, [])
                if len(known) < 2 and all(other is not rule for _, other in known):
                    known.append((self._count, rule))
        self._count += 1

    def covering(self, rule: Rule, *, same: bool) -> Rule | None:
        """
        A rule of those that together match all that `rule` does; None where some of
        it is matched by `rule` alone.

        `same`: one that asks exactly the same counts wherever it stands; else only if
        it stands before `rule`, of two such the first stays.
        """
        first: Rule | None = None
        for term in rule.terms:
            for atom in _atoms(term):
                found = self._one(atom, rule, same=same)
                if found is None:
                    return None
                first = first or found
        return first

    def _one(self, atom: _Atom, rule: Rule, *, same: bool) -> Rule | None:
        known = self._rules.get(atom, ())
        if same and known:
            return known[0][1]
        if known and known[0][1] is not rule:
            return known[0][1]
        for less in _asking_less(atom):
            for _, other in self._rules.get(less, ()):
                if other is not rule:
                    return other
        return None


def first_cover(rule: Rule, covers: Sequence[Covers], own: Covers) -> Rule | None:
    """What makes `rule` superfluous: a rule beside it, or of the wider `covers`."""
    found = own.covering(rule, same=False)
    for wider in covers:
        found = found or wider.covering(rule, same=True)
    return found


def _atoms(term: Term) -> Iterator[_Atom]:
    """The term as terms of one value for each positive constraint."""
    count = 1
    for constraint in term.constraints:
        count *= 1 if constraint.negative else max(1, len(constraint.values))
    choices = [_asks(each, apart=count <= _MAX_ATOMS) for each in term.constraints]
    return (frozenset(chosen) for chosen in product(*choices))


def _asks(constraint: Constraint, *, apart: bool) -> list[_Ask]:
    attribute, negative = constraint.attribute, constraint.negative
    if negative or not apart or not constraint.values:
        return [(attribute, negative, frozenset(constraint.values))]
    return [(attribute, False, frozenset({value})) for value in constraint.values]


def _asking_less(atom: _Atom) -> Iterator[_Atom]:
    """All that match whatever `atom` matches, by leaving out or by `*`."""
    if len(atom) > _MAX_CONSTRAINTS:
        yield frozenset()
        return
    choices = [_less(ask) for ask in atom]
    for chosen in product(*choices):
        less = frozenset(ask for ask in chosen if ask is not None)
        if less != atom:
            yield less


def _less(ask: _Ask) -> tuple[_Ask | None, ...]:
    attribute, negative, values = ask
    if negative or not all(isinstance(value, Pattern) for value in values):
        return ask, None
    # Whoever has any name has a principal.
    wider = dict.fromkeys((attribute, Attribute.PRINCIPAL))
    return ask, *((each, False, frozenset({_ANY})) for each in wider), None
