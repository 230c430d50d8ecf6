"""Few handshakes: callers share tunnels, and never one that is another workload's."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import pytest
import trio
import trio.testing

from agent.addresses import SocketAddress, TunnelAddress
from agent.errors import PodlockError
from agent.hbone.connection import Connection, ConnectRequest, ErrorCode, Role
from agent.identity.authority import Authority
from agent.identity.bundle import Bundle
from agent.identity.spiffe import SpiffeId
from agent.identity.trust import Trust
from agent.proxy.data_path import DataPath
from agent.proxy.dial import CannotConnect, Dialer
from agent.proxy.limits import ProxyLimits
from agent.proxy.papers import Papers
from agent.proxy.pod import LocalPod
from agent.proxy.pool import (
    TUNNELS_BESIDE_BULK,
    CannotTunnel,
    NotYetClean,
    Pool,
    PoolKey,
)
from agent.proxy.tls import ContextStore, build_contexts, verified_peer
from agent.proxy.transport import Transport
from agent.proxy.tunnel import Tunnel
from tests.unit.identity.parts import API, BATCH, TD, credential_for, make_authority
from tests.unit.proxy.joined import data_path

WEB = SpiffeId.for_workload(TD, "shop", "web")


@dataclass(slots=True, eq=False)
class Far:
    """A destination's agent: takes tunnels as `identity`; also the pool's dialer."""

    nursery: trio.Nursery
    path: DataPath
    authority: Authority
    identity: SpiffeId = API
    reachable: bool = True
    dialled: int = 0
    tunnels: list[Tunnel] = field(default_factory=list)
    limits: ProxyLimits = field(default_factory=ProxyLimits)
    trusted: Bundle | None = None

    async def reach(self, _pod: LocalPod, to: SocketAddress) -> socket.socket:
        self.dialled += 1
        await trio.lowlevel.checkpoint()
        if not self.reachable:
            raise CannotConnect(f"{to}: connection refused")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far, _ = listener.accept()
        for sock in (near, far):
            sock.setblocking(False)
        self.nursery.start_soon(self._serve, far)
        return near

    async def _serve(self, sock: socket.socket) -> None:
        credential = credential_for(self.authority, self.identity, datetime.now(UTC))
        contexts = build_contexts(credential, self.trusted or self.authority.bundle)
        try:
            transport = await Transport.handshake(
                sock, contexts.server, server=True, timeout_seconds=5
            )
        except PodlockError:
            return
        peer = verified_peer(transport.tls, contexts.judge, None)
        papers = Papers(contexts.chain, peer)
        codec = Connection(Role.SERVER)
        tunnel = Tunnel(transport, codec, papers, self.limits, self.path)
        self.tunnels.append(tunnel)
        await tunnel.run()


@dataclass(slots=True, eq=False)
class Setting:
    """A pool, its far end, a pod and the key of the pair."""

    pool: Pool
    far: Far
    pod: LocalPod
    key: PoolKey
    store: ContextStore


@asynccontextmanager
async def setting() -> AsyncIterator[Setting]:
    authority = make_authority(datetime.now(UTC))
    store = ContextStore()
    store.trust(Trust(1, authority.bundle))
    store.install(credential_for(authority, WEB, datetime.now(UTC)))
    address = TunnelAddress(SocketAddress.parse("127.0.0.1:15008"))
    async with data_path() as path, trio.open_nursery() as nursery:
        far = Far(nursery, path, authority)
        limits = ProxyLimits(tunnel_streams=2)
        pool = Pool(store, cast("Dialer", far), limits, path, nursery)
        pod = LocalPod.__new__(LocalPod)
        pod.uid, pod.identity = "u-web", WEB
        key = PoolKey("u-web", WEB, "u-api", API, address)
        yield Setting(pool, far, pod, key, store)
        pool.purge(lambda _key: True, "the test is over")
        for tunnel in far.tunnels:
            tunnel.shut("the test is over")


async def test_callers_at_once_share_one_handshake() -> None:
    """Ten connections that come together dial once."""
    async with setting() as s:
        found: list[Tunnel] = []

        async def take() -> None:
            found.append(await s.pool.tunnel(s.pod, s.key))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(take)
        assert (s.far.dialled, len(set(found))) == (1, 1)
        assert found[0].peer.spiffe_id == API


async def test_a_full_tunnel_gets_a_sister() -> None:
    """Past the limit of streams another tunnel is made, and used."""
    async with setting() as s:
        first = await s.pool.tunnel(s.pod, s.key)
        for _ in range(2):
            first.open_stream(ConnectRequest("127.0.0.1:80"))
        second = await s.pool.tunnel(s.pod, s.key)
        assert second is not first
        assert await s.pool.tunnel(s.pod, s.key) is second


async def test_a_failure_is_everybodys() -> None:
    """Nobody waits for a second attempt that would fail as well; the next one tries."""
    async with setting() as s:
        s.far.reachable = False
        errors: list[str] = []

        async def take() -> None:
            with pytest.raises(CannotTunnel) as caught:
                await s.pool.tunnel(s.pod, s.key)
            errors.append(str(caught.value))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(take)
        assert s.far.dialled == 1
        assert all("connection refused" in error for error in errors)
        s.far.reachable = True
        assert (await s.pool.tunnel(s.pod, s.key)).usable


async def test_another_workload_at_the_address() -> None:
    """A valid certificate of somebody else is not the peer we asked for."""
    async with setting() as s:
        s.far.identity = BATCH
        with pytest.raises(CannotTunnel, match="sa/batch, expected"):
            await s.pool.tunnel(s.pod, s.key)


async def test_a_tainted_peer() -> None:
    """It may have a clean certificate soon: the error tells it from others."""
    async with setting() as s:
        (anchor,) = s.far.authority.bundle.anchors
        ours = make_authority(datetime.now(UTC))
        both = Bundle(TD, (anchor, *ours.bundle.anchors))
        s.far.trusted = both
        s.store.trust(Trust(2, both, frozenset({anchor.fingerprint})))
        s.store.install(credential_for(ours, WEB, datetime.now(UTC)))
        with pytest.raises(NotYetClean, match="is under the tainted anchor"):
            await s.pool.tunnel(s.pod, s.key)
        s.far.authority = ours
        assert (await s.pool.tunnel(s.pod, s.key)).usable


async def test_an_address_that_passes_on() -> None:
    """A new pod at the same address does not get the old one's tunnel."""
    async with setting() as s:
        old = await s.pool.tunnel(s.pod, s.key)
        s.pool.purge(lambda key: key.peer_uid == "u-api", "another workload now")
        await trio.testing.wait_all_tasks_blocked()
        new = await s.pool.tunnel(s.pod, replace(s.key, peer_uid="u-api-2"))
        assert new is not old
        assert old.closed == "another workload now"


