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
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from agent.policy.explain import HINTS, what_matched
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

# What a dimension remembers of values that it was asked: of 100,000 terms 300 values.
REMEMBERED_BYTES: Final = 4 << 20
MAX_REMEMBERED: Final = 4096
SOURCE: Final = int(Attribute.SOURCE)
_FEW: Final = 8  # so many shifts cost less than going through a bytearray
# A posting of fewer terms than one in so many keeps their numbers. Bits take eight
# times the memory at that point, and spare setting hundreds of them when it is asked.
_SPARSE: Final = 256

_ADDRESS_BITS: Final = {4: 32, 6: 128}

Shape = tuple[int, int]
"""A pattern's form and length, or a network's version and prefix length."""
Posting = int | bytes
"""Bits, or, where there are few, the numbers of those that are set."""


class _Dimension:
    """
    Which terms a value satisfies, for one attribute.

    Positive: those that list it, and those that ask nothing (`wild`). Negative: all
    but those that list it. `shapes` are the kinds of keys that are looked up.
    """

    __slots__ = (
        "_known",
        "_room",
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
        self._room = _room(everyone)

    def satisfied(self, value: FactValue | None) -> int:
        """The bits of the terms that `value` satisfies; None satisfies no positive."""
        bits = self._known.get(value)
        if bits is None:
            bits = self._work_out(value)
            if len(self._known) >= self._room:
                self._known.clear()
            self._known[value] = bits
        return bits

    def _work_out(self, value: FactValue | None) -> int:
        hits, few = 0, b""
        for key in () if value is None else _keys(value, self.shapes):
            posting = self.postings.get(key)
            if isinstance(posting, int):
                hits |= posting
            elif posting is not None:
                few += posting
        if few:
            hits |= _bits(memoryview(few).cast("I"), self.everyone)
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
        self._room = _room(self.everyone)


class Matched(NamedTuple):
    """The rule that matched: its object, its path in it, and the field that decided."""

    object: str
    rule: str
    field: str

    @property
    def title(self) -> str:
        """How a permit and the status name it."""
        return f"{self.object} {self.rule}" if self.rule else self.object


class RuleIndex:
    """
    The terms of some rules, in order; of each, what a verdict names it by.

    The names are numbers in tables of texts, most of which many terms share.
    """

    __slots__ = ("_dimensions", "_everyone", "_named", "_names")

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        terms = [term for rule in rules for term in rule.terms]
        self._everyone = (1 << len(terms)) - 1
        self._dimensions = _dimensions(terms)
        names: dict[str, int] = {}
        named = array("I")
        for rule in rules:
            own = names.setdefault(rule.object, len(names))
            path = names.setdefault(rule.field, len(names))
            for term in rule.terms:
                field = names.setdefault(what_matched(rule, term), len(names))
                named.extend((own, path, field))
        self._names, self._named = tuple(names), named

    def first(self, facts: Facts) -> Matched | None:
        """The first rule that matches."""
        found = self._everyone
        for dimension in self._dimensions:
            found &= dimension.satisfied(facts[dimension.attribute])
            if not found:
                return None
        if not found:
            return None
        at = len(self._named) - 3 * found.bit_length()
        own, path, field = self._named[at : at + 3]
        return Matched(self._names[own], self._names[path], self._names[field])

    def __len__(self) -> int:
        """How many terms there are."""
        return len(self._named) // 3


@dataclass(frozen=True, slots=True)
class RuleSet:
    """
    Rules of one scope; `objects` are all who contribute, also those without any.

    To another process only the index travels, and the first few rules, for hints: so
    a copy there is as good for decisions, and not equal to the original.
    """

    objects: tuple[str, ...]
    rules: tuple[Rule, ...] = field(repr=False)
    index: RuleIndex = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", RuleIndex(self.rules))

    def first(self, facts: Facts) -> Matched | None:
        """The first rule that matches."""
        return self.index.first(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the rules, which are many times larger than their index."""
        return _arrived, (self.objects, self.rules[:HINTS], self.index)


def _arrived(
    objects: tuple[str, ...], hints: tuple[Rule, ...], index: RuleIndex
) -> RuleSet:
    made = object.__new__(RuleSet)
    object.__setattr__(made, "objects", objects)
    object.__setattr__(made, "rules", hints)
    object.__setattr__(made, "index", index)
    return made


def _dimensions(terms: list[Term]) -> tuple[_Dimension, ...]:
    """
    One for each attribute and sign; and more where one term constrains an attribute
    twice, since then both must hold. The most selective come first; the source last,
    for its values are many and seldom remembered.
    """
    count = len(terms)
    lists: dict[tuple[Attribute, bool, int], _Building] = {}
    for number, term in enumerate(terms):
        seen: dict[Attribute, int] = {}
        for constraint in term.constraints:
            slot = 0
            # Several "none of these" are one longer "none of these"; several "one of
            # these" must each hold, so each has a dimension of its own.
            if not constraint.negative:
                slot = seen.get(constraint.attribute, 0)
                seen[constraint.attribute] = slot + 1
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
    return tuple(
        sorted(built, key=lambda it: (it.attribute == SOURCE, it.wild.bit_count()))
    )


class _Building:
    """A dimension that is being made: who constrains it, and what each lists."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._constrained = bytearray(count // 8 + 1)
        self._postings: dict[Hashable, list[int]] = {}
        self._shapes: set[Shape] = set()

    def add(self, number: int, constraint: Constraint) -> None:
        self._constrained[number >> 3] |= 1 << (number & 7)
        postings = self._postings
        for value in constraint.values:
            key, shape = _key(value)
            if key in postings:
                postings[key].append(number)
            else:
                postings[key] = [number]
                self._shapes.add(shape)

    def finish(self, attribute: Attribute, *, negative: bool) -> _Dimension:
        everyone = (1 << self._count) - 1
        made = _Dimension(attribute, everyone, negative=negative)
        constrained = int.from_bytes(self._constrained, "little")
        # A negative one seldom excludes much: it comes last.
        made.wild = everyone if negative else everyone ^ constrained
        made.shapes = tuple(sorted(self._shapes))
        made.postings = {
            key: _bits(numbers, everyone)
            if len(numbers) * _SPARSE > self._count
            else array("I", numbers).tobytes()
            for key, numbers in self._postings.items()
        }
        return made


def _bits(numbers: Sequence[int], everyone: int) -> int:
    if len(numbers) <= _FEW:
        bits = 0
        for number in numbers:
            bits |= 1 << number
        return bits
    field = bytearray(everyone.bit_length() // 8 + 1)
    for number in numbers:
        field[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(field, "little")


def _room(everyone: int) -> int:
    """How many values of so many terms may be remembered."""
    each = everyone.bit_length() // 8 + 64
    return min(MAX_REMEMBERED, max(1, REMEMBERED_BYTES // each))


def _key(value: Value) -> tuple[Hashable, Shape]:
    """Where a value's terms are kept, and the shape by which they are found."""
    if isinstance(value, Pattern):
        form = value.form
        length = 0 if form is TextForm.EXACT else len(value.text)
        return (form, value.text), (form, length)
    if isinstance(value, int):
        return value, (0, 0)
    version, length = value.version, value.prefixlen
    number = int(value.network_address) >> (value.max_prefixlen - length)
    return (version, length, number), (version, length)


def _keys(value: FactValue, shapes: tuple[Shape, ...]) -> list[Hashable]:
    """Every key under which a term that lists `value` may be kept."""
    if isinstance(value, int):
        return [value]
    if isinstance(value, tuple):
        version, number = value
        bits = _ADDRESS_BITS[version]
        return [
            (version, length, number >> (bits - length))
            for family, length in shapes
            if family == version
        ]
    keys: list[Hashable] = []
    for form, length in shapes:
        match form:
            case TextForm.EXACT:
                keys.append((form, value))
            case TextForm.PREFIX:
                keys.append((form, value[:length]))
            case TextForm.SUFFIX:
                keys.append((form, value[-length:] if length else ""))
            case _ if value:
                keys.append((form, ""))
    return keys
