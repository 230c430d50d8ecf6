"""
Two pods, one address: who holds it.

An address stands for an identity, so it has one holder. Who held it before keeps it:
a later manifest that repeats the address must not take over a running pod's name. A
pod with a deletion timestamp gives way to one without: its address may be another's
before its object is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.workload.model import Workload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Contest(Generic[T]):
    """`loser` asked for `thing`, which `holder` has."""

    thing: T
    holder: Workload
    loser: Workload


def settle(
    claims: Iterable[tuple[T, Workload]], held: Mapping[T, str]
) -> tuple[dict[T, str], tuple[Contest[T], ...]]:
    """
    The key of one holder for each thing claimed, and everyone else who claimed it.

    `held` is the key of who held each thing before; without a claim from it, the
    first claimant by key holds; one that terminates only if all do. The order of
    `claims` does not matter.
    """
    holders: dict[T, str] = {}
    workloads: dict[str, Workload] = {}
    rivals: dict[T, dict[str, Workload]] = {}
    for thing, workload in sorted(claims, key=lambda claim: claim[1].key):
        workloads[workload.key] = workload
        first = holders.setdefault(thing, workload.key)
        if first != workload.key:
            rivals.setdefault(thing, {first: workloads[first]})
            rivals[thing][workload.key] = workload
    contests: list[Contest[T]] = []
    for thing, by_key in rivals.items():
        holder = _preferred(by_key, held.get(thing))
        holders[thing] = holder.key
        contests += [
            Contest(thing, holder, other)
            for other in by_key.values()
            if other is not holder
        ]
    return holders, tuple(contests)


def _preferred(by_key: Mapping[str, Workload], before: str | None) -> Workload:
    def rank(key: str) -> tuple[bool, bool, str]:
        return by_key[key].terminating, key != before, key

    return by_key[min(by_key, key=rank)]
