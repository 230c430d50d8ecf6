"""
What differs between two worlds: what workers are told instead of the whole.

`apply(old, diff(old, new)) == new` for any two snapshots. A delta names the version it
was made for and fits no other: who holds another asks for the whole, and never judges
by parts of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from agent.addresses import IPAddress, SocketAddress
from agent.errors import PodlockError
from agent.policy.rule import InboundPolicy
from agent.workload.directory import Directory, Peer, VirtualService

K = TypeVar("K")
V = TypeVar("V")


class VersionGap(PodlockError):
    """A delta that was made for another version than the one at hand."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    Who is where, and the inbound policy of each pod of this node by uid.

    `version` grows by one with every change, and starts anew with control.
    """

    version: int = 0
    directory: Directory = field(default_factory=Directory)
    policies: Mapping[str, InboundPolicy] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edits(Generic[K, V]):
    """What to put into a mapping, over what may be there, and what to take out."""

    puts: Mapping[K, V] = field(default_factory=dict)
    removals: tuple[K, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.puts or self.removals)

    @classmethod
    def between(cls, old: Mapping[K, V], new: Mapping[K, V]) -> Edits[K, V]:
        """The edits that make `new` of `old`; order does not count."""
        if old is new:
            return cls()
        puts = {
            key: value
            for key, value in new.items()
            # Most values are the very same object, and equality is slow in Python.
            if (before := old.get(key)) is not value and before != value
        }
        if len(old) + sum(key not in old for key in puts) == len(new):
            return cls(puts)
        return cls(puts, tuple(key for key in old if key not in new))

    def applied(self, old: Mapping[K, V]) -> Mapping[K, V]:
        """`old` after the edits; `old` itself stays as it is."""
        if not self:
            return old
        new = dict(old)
        for key in self.removals:
            new.pop(key, None)
        new.update(self.puts)
        return new


@dataclass(frozen=True, slots=True)
class Delta:
    """
    From version `base` to `version`.

    A service port that changed travels with all of its endpoints.
    """

    base: int
    version: int
    peers: Edits[IPAddress, Peer]
    services: Edits[SocketAddress, VirtualService]
    policies: Edits[str, InboundPolicy]
    owned: frozenset[IPAddress] = frozenset()
    disowned: frozenset[IPAddress] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything differs but the version."""
        return bool(
            self.peers or self.services or self.policies or self.owned or self.disowned
        )


def diff(old: Snapshot, new: Snapshot) -> Delta:
    """What makes `new` of `old`; compares everything, identical objects at once."""
    before, now = old.directory, new.directory
    return Delta(
        base=old.version,
        version=new.version,
        peers=Edits.between(before.peers, now.peers),
        services=Edits.between(before.services, now.services),
        policies=Edits.between(old.policies, new.policies),
        owned=now.service_addresses - before.service_addresses,
        disowned=before.service_addresses - now.service_addresses,
    )


def apply(old: Snapshot, delta: Delta) -> Snapshot:
    """`old` brought to `delta.version`. Raises: VersionGap."""
    if old.version != delta.base:
        text = f"a change from version {delta.base} came to version {old.version}"
        raise VersionGap(text)
    directory = old.directory
    return Snapshot(
        delta.version,
        Directory(
            delta.peers.applied(directory.peers),
            delta.services.applied(directory.services),
            (directory.service_addresses - delta.disowned) | delta.owned,
        ),
        delta.policies.applied(old.policies),
    )
