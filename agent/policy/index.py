"""
Many rules, asked at once: which is the first that matches?

Each term of each rule is one bit of long integers. Every attribute that some term
constrains is a dimension: for a value it has the bits of the terms that the value
satisfies. All dimensions are and-ed; the highest bit that is left is the first match
(Lakshman and Stiliadis, SIGCOMM 1998, section 4). So a decision takes a handful of
operations on integers, whatever the rules look like: 100,000 terms are 12 kB. No rule
is looked at by itself, and nobody can write rules that make it so.

Memory is linear in what the rules say: a value that few terms have keeps their
numbers, and only one that many have keeps bits. What a value comes to is remembered
for a while, for the same callers and ports come again.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from agent.policy.match import (
    Attribute,
    Constraint,
    Facts,
    FactValue,
    Pattern,
    Rule,
    Term,
    TextForm,
    Value,
)

MAX_REMEMBERED: Final = 256  # values a dimension; of 100,000 terms that is 3 MB
_FEW: Final = 8  # so many shifts cost less than going through a bytearray
_NUMBER_BITS: Final = 32  # what one number of a sparse posting takes

_ADDRESS_BITS: Final = {4: 32, 6: 128}

Shape = tuple[Hashable, int]
"""A pattern's form and length, or a network's version and prefix length."""
Posting: TypeAlias = "int | array[int]"


class _Dimension:
    """
    Which terms a value satisfies, for one attribute.

    Positive: those that list it, and those that ask nothing (`wild`). Negative: all
    but those that list it. `shapes` are the kinds of keys that are looked up.
    """

    __slots__ = (
        "_known",
        "attribute",
        "everyone",
        "negative",
        "postings",
        "shapes",
        "wild",
    )

    def __init__(self, attribute: Attribute, everyone: int, *, negative: bool) -> None:
        self.attribute = int(attribute)
        self.negative = negative
        self.everyone = everyone
        self.wild = 0
        self.postings: dict[Hashable, Posting] = {}
        self.shapes: tuple[Shape, ...] = ()
        self._known: dict[FactValue | None, int] = {}

    def satisfied(self, value: FactValue | None) -> int:
        """The bits of the terms that `value` satisfies; None satisfies no positive."""
        bits = self._known.get(value)
        if bits is None:
            bits = self._work_out(value)
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            self._known[value] = bits
        return bits

    def _work_out(self, value: FactValue | None) -> int:
        hits, few = 0, array("I")
        for key in () if value is None else _keys(value, self.shapes):
            posting = self.postings.get(key)
            if isinstance(posting, int):
                hits |= posting
            elif posting is not None:
                few += posting
        if few:
            hits |= _bits(few, self.everyone)
        return self.everyone ^ hits if self.negative else self.wild | hits

    def __getstate__(self) -> tuple[Any, ...]:
        """All but what is remembered: it is cheap to work out, and large."""
        return (
            self.attribute,
            self.negative,
            self.everyone,
            self.wild,
            self.postings,
            self.shapes,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.attribute, self.negative, self.everyone = state[:3]
        self.wild, self.postings, self.shapes = state[3:]
        self._known = {}


class RuleIndex:
    """The terms of some rules, in order."""

    __slots__ = ("_dimensions", "_everyone", "_terms")

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._terms = [(rule, term) for rule in rules for term in rule.terms]
        self._everyone = (1 << len(self._terms)) - 1
        self._dimensions = _dimensions([term for _, term in self._terms])

    def first(self, facts: Facts) -> tuple[Rule, Term] | None:
        """The first rule that matches, and which of its terms did."""
        found = self._everyone
        for dimension in self._dimensions:
            found &= dimension.satisfied(facts[dimension.attribute])
            if not found:
                return None
        return self._terms[-found.bit_length()] if found else None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules of one scope; `objects` are all who contribute, also those without any."""

    objects: tuple[str, ...]
    rules: tuple[Rule, ...]
    index: RuleIndex = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", RuleIndex(self.rules))

    def first(self, facts: Facts) -> tuple[Rule, Term] | None:
        """The first rule that matches, and which of its terms did."""
        return self.index.first(facts)


