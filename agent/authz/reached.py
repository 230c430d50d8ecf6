"""
Which ports of which pods were reached, and by whom: what suggestions are made of. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.authz.groups import Group
from agent.authz.seen import Flow, Tally
from agent.authz.survey import Survey
from agent.identity.spiffe import SpiffeId

Manifest = dict[str, Any]

_MAX_NAME: Final = 50


@dataclass(slots=True)
class Clients:
    """Who was let in at one port: identities, and addresses without one."""

    identities: set[SpiffeId] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Reached:
    """A port of a group of pods, and who was let in there."""

    group: Group
    port: int
    clients: Clients
    name: str
    """Unique in the namespace, and the name of what is written about it."""


def reached(
    flows: Iterable[tuple[Flow, Tally]], groups: Iterable[Group], survey: Survey
) -> tuple[list[Reached], list[str]]:
    """The ports that somebody was let in at, and the pods that are gone since."""
    of_pod = {pod.key: group for group in groups for pod in group.pods}
    found: dict[tuple[Group, int], Clients] = {}
    gone: dict[str, None] = {}
    for flow, tally in flows:
        if not tally.allowed:
            continue
        group = of_pod.get(flow.destination)
        if group is None:
            if flow.destination not in survey.workloads:
                gone[flow.destination] = None
            continue
        clients = found.setdefault((group, flow.port), Clients())
        if flow.meshed:
            clients.identities.add(SpiffeId.parse(flow.client))
        else:
            clients.addresses.add(flow.client)
    return list(_named(found)), list(gone)


def _named(found: Mapping[tuple[Group, int], Clients]) -> Iterator[Reached]:
    taken: set[tuple[str, str]] = set()
    order = sorted(found, key=lambda each: (each[0].namespace, each[0].name, each[1]))
    for group, port in order:
        base = group.name.lower().replace("_", "-").replace(".", "-")[:_MAX_NAME]
        name, number = f"{base}-{port}", 1
        while (group.namespace, name) in taken:
            number += 1
            name = f"{base}-{number}-{port}"
        taken.add((group.namespace, name))
        yield Reached(group, port, found[group, port], name)


def network_of(ip: str) -> str:
    """One address, as a network that has no other."""
    return f"{ip}/128" if ":" in ip else f"{ip}/32"
