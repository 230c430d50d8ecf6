"""What direct connections are judged by, taken from what control knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.redirect.enrolment import Capture
from agent.workload.direct import Resident
from agent.workload.directory import Directory
from agent.workload.registry import NodeView


@dataclass(frozen=True, slots=True)
class World:
    """
    What verdicts are judged by: the captured pods, their open namespaces by cookie,
    the identities with a valid certificate, and the services.
    """

    residents: tuple[Resident, ...] = ()
    namespaces: Mapping[int, int] = field(default_factory=dict)
    certified: frozenset[SpiffeId] = frozenset()
    directory: Directory = field(default_factory=Directory)


def world_of(
    view: NodeView,
    captures: Mapping[str, Capture],
    trust_domain: TrustDomain,
    certified: Iterable[SpiffeId],
) -> World:
    """
    The world as control has it. Every namespace that is open is in it, also of a pod
    that has just left: its connections are ended there.
    """
    residents = [
        Resident(
            uid=uid,
            name=pod.key,
            identity=pod.identity(trust_domain),
            netns=captures[uid].netns_cookie,
            addresses=tuple(
                ip for ip in captures[uid].addresses if ip in pod.addresses
            ),
            policy=view.policies[uid],
        )
        for uid, pod in view.pods.items()
        if uid in captures
    ]
    namespaces = {each.netns_cookie: each.netns_fd for each in captures.values()}
    return World(tuple(residents), namespaces, frozenset(certified), view.directory)
