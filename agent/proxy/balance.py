"""
Which endpoint of a service a connection gets.

By power of two choices: of two endpoints picked by chance the one with fewer open
connections, as this worker counts them. A slow backend keeps its connections and so
gets fewer new ones; and two agents that see the same world do not all choose the same.

With session affinity a client stays where it was. Workers share no memory, so where
one has none, rendezvous hashing decides: each worker, on each node, ranks the endpoints
for one client alike, and an endpoint that goes moves its own clients only.
Source: Mitzenmacher, "The Power of Two Choices"; Thaler and Ravishankar, "A Name-Based
Mapping Scheme for Rendezvous".
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from agent.addresses import IPAddress, SocketAddress
from agent.proxy.routing import Outside, Route, ToPeer
from agent.workload.directory import Endpoint, VirtualService

# Clients that are remembered; the one that was seen longest ago goes first.
MAX_REMEMBERED: Final = 16_384

Below = Callable[[int], int]
"""A whole number by chance, at least 0 and below the argument."""
OpenConnections = Callable[[SocketAddress], int]


def two_choices(
    endpoints: Sequence[Endpoint], connections: OpenConnections, below: Below
) -> Endpoint:
    """One of `endpoints`, of which there is at least one."""
    count = len(endpoints)
    first = below(count)
    if count == 1:
        return endpoints[first]
    second = (first + 1 + below(count - 1)) % count  # another one
    one, other = endpoints[first], endpoints[second]
    return one if connections(one.address) <= connections(other.address) else other


def rendezvous(
    endpoints: Sequence[Endpoint], service: str, client: IPAddress
) -> Endpoint:
    """The endpoint that ranks first for `client`, whatever their order is."""
    seed = f"{service} {client} ".encode()
    return max(endpoints, key=lambda each: _rank(seed, each.address))


def _rank(seed: bytes, address: SocketAddress) -> bytes:
    return hashlib.blake2b(seed + str(address).encode(), digest_size=8).digest()


@dataclass(slots=True)
class _Stay:
    endpoint: Endpoint
    until: float


_random = random.SystemRandom()


@dataclass(slots=True, eq=False)
class Balancer:
    """What one worker knows of connections and clients."""

    below: Below = _random.randrange
    _open: Counter[SocketAddress] = field(default_factory=Counter)
    _stays: OrderedDict[tuple[str, int, IPAddress], _Stay] = field(
        default_factory=OrderedDict
    )

    def choose(
        self, service: VirtualService, client: IPAddress, now: float
    ) -> Endpoint:
        """The endpoint for a connection at `now`, in seconds of any clock."""
        if service.affinity_seconds is None:
            return two_choices(service.endpoints, self._open.__getitem__, self.below)
        key = (service.name, service.port, client)
        stay = self._stays.pop(key, None)
        if stay and now < stay.until and stay.endpoint in service.endpoints:
            chosen = stay.endpoint
        else:
            chosen = rendezvous(service.endpoints, service.name, client)
        self._stays[key] = _Stay(chosen, now + service.affinity_seconds)
        if len(self._stays) > MAX_REMEMBERED:
            self._stays.popitem(last=False)
        return chosen

    @contextmanager
    def counting(self, route: Route) -> Iterator[None]:
        """A connection to an endpoint of a service, from its choice to its end."""
        if route.service is None:
            yield
            return
        match route:
            case ToPeer(delivery=address) | Outside(destination=address):
                pass
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
