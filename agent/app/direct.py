"""
Same node, direct: keeps the kernel's verdicts those that policy permits.

A verdict is learned from the first connection that the proxy let in, judged again at
every change, and removed in this order: the verdict, which voids what was noted under
it; then the sockets, at both ends. Where anything fails the proxy goes on.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Protocol

from agent.addresses import SocketAddress
from agent.app.tracer import Message, Note, TraceMaps, Tracer
from agent.app.world import World
from agent.errors import KernelError, Refused
from agent.proxy.routing import RESERVED_PORTS
from agent.redirect.inet_diag import DiagSocket
from agent.workload.connection import ConnectionOpened
from agent.workload.direct import (
    Doomed,
    Grounds,
    Pair,
    Residents,
    Revocation,
    services_about,
)

# A pod that opens every port of its neighbours does not push out the pairs of others.
PAIRS_PER_POD: Final = 1024
# Half of the kernel's map, so that it is never full.
MAX_PAIRS: Final = 32_768
# What slips between two looks at a namespace's sockets is found by the second.
SWEEPS: Final = 2


class Maps(TraceMaps, Protocol):
    """`redirect.direct_maps.DirectMaps`."""

    def permit(
        self, netns: int, destination: SocketAddress, verdict: int, there: int
    ) -> None: ...
    def withdraw(self, netns: int, destination: SocketAddress) -> None: ...
    def verdicts(self) -> dict[tuple[int, SocketAddress], int]: ...
    def forget_notes(self, verdicts: Collection[int]) -> None: ...
    def serve(
        self, wanted: Mapping[SocketAddress, Sequence[SocketAddress]]
    ) -> None: ...
    def forget_services(self) -> None: ...


class Sockets(Protocol):
    """The functions of `redirect.sockets`."""

    def probe(self) -> None: ...
    def list_sockets(self, netns_fd: int) -> list[DiagSocket]: ...
    def destroy_sockets(
        self,
        netns_fd: int,
        choose: Callable[[DiagSocket], bool],
        ports: AbstractSet[int] | None = None,
    ) -> int: ...


class Direct:
    """
    The direct connections of this node.

    `enabled` False: none, and what an earlier agent left is ended.
    """

    def __init__(
        self,
        maps: Maps,
        sockets: Sockets,
        note: Note,
        tell: Callable[[Message], None],
        *,
        enabled: bool,
    ) -> None:
        self.enabled = enabled
        self.why_not: str | None = None
        self._maps = maps
        self._sockets = sockets
        self._note = note
        self._tracer = Tracer(maps, sockets.list_sockets, note, tell)
        self._world = World()
        self._residents = Residents()
        self._held: dict[Pair, Grounds] = {}
        self._ids: dict[Pair, int] = {}
        self._in_force: set[Pair] = set()
        self._unfinished: list[Revocation] = []
        self._earlier: dict[Pair, int] = {}
        self._services_fault = ""
        # No agent before us on this boot can have used these: it counted from less.
        self._next_id = time.monotonic_ns()

    @property
    def pairs(self) -> int:
        """How many pairs of a pod and an address talk directly."""
        return len(self._in_force)

    @property
    def unrecorded(self) -> int:
        """How many connections found no room in the kernel's record."""
        return self._tracer.unrecorded

    def start(self) -> None:
        """
        Take back what an earlier agent permitted, before any pod is captured.

        `settle_earlier` judges it, when it is known who is there.
        """
        for (netns, destination), verdict in self._maps.verdicts().items():
            self._maps.withdraw(netns, destination)
            self._earlier[Pair(netns, destination)] = verdict
        self._maps.forget_services()
        if self.enabled:
            try:
                self._sockets.probe()
            except KernelError as error:
                self.enabled, self.why_not = False, str(error)
                text = f"tunnels instead, for nothing could be revoked: {error}"
                self._note("direct-unavailable", "same_node", text)

    # What changes verdicts.

    def refresh(self, world: World) -> None:
        """Judge every pair by the world as it is now; cheap where nothing changed."""
        if world == self._world and not self._unfinished:
            return
        self._world = world
        self._residents = Residents.of(world.residents if self.enabled else ())
        self._held, revoked = self._residents.review(self._held)
        for pair, grounds in self._held.items():
            self._tracer.granted(self._ids[pair], grounds)
        self._revoke(revoked)
        self._enforce()

    def settle_earlier(self) -> None:
        """Go on with an earlier agent's pairs that are permitted; end the others."""
        earlier, self._earlier = self._earlier, {}
        revoked: list[Revocation] = []
        for pair, verdict in earlier.items():
            try:
                self._hold(pair, self._residents.judge(pair), verdict)
            except Refused as refused:
                self._ids[pair] = verdict
                revoked.append(Revocation(pair, None, str(refused)))
        self._revoke(revoked)
        self._enforce()

    def learn(self, told: ConnectionOpened) -> None:
        """The proxy let a connection in; the next one may need no proxy."""
        pair = self._residents.pair_of(told)
        if pair is None or pair in self._held:
            return
        if pair.destination.port in RESERVED_PORTS or self._is_full(pair):
            return
        try:
            grounds = self._residents.judge(pair)
        except Refused:
            return
        if grounds.audit is not None:
            return
        self._next_id += 1
        self._hold(pair, grounds, self._next_id)
        self._enforce_one(pair, grounds)
        self._serve()

    def _is_full(self, pair: Pair) -> bool:
        of_pod = Counter(held.netns for held in self._held)[pair.netns]
        return of_pod >= PAIRS_PER_POD or len(self._held) >= MAX_PAIRS

    def _hold(self, pair: Pair, grounds: Grounds, verdict: int) -> None:
        self._held[pair], self._ids[pair] = grounds, verdict
        self._tracer.granted(verdict, grounds)

    def _enforce(self) -> None:
        for pair, grounds in self._held.items():
            self._enforce_one(pair, grounds)
        self._serve()

    def _enforce_one(self, pair: Pair, grounds: Grounds) -> None:
        """
        In force is what is held, as long as both ends can prove who they are and policy
        does not want to hear of each connection. Live ones go on, as those in tunnels
        do; new ones go by tunnel.
        """
        ends = {grounds.source.identity, grounds.destination.identity}
        good = ends <= self._world.certified and grounds.audit is None
        if good and pair not in self._in_force:
            self._permit(pair, grounds)
        elif not good and pair in self._in_force:
            self._maps.withdraw(pair.netns, pair.destination)
            self._in_force.discard(pair)

    def _permit(self, pair: Pair, grounds: Grounds) -> None:
        verdict, there = self._ids[pair], grounds.destination.netns
        try:
            self._maps.permit(pair.netns, pair.destination, verdict, there)
        except KernelError as error:
            self._note("direct-failed", str(pair.destination), str(error))
        else:
            self._in_force.add(pair)

    def _serve(self) -> None:
        destinations = {pair.destination for pair in self._in_force}
        wanted = services_about(self._world.directory.services, destinations)
        try:
            self._maps.serve(wanted)
        except KernelError as error:
            if str(error) != self._services_fault:
                self._services_fault = str(error)
                self._note("direct-failed", "services", str(error))

    # Revocation.

    def _revoke(self, revoked: Sequence[Revocation]) -> None:
        """The verdicts of all of them first, then their connections."""
        unfinished, self._unfinished = [*self._unfinished, *revoked], []
        ended: set[int] = set()
        for each in revoked:
            self._in_force.discard(each.pair)
            verdict = self._ids.pop(each.pair)
            self._tracer.revoked(verdict, each)
            ended.add(verdict)
        stuck = [each for each in unfinished if not self._withdrawn(each.pair)]
        if ended:
            with contextlib.suppress(KernelError):  # they are void without verdicts
                self._maps.forget_notes(ended)
        if unfinished:
            self._end(unfinished)
        # Once more at the next refresh, sockets and all.
        again = [each for each in stuck if each not in self._unfinished]
        self._unfinished += again

    def _withdrawn(self, pair: Pair) -> bool:
        """Whether a revoked verdict is gone; not one that was learned anew since."""
        try:
            if pair not in self._held:
                self._maps.withdraw(pair.netns, pair.destination)
        except KernelError as error:
            self._note("revocation-failed", str(pair.destination), str(error))
            return False
        return True

    def _end(self, revocations: Sequence[Revocation]) -> None:
        """
        End the connections of revoked pairs, at both ends: neither needs the other.

        What fails is tried again at the next refresh.
        """
        world = self._world
        everybody = Residents.of(world.residents)
        strangers = world.directory.peers.keys() - everybody.by_address.keys()
        doomed = Doomed.of(revocations, everybody, strangers)
        ended: Counter[Pair] = Counter()
        try:
            for _ in range(SWEEPS):
                for netns in doomed.namespaces & world.namespaces.keys():
                    self._sweep(netns, doomed, ended)
        except KernelError as error:
            self._unfinished += revocations
            self._note("revocation-failed", "same_node", str(error))
        for each in revocations:
            if count := ended[each.pair]:
                grounds, to = each.grounds, str(each.pair.destination)
                text = f"{count} sockets of direct connections ended: {each.reason}"
                self._note(
                    "direct-revoked", grounds.destination.name if grounds else to, text
                )

    def _sweep(self, netns: int, doomed: Doomed, ended: Counter[Pair]) -> None:
        def is_doomed(each: DiagSocket) -> bool:
            revocation = doomed.find(netns, each.local, each.remote)
            if revocation is not None:
                ended[revocation.pair] += 1
            return revocation is not None

        fd = self._world.namespaces[netns]
        self._sockets.destroy_sockets(fd, is_doomed, doomed.ports)

    # Records.

    async def collect(self) -> None:
        """Tell the ledger what opened and what ended since the last time."""
        await self._tracer.collect(self._world.directory, self._ids.values())

    async def count(self) -> None:
        """The same, and what every open connection has carried."""
        await self.collect()
        await self._tracer.count(self._world.directory, self._world.namespaces)
