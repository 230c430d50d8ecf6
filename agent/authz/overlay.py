"""Objects as they would be with some more of them applied: what a proposal means."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator
from dataclasses import fields, replace
from typing import Any, Final

from agent.policy.objects import PolicyObject
from agent.workload.model import Objects, Workload

# The fields of `Objects` that are no policies.
_WORLD: Final = frozenset(
    {"workloads", "namespaces", "services", "endpoint_slices", "nodes"}
)


def overlaid(live: Objects, proposed: Objects, *, prune: bool = False) -> Objects:
    """
    `live` with `proposed` applied: one of the same kind and name takes its place.

    `prune`: policies that are not proposed are gone. Pods and namespaces never are.
    """
    merged = {
        each.name: _merged(getattr(live, each.name), getattr(proposed, each.name))
        if each.name in _WORLD or not prune
        else getattr(proposed, each.name)
        for each in fields(Objects)
    }
    return Objects(**merged)


def policies(objects: Objects) -> Iterator[PolicyObject]:
    """Every policy object, of whatever kind."""
    for each in fields(Objects):
        if each.name not in _WORLD:
            yield from _policies_in(getattr(objects, each.name))


def _policies_in(value: Any) -> Iterator[PolicyObject]:
    for each in fields(value):
        items = getattr(value, each.name)
        if isinstance(items, tuple):
            yield from (item for item in items if isinstance(item, PolicyObject))


def _merged(live: Any, proposed: Any) -> Any:
    if dataclasses.is_dataclass(live) and not isinstance(live, type):
        values = {
            each.name: _merged(getattr(live, each.name), getattr(proposed, each.name))
            for each in fields(live)
        }
        return replace(live, **values)
    if isinstance(live, frozenset):
        return live | proposed
    by_name = {_name(item): item for item in live}
    for item in proposed:
        by_name[_name(item)] = _in_place_of(by_name.get(_name(item)), item)
    return tuple(by_name.values())


def _name(item: Any) -> Hashable:
    return getattr(item, "namespace", ""), item.name


def _in_place_of(live: Any, proposed: Any) -> Any:
    """A pod in a repository has no status: it runs where it runs."""
    if not isinstance(live, Workload) or proposed.addresses:
        return proposed
    return replace(
        proposed,
        uid=live.uid,
        node=live.node,
        addresses=live.addresses,
        netns=live.netns,
        ready=live.ready,
    )
