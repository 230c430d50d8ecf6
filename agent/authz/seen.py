"""
Who has talked to whom: the connections that arrived here, summed up by flow.

A flow is a client (its identity, or its address where it showed none), a pod, a port
and a path. The ledger knows each connection of late; this knows every flow, as long
as there is room: those seen longest ago make room for new ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from agent.addresses import InvalidAddress, SocketAddress
from agent.workload.connection import (
    ConnectionChanged,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Path,
)

# At about half a kilobyte each, some two megabytes a kind. Apart from each other: who
# knocks in plaintext from many addresses pushes out no flow of the mesh.
MAX_FLOWS: Final = 4096
MAX_SOURCES: Final = 16
# Open connections whose flow is remembered, for what is said of them later.
MAX_OPEN: Final = 65_536

Message = ConnectionOpened | ConnectionChanged | ConnectionClosed | ConnectionRefused


@dataclass(frozen=True, slots=True)
class Flow:
    """`client` is a SPIFFE ID or, in plaintext, an IP address."""

    client: str
    meshed: bool
    destination: str
    port: int
    path: Path


@dataclass(slots=True)
class Tally:
    """
    What became of a flow's connections; times are Unix seconds.

    `audited`: of those allowed, the ones that only audit let in. `sources`: the latest
    addresses that they came from, each with its pod where that is known. `rule` decided
    about the last one, `would_deny` about the last one that was audited.
    """

    first: float
    last: float
    allowed: int = 0
    audited: int = 0
    refused: int = 0
    rule: str | None = None
    would_deny: str | None = None
    sources: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeFlows:
    """
    What the agent of one node has seen, between two times in Unix seconds.

    `until` None: the report does not say. `dropped` flows made room for others.
    """

    node: str
    since: float
    until: float | None
    flows: tuple[tuple[Flow, Tally], ...]
    dropped: int = 0


@dataclass(slots=True)
class Seen:
    """
    Apply messages in the order in which they came. `since` is Unix seconds; `audited`
    counts all connections that only audit let in, those of dropped flows too.
    """

    since: float
    limit: int = MAX_FLOWS
    dropped: int = 0
    audited: int = 0
    _meshed: dict[Flow, Tally] = field(default_factory=dict)
    _plaintext: dict[Flow, Tally] = field(default_factory=dict)
    _open: dict[str, tuple[Flow, int | None]] = field(default_factory=dict)

    def apply(self, message: object) -> None:
        """Take one in; what says nothing about a flow is passed over."""
        match message:
            case ConnectionOpened():
                self._opened(message)
            case ConnectionRefused(outcome="refused", rule=str()):
                self._refused(message)
            case ConnectionChanged(id=id, audit=audit):
                if audit is not None and id in self._open:
                    self._audited_now(self._open[id][0], audit)
            case ConnectionClosed(id=id):
                self._open.pop(id, None)

    def worker_lost(self, worker: int) -> None:
        """Its connections have ended, and nobody told of each."""
        self._open = {
            id: known for id, known in self._open.items() if known[1] != worker
        }

    def flows(self) -> Iterator[tuple[Flow, Tally]]:
        """All that are known, those seen last at the end of each kind."""
        yield from self._meshed.items()
        yield from self._plaintext.items()

    def _opened(self, message: ConnectionOpened) -> None:
        tally = self._touch(message, message.opened)
        if tally is None:
            return
        tally.allowed += 1
        tally.rule = message.rule
        if message.audit is not None:
            self._audited(tally, message.audit)
        if len(self._open) < MAX_OPEN:
            flow = _flow(message)
            assert flow is not None
            self._open[message.id] = flow, message.worker

    def _audited_now(self, flow: Flow, rule: str) -> None:
        tally = self._flows(flow).get(flow)
        if tally is not None:
            self._audited(tally, rule)

    def _audited(self, tally: Tally, rule: str) -> None:
        tally.rule = tally.would_deny = rule
        tally.audited += 1
        self.audited += 1

    def _refused(self, message: ConnectionRefused) -> None:
        tally = self._touch(message, message.closed)
        if tally is not None:
            tally.refused += 1
            tally.rule = message.rule

    def _touch(
        self, message: ConnectionOpened | ConnectionRefused, now: float
    ) -> Tally | None:
        """The tally of its flow, which is the one seen last from now on."""
        flow = _flow(message)
        if flow is None:
            return None
        flows = self._flows(flow)
        tally = flows.pop(flow, None) or Tally(now, now)
        flows[flow] = tally
        if len(flows) > self.limit:
            del flows[next(iter(flows))]
            self.dropped += 1
        tally.last = now
        _came_from(message, tally)
        return tally

    def _flows(self, flow: Flow) -> dict[Flow, Tally]:
        return self._meshed if flow.meshed else self._plaintext


def _flow(message: ConnectionOpened | ConnectionRefused) -> Flow | None:
    """
    Its flow, where it arrived here; None for one that left.

    A direct connection is told by the client's side alone, which is this node too. By
    a Service's address it does not tell the pod's port; the tunnel that went before
    it has.
    """
    source, to = message.source, message.destination
    is_direct = message.path == "direct"
    if message.direction != "inbound" and (not is_direct or to.service):
        return None
    try:
        destination = SocketAddress.parse(to.address)
        client = source.identity or str(SocketAddress.parse(source.address).ip)
    except InvalidAddress:
        return None
    if to.workload is None:
        return None
    meshed = source.identity is not None
    return Flow(client, meshed, to.workload, destination.port, message.path)


def _came_from(message: ConnectionOpened | ConnectionRefused, tally: Tally) -> None:
    ip = str(SocketAddress.parse(message.source.address).ip)
    tally.sources.pop(ip, None)
    tally.sources[ip] = message.source.workload
    if len(tally.sources) > MAX_SOURCES:
        del tally.sources[next(iter(tally.sources))]
