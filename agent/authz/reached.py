"""
Which ports of which pods were reached, and by whom: what suggestions are made of. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.authz.groups import Group
from agent.authz.seen import Flow, Tally
from agent.authz.survey import Survey
from agent.identity.spiffe import SpiffeId

Manifest = dict[str, Any]

_MAX_NAME: Final = 50

# Ports that a server opens for one transfer each, as passive FTP does, are many, high
# and used by few clients each. Servers of fixed ports have few that high, and declare
# them or have a Service.
_HIGH_PORT: Final = 20_000
_MANY_PORTS: Final = 4
_FEW_CLIENTS: Final = 3


@dataclass(slots=True)
class Clients:
    """Who was let in at one port: identities, and addresses without one."""

    identities: set[SpiffeId] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.identities) + len(self.addresses)


@dataclass(frozen=True, slots=True)
class Reached:
    """A port of a group of pods, and who was let in there."""

    group: Group
    port: int
    clients: Clients
    name: str
    """Unique in the namespace, and the name of what is written about it."""


Ports = dict[tuple[Group, int], Clients]


def reached(
    flows: Iterable[tuple[Flow, Tally]], groups: Iterable[Group], survey: Survey
) -> tuple[Ports, list[str]]:
    """The ports that these flows went to, and the pods that are gone since."""
    of_pod = {pod.key: group for group in groups for pod in group.pods}
    found: Ports = {}
    gone: dict[str, None] = {}
    for flow, _ in flows:
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
    return found, list(gone)


def ephemeral(found: Ports, survey: Survey) -> dict[Group, list[int]]:
    """The ports of each group that look as if each was opened for one transfer."""
    declared = _service_targets(survey)
    ports: dict[Group, list[int]] = {}
    for (group, port), clients in sorted(found.items(), key=lambda item: item[0][1]):
        if port < _HIGH_PORT or len(clients) > _FEW_CLIENTS or port in declared:
            continue
        if all(port != each.port for pod in group.pods for each in pod.ports):
            ports.setdefault(group, []).append(port)
    return {group: each for group, each in ports.items() if len(each) >= _MANY_PORTS}


def _service_targets(survey: Survey) -> Collection[int]:
    return {
        port.target
        for service in survey.objects.services
        for port in service.ports
        if isinstance(port.target, int)
    }


def named(found: Mapping[tuple[Group, int], Clients]) -> Iterator[Reached]:
    """Each port under a name of its own, by namespace, group and port."""
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