def _dimensions(terms: list[Term]) -> tuple[_Dimension, ...]:
    """
    One for each attribute and sign; and more where one term constrains an attribute
    twice, since then both must hold. The most selective come first.
    """
    count = len(terms)
    lists: dict[tuple[Attribute, bool, int], _Building] = {}
    for number, term in enumerate(terms):
        seen: dict[Attribute, int] = {}
        for constraint in term.constraints:
            # Several "none of these" are one longer "none of these".
            slot = 0 if constraint.negative else seen.get(constraint.attribute, 0)
            seen[constraint.attribute] = slot + (not constraint.negative)
            key = (constraint.attribute, constraint.negative, slot)
            if key not in lists:
                lists[key] = _Building(count)
            # Bits count from the right: the first term has the highest.
            lists[key].add(count - 1 - number, constraint)
    built = [
        building.finish(attribute, negative=negative)
        for (attribute, negative, _), building in sorted(
            lists.items(), key=lambda item: item[0]
        )
    ]
    return tuple(sorted(built, key=lambda item: item.wild.bit_count()))


class _Building:
    """A dimension that is being made: who constrains it, and what each lists."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._constrained = bytearray(count // 8 + 1)
        self._postings: dict[Hashable, array[int]] = {}
        self._shapes: dict[Shape, None] = {}

    def add(self, number: int, constraint: Constraint) -> None:
        self._constrained[number >> 3] |= 1 << (number & 7)
        for value in constraint.values:
            key, shape = _key(value)
            if key not in self._postings:
                self._postings[key] = array("I")
            self._postings[key].append(number)
            if shape is not None:
                self._shapes[shape] = None

    def finish(self, attribute: Attribute, *, negative: bool) -> _Dimension:
        everyone = (1 << self._count) - 1
        made = _Dimension(attribute, everyone, negative=negative)
        made.wild = everyone ^ int.from_bytes(self._constrained, "little")
        made.shapes = tuple(self._shapes)
        made.postings = {
            key: _bits(numbers, everyone)
            if len(numbers) * _NUMBER_BITS > self._count
            else numbers
            for key, numbers in self._postings.items()
        }
        if negative:
            made.wild = everyone  # last in order: it seldom excludes much
        return made


def _bits(numbers: array[int], everyone: int) -> int:
    if len(numbers) <= _FEW:
        bits = 0
        for number in numbers:
            bits |= 1 << number
        return bits
    field = bytearray(everyone.bit_length() // 8 + 1)
    for number in numbers:
        field[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(field, "little")


def _key(value: Value) -> tuple[Hashable, Shape | None]:
    """Where a value's terms are kept, and the shape by which they are found."""
    if isinstance(value, int):
        return value, None
    if isinstance(value, Pattern):
        shape: Shape = (value.form, len(value.text))
        if value.form is TextForm.EXACT:
            shape = (TextForm.EXACT, 0)
        return (value.form, value.text), shape
    version, length = value.version, value.prefixlen
    shift = _ADDRESS_BITS[version] - length
    number = int(value.network_address) >> shift
    return (version, length, number), (version, length)


def _keys(value: FactValue, shapes: tuple[Shape, ...]) -> Iterator[Hashable]:
    """Every key under which a term that lists `value` may be kept."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, str):
        for form, length in shapes:
            if form is TextForm.EXACT:
                yield (form, value)
            elif form is TextForm.PREFIX:
                yield (form, value[:length])
            elif form is TextForm.SUFFIX:
                yield (form, value[-length:] if length else "")
            elif value:
                yield (form, "")
    else:
        version, number = value
        bits = _ADDRESS_BITS[version]
        for family, length in shapes:
            if family == version:
                yield (version, length, number >> (bits - length))
