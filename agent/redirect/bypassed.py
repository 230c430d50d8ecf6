"""
Which live connections of a pod pass the agent by. Pure.

An application's socket in a captured pod has one of these as its peer: the agent, on
loopback; the pod's own address, from which the agent delivers; or, where pods of one
node talk directly, a pod that a trace names. Any other was opened while the redirect
was not in place, or before the pod was captured; the latter are `known`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from agent.addresses import IPAddress, SocketAddress
from agent.redirect.inet_diag import DiagSocket

SHOWN: Final = 10
Ends = tuple[SocketAddress, SocketAddress]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What tells sockets apart: `agent` is the id of the agent's own cgroup, `traced` the
    direct connections, by source and destination.
    """

    agent: int
    traced: AbstractSet[Ends] = frozenset()


@dataclass(slots=True)
class Census:
    """The sockets of one pod that are known, by their cookies."""

    known: set[int] = field(default_factory=set)
    counted: bool = False

    def begin(self, passing: Iterable[DiagSocket]) -> None:
        """What is open while the redirect is verified was there before it."""
        self.known = {each.cookie for each in passing}
        self.counted = True

    def new(self, passing: Iterable[DiagSocket]) -> list[DiagSocket]:
        """Those that were not known, once each."""
        found = [each for each in passing if each.cookie not in self.known]
        self.known |= {each.cookie for each in found}
        return found


def passing_by(
    sockets: Iterable[DiagSocket], own: Collection[IPAddress], around: Surroundings
) -> list[DiagSocket]:
    """The sockets of an application that neither the agent nor a trace has."""
    return [
        each
        for each in sockets
        if each.cgroup
        and each.cgroup != around.agent
        and not each.remote.ip.is_loopback
        and each.remote.ip not in own
        and (each.local, each.remote) not in around.traced
        and (each.remote, each.local) not in around.traced
    ]


def summary(found: Collection[DiagSocket]) -> str:
    """The ends of each connection; of many the first ten."""
    shown = [f"{each.local} - {each.remote}" for each in list(found)[:SHOWN]]
    rest = len(found) - len(shown)
    return ", ".join([*shown, f"and {rest} more"] if rest else shown)
