"""
Same node, direct: which pods of this node may talk past the agent. Pure.

A pair is one pod's network namespace and one address of another pod. It may talk
directly when both pods are captured here and the policy that would judge a tunnel
between them permits it, without any "but". Where anything is missing the agent
carries the connection, as it does between nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.addresses import InvalidAddress, IPAddress, SocketAddress
from agent.errors import Refused
from agent.identity.spiffe import SpiffeId
from agent.policy.decision import Denied, Request, authorize
from agent.policy.rule import InboundPolicy
from agent.workload.connection import ConnectionOpened
from agent.workload.directory import VirtualService


class NotDirect(Refused):
    """The agent must carry it; the message says why."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A captured pod of this node; `addresses` are those that it is captured with."""

    uid: str
    name: str
    identity: SpiffeId
    netns: int
    addresses: tuple[IPAddress, ...]
    policy: InboundPolicy

    def source(self, version: int) -> IPAddress | None:
        """The address of a family that its direct connections come from."""
        return next((ip for ip in self.addresses if ip.version == version), None)


@dataclass(frozen=True, slots=True)
class Pair:
    """From a network namespace, by its cookie, to an address: a verdict's key."""

    netns: int
    destination: SocketAddress


@dataclass(frozen=True, slots=True)
class Party:
    """One end of a pair: the pod that it was when it was judged."""

    uid: str
    name: str
    identity: SpiffeId
    netns: int


@dataclass(frozen=True, slots=True)
class Grounds:
    """
    All that a verdict rests upon. Where one of it changes, the verdict is void.

    Except `rule`, and `audit`, a rule that would deny and only audits: then what is
    open goes on, and what is new goes by tunnel, for each is to be told.
    """

    source: Party
    source_ip: IPAddress
    destination: Party
    rule: str
    audit: str | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """
    A pair that may not talk directly any more, and why; `rule` if policy says so.

    `grounds` None: an earlier agent knew them.
    """

    pair: Pair
    grounds: Grounds | None
    reason: str
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Residents:
    """The captured pods, found by namespace and by address."""

    by_netns: Mapping[int, Resident] = field(default_factory=dict)
    by_address: Mapping[IPAddress, Resident] = field(default_factory=dict)

    @classmethod
    def of(cls, residents: Iterable[Resident]) -> Residents:
        """No two residents share a namespace or an address; see claims."""
        listed = list(residents)
        return cls(
            {each.netns: each for each in listed},
            {ip: each for each in listed for ip in each.addresses},
        )

    def judge(self, pair: Pair) -> Grounds:
        """
        What permits a pair to talk directly, by the rule that permits the tunnel.

        Raises: Denied as `authorize` does; NotDirect where the agent must do it.
        """
        source = self.by_netns.get(pair.netns)
        destination = self.by_address.get(pair.destination.ip)
        if source is None or destination is None:
            who = "the client" if source is None else str(pair.destination.ip)
            raise NotDirect(f"{who} is no captured pod of this node any more")
        own = source.source(pair.destination.ip.version)
        if own is None or source is destination:
            raise NotDirect(f"{source.name} has no address to reach it directly from")
        to = pair.destination
        request = Request(source.identity, own, to.port, to.ip)
        permit = authorize(request, destination.policy)
        ends = _party(source), own, _party(destination)
        audit = permit.would_deny[0].rule if permit.would_deny else None
        return Grounds(*ends, permit.rule, audit)

    def review(
        self, held: Mapping[Pair, Grounds]
    ) -> tuple[dict[Pair, Grounds], list[Revocation]]:
        """The pairs that still rest upon what they did, and those that do not."""
        kept: dict[Pair, Grounds] = {}
        revoked: list[Revocation] = []
        for pair, before in held.items():
            try:
                now = self.judge(pair)
            except Denied as denied:
                revoked.append(Revocation(pair, before, str(denied), denied.rule))
            except NotDirect as refused:
                revoked.append(Revocation(pair, before, str(refused)))
            else:
                if replace(now, rule=before.rule, audit=before.audit) == before:
                    kept[pair] = now
                else:
                    revoked.append(Revocation(pair, before, _difference(before, now)))
        return kept, revoked

    def pair_of(self, told: ConnectionOpened) -> Pair | None:
        """
        The pair of a connection that was let in by tunnel; None if it makes none.

        A worker's word, and no more than a hint: `judge` asks what control knows.
        """
        if told.direction != "inbound" or told.path != "tunnel":
            return None
        try:
            client = SocketAddress.parse(told.source.address)
            destination = SocketAddress.parse(told.destination.address)
        except InvalidAddress:
            return None
        source = self.by_address.get(client.ip)
        if source is None or destination.ip not in self.by_address:
            return None
        return Pair(source.netns, destination)


