"""
The tunnels that this worker keeps open, so that a connection rarely shakes hands.

A tunnel belongs to one pair of workloads, by uid and identity, not only by address:
when a pod's address passes to another pod, its tunnels are purged and can not be
mistaken for the newcomer's (ztunnel issues 1637 and 1662).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio

from agent.addresses import TunnelAddress
from agent.errors import PeerError, PodlockError
from agent.hbone.connection import Connection, Role
from agent.identity.certificate import PeerIdentityMismatch
from agent.identity.chain import CertificateTainted
from agent.identity.crl import CertificateRevoked
from agent.identity.spiffe import SpiffeId
from agent.proxy.data_path import DataPath
from agent.proxy.dial import Dialer
from agent.proxy.limits import ProxyLimits
from agent.proxy.papers import Papers
from agent.proxy.pod import LocalPod
from agent.proxy.tls import ContextStore, verified_peer
from agent.proxy.transport import Transport
from agent.proxy.tunnel import Tunnel

# Tunnels for one pair of workloads while bulk moves on each of them.
TUNNELS_BESIDE_BULK: Final = 4


class CannotTunnel(PeerError):
    """No tunnel to the destination could be made; nothing was sent to it."""


class NotYetClean(CannotTunnel):
    """The destination's certificate is tainted or revoked; it may have another soon."""


class OtherIdentity(CannotTunnel):
    """
    The destination proved another identity: the one that it had, perhaps, until its
    agent has the certificate of the new one.
    """


@dataclass(frozen=True, slots=True)
class PoolKey:
    """One pair of workloads, and the address that the destination had then."""

    source_uid: str
    source: SpiffeId
    peer_uid: str
    peer: SpiffeId
    address: TunnelAddress


@dataclass(slots=True, eq=False)
class _Opening:
    """A handshake in progress that others wait for."""

    done: trio.Event = field(default_factory=trio.Event)
    error: PodlockError | None = None


class Pool:
    """Outbound tunnels by `PoolKey`."""

    def __init__(
        self,
        contexts: ContextStore,
        dialer: Dialer,
        limits: ProxyLimits,
        path: DataPath,
        nursery: trio.Nursery,
    ) -> None:
        self._contexts = contexts
        self._dialer = dialer
        self._limits = limits
        self._path = path
        self._nursery = nursery
        self._tunnels: dict[PoolKey, list[Tunnel]] = {}
        self._opening: dict[PoolKey, _Opening] = {}

    async def tunnel(self, pod: LocalPod, key: PoolKey) -> Tunnel:
        """
        A tunnel with room for one more stream; several callers share one handshake.

        One that moves bulk would make a new stream wait behind it, so another is
        opened beside it, up to a few; while that fails the busy one serves.

        Raises: CannotTunnel and other PodlockErrors, for all who waited.
        """
        usable = [t for t in self._tunnels.get(key, ()) if t.usable]
        quiet = next((t for t in usable if not t.moves_bulk), None)
        if quiet is not None:
            return quiet
        if len(usable) >= TUNNELS_BESIDE_BULK:
            return min(usable, key=lambda tunnel: tunnel.streams)
        try:
            return await self._opened(pod, key)
        except PodlockError:
            if not usable or not usable[0].usable:
                raise
            return usable[0]

    async def _opened(self, pod: LocalPod, key: PoolKey) -> Tunnel:
        """The tunnel that somebody is opening, or one that we open."""
        opening = self._opening.get(key)
        if opening is None:
            return await self._open_for_all(pod, key)
        await opening.done.wait()
        if opening.error is not None:
            raise opening.error
        return await self.tunnel(pod, key)

    def open_tunnels(self) -> Iterator[Tunnel]:
        """Every open tunnel."""
        for tunnels in self._tunnels.values():
            yield from tunnels

    @property
    def size(self) -> int:
        """How many tunnels there are, and are being opened."""
        return sum(map(len, self._tunnels.values())) + len(self._opening)

    def purge(self, stale: Callable[[PoolKey], bool], reason: str) -> None:
        """Close every tunnel whose key is `stale`, with the streams on it."""
        for key in [key for key in self._tunnels if stale(key)]:
            for tunnel in list(self._tunnels[key]):
                tunnel.shut(reason)

    def drain(self, stale: Callable[[PoolKey], bool]) -> None:
        """No new streams on these; each closes with its last one."""
        for key in [key for key in self._tunnels if stale(key)]:
            for tunnel in list(self._tunnels[key]):
                tunnel.drain()

    async def close_idle(self) -> None:
        """Forever: close tunnels that carried nothing for a while."""
        while True:
            await trio.sleep(self._limits.idle_tunnel_seconds / 4)
            oldest = trio.current_time() - self._limits.idle_tunnel_seconds
            for tunnels in list(self._tunnels.values()):
                for tunnel in list(tunnels):
                    if tunnel.streams == 0 and tunnel.life.idle_since < oldest:
                        tunnel.shut("idle")

    async def _open_for_all(self, pod: LocalPod, key: PoolKey) -> Tunnel:
        opening = self._opening[key] = _Opening()
        try:
            return await self._open(pod, key)
        except (PodlockError, OSError) as error:
            opening.error = _kind_of(error)(f"tunnel to {key.address}: {error}")
            raise opening.error from error
        finally:
            # A cancelled opener leaves no error: one of those who waited tries next.
            del self._opening[key]
            opening.done.set()

    async def _open(self, pod: LocalPod, key: PoolKey) -> Tunnel:
        contexts = await self._contexts.wait(
            key.source, self._limits.credential_timeout_seconds
        )
        context = contexts.client_for(key.peer.trust_domain)
        sock = await self._dialer.reach(pod, key.address)
        transport = await Transport.handshake(
            sock,
            context,
            server=False,
            timeout_seconds=self._limits.handshake_timeout_seconds,
            steps=partial(self._path.turns.turn, self._path.accounts.of(key.peer)),
        )
        try:
            peer = verified_peer(transport.tls, contexts.judge, key.peer)
            papers = Papers(contexts.chain, peer)
            papers.require_good(self._contexts.distrust)
            codec = Connection(Role.CLIENT)
            tunnel = Tunnel(transport, codec, papers, self._limits, self._path)
        except BaseException:
            transport.close()
            raise
        # Registered in the step that judged it: no change of trust comes between.
        self._tunnels.setdefault(key, []).append(tunnel)
        await self._nursery.start(self._keep, key, tunnel)
        return tunnel

    async def _keep(
        self,
        key: PoolKey,
        tunnel: Tunnel,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        try:
            await tunnel.run(task_status)
        finally:
            tunnels = self._tunnels[key]
            tunnels.remove(tunnel)
            if not tunnels:
                del self._tunnels[key]


def _kind_of(error: PodlockError | OSError) -> type[CannotTunnel]:
    match error:
        case CertificateTainted() | CertificateRevoked():
            return NotYetClean
        case PeerIdentityMismatch():
            return OtherIdentity
        case _:
            return CannotTunnel