async def test_an_opener_that_is_cancelled_does_not_fail_the_others() -> None:
    """The first of two callers goes away in the middle; the second gets a tunnel."""
    async with setting() as s, trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def give_up() -> None:
            with first:
                await s.pool.tunnel(s.pod, s.key)

        nursery.start_soon(give_up)
        await trio.lowlevel.checkpoint()
        first.cancel()
        tunnel = await s.pool.tunnel(s.pod, s.key)
        assert tunnel.usable


async def test_drained() -> None:
    """A tunnel without streams closes at once when the pool drains."""
    async with setting() as s:
        tunnel = await s.pool.tunnel(s.pod, s.key)
        s.pool.drain(lambda _: True)
        with trio.fail_after(5):
            while tunnel.closed is None:
                await trio.testing.wait_all_tasks_blocked()
        assert tunnel.closed == "drained"


async def test_an_aged_tunnel_gets_a_successor() -> None:
    """It drains: what is on it goes on, and the next connection shakes hands."""
    async with setting() as s:
        old = await s.pool.tunnel(s.pod, s.key)
        stream = old.open_stream(ConnectRequest("127.0.0.1:80"))
        old.drain()
        new = await s.pool.tunnel(s.pod, s.key)
        assert new is not old
        assert old.closed is None
        assert old.streams == 1
        stream.abort(ErrorCode.CANCEL)


async def test_bulk_gets_a_sister() -> None:
    """Beside a tunnel that moves bulk another one is opened, and found quiet."""
    async with setting() as s:
        first = await s.pool.tunnel(s.pod, s.key)
        first._moved_bulk(trio.current_time())
        second = await s.pool.tunnel(s.pod, s.key)
        assert second is not first
        assert await s.pool.tunnel(s.pod, s.key) is second
        assert s.far.dialled == 2


async def test_bulk_does_not_refuse() -> None:
    """Where no other tunnel can be had, the busy one serves."""
    async with setting() as s:
        first = await s.pool.tunnel(s.pod, s.key)
        first._moved_bulk(trio.current_time())
        s.far.reachable = False
        assert await s.pool.tunnel(s.pod, s.key) is first


async def test_only_so_many_beside_bulk() -> None:
    """When bulk moves on all of them, the one with the fewest streams is taken."""
    async with setting() as s:
        for _ in range(TUNNELS_BESIDE_BULK + 2):
            tunnel = await s.pool.tunnel(s.pod, s.key)
            tunnel._moved_bulk(trio.current_time())
        assert s.far.dialled == TUNNELS_BESIDE_BULK


async def test_is_open_until_the_last_has_closed() -> None:
    """A worker that drains waits for it."""
    async with setting() as s:
        assert not any(s.pool.open_tunnels())
        await s.pool.tunnel(s.pod, s.key)
        assert any(s.pool.open_tunnels())
        s.pool.drain(lambda _: True)
        with trio.fail_after(5):
            while any(s.pool.open_tunnels()):
                await trio.lowlevel.checkpoint()