@dataclass(frozen=True, slots=True)
class Doomed:
    """
    Which sockets of which namespaces belong to revoked pairs: both ends of each.

    A client's socket is known by where it goes; a server's by its own address and
    where the client is, for others are served at the same address.
    """

    clients: Mapping[tuple[int, SocketAddress], Revocation]
    servers: Mapping[tuple[int, SocketAddress, IPAddress], Revocation]

    @classmethod
    def of(
        cls,
        revocations: Iterable[Revocation],
        residents: Residents,
        strangers: Collection[IPAddress],
    ) -> Doomed:
        """
        `strangers`: the addresses of pods that are not captured here. Where only an
        earlier agent knew the client, it may be one of them.
        """
        clients: dict[tuple[int, SocketAddress], Revocation] = {}
        servers: dict[tuple[int, SocketAddress, IPAddress], Revocation] = {}
        for each in revocations:
            to = each.pair.destination
            clients[each.pair.netns, to] = each
            if each.grounds is not None:
                server, sources = (
                    each.grounds.destination.netns,
                    {each.grounds.source_ip},
                )
            else:
                holder = residents.by_address.get(to.ip)
                client = residents.by_netns.get(each.pair.netns)
                server = holder.netns if holder else 0
                sources = set(client.addresses if client else strangers)
            servers.update({(server, to, ip): each for ip in sources})
        return cls(clients, servers)

    @property
    def namespaces(self) -> frozenset[int]:
        """Where there may be such sockets."""
        clients = {netns for netns, _ in self.clients}
        return frozenset(clients | {netns for netns, _, _ in self.servers})

    @property
    def ports(self) -> frozenset[int]:
        """The servers' ports: one end of every such socket."""
        return frozenset(to.port for _, to in self.clients)

    def find(
        self, netns: int, local: SocketAddress, remote: SocketAddress
    ) -> Revocation | None:
        """The revocation that a socket falls under, if there is one."""
        if local.ip == remote.ip:
            return None  # within the pod: delivered by the agent, say
        as_client = self.clients.get((netns, remote))
        return as_client or self.servers.get((netns, local, remote.ip))


def services_about(
    services: Mapping[SocketAddress, VirtualService],
    destinations: Collection[SocketAddress],
) -> dict[SocketAddress, tuple[SocketAddress, ...]]:
    """
    Services with an endpoint among `destinations`, each with all of its endpoints.

    All, since the kernel chooses before it asks whether the choice is direct. It
    chooses by chance: what a client is to stay with is the agent's to choose.
    """
    found: dict[SocketAddress, tuple[SocketAddress, ...]] = {}
    for at, service in services.items():
        if service.affinity_seconds is not None:
            continue
        endpoints: tuple[SocketAddress, ...] = tuple(
            endpoint.address for endpoint in service.endpoints
        )
        if any(endpoint in destinations for endpoint in endpoints):
            found[at] = endpoints
    return found


def _party(resident: Resident) -> Party:
    return Party(resident.uid, resident.name, resident.identity, resident.netns)


def _difference(before: Grounds, now: Grounds) -> str:
    """What changed about a pair that is still permitted."""
    for was, is_ in (
        (before.source, now.source),
        (before.destination, now.destination),
    ):
        if was.uid != is_.uid:
            return f"{was.name} was replaced by {is_.name}"
        if was.identity != is_.identity:
            return f"{was.name} is {is_.identity} now"
        if was.netns != is_.netns:
            return f"{was.name} has another network namespace"
    return f"{before.source.name} has another address"
