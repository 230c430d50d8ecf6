"""Asking for a connection, and giving it up."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from agent.hbone.connection import ConnectRequest, ErrorCode
from agent.hbone.events import StreamReset
from agent.proxy.live import LiveConnection
from agent.proxy.outbound import RENAME_SECONDS, Outbound
from agent.proxy.pool import CannotTunnel, NotYetClean, OtherIdentity, Pool
from agent.proxy.routing import ToPeer
from agent.proxy.tunnel import Tunnel, TunnelLost
from agent.proxy.tunnel_stream import PeerReset, TunnelStream
from agent.proxy.world import World
from agent.workload.directory import Directory
from tests.unit.proxy.joined import scripted, tcp_pair


async def test_giving_up_is_no_end_in_order() -> None:
    """
    The peer may have connected to its application by then, which must see a reset: to
    CANCEL the peer would say a clean end without a byte.
    """
    outbound = Outbound.__new__(Outbound)
    outbound.answer_seconds = 0.01
    live = cast(LiveConnection, SimpleNamespace(session=SimpleNamespace(peer=None)))
    async with scripted() as ends:
        app, sock = tcp_pair()
        request = ConnectRequest("10.0.0.2:80")
        with app, sock, pytest.raises(CannotTunnel, match="no answer"):
            await outbound._accepted(live, ends.tunnel, request, sock)
        events = await ends.hear()
        while not isinstance(events[-1], StreamReset):
            events += await ends.hear()
    assert events[-1] == StreamReset(1, ErrorCode.CONNECT_ERROR)


class Asking(Outbound):
    """Asks a pool of made-up tunnels; each outcome is an error, or a stream."""

    outcomes: list[Exception | None]
    tunnels: list[Tunnel]
    refusals: int
    speaks_early: bool = False

    def __init__(
        self,
        *outcomes: Exception | None,
        refusals: int = 0,
        kind: type[CannotTunnel] = NotYetClean,
    ) -> None:
        self.outcomes, self.refusals, self.tunnels = list(outcomes), refusals, []
        self.kind = kind
        self.world = World(Directory())
        self.pool = cast(Pool, SimpleNamespace(tunnel=self._made))
        self.clean_seconds = 10.0

    async def _made(self, _pod: object, _key: object) -> Tunnel:
        await trio.lowlevel.checkpoint()
        if self.refusals:
            self.refusals -= 1
            raise self.kind("tainted")
        made = cast(Tunnel, SimpleNamespace(unwelcome=False))
        self.tunnels.append(made)
        return made

    async def _accepted(
        self,
        live: LiveConnection,
        tunnel: Tunnel,
        request: ConnectRequest,
        sock: socket.socket,
    ) -> TunnelStream:
        await trio.lowlevel.checkpoint()
        live.spoke_early = self.speaks_early
        outcome = self.outcomes.pop(0)
        tunnel.unwelcome = outcome in (UNWELCOME, UNWELCOME_UNTOUCHED)
        if outcome is not None:
            raise outcome
        return cast(TunnelStream, tunnel)

    async def ask(self) -> TunnelStream:
        pod = SimpleNamespace(uid="u", identity=None)
        session = SimpleNamespace(advance=lambda _: None)
        live = SimpleNamespace(pod=pod, session=session, spoke_early=False)
        peer = SimpleNamespace(uid="p", identity=None)
        to = SimpleNamespace(peer=peer, tunnel=SimpleNamespace(ip=None))
        request = ConnectRequest("10.0.0.2:80")
        with socket.socket() as app:
            return await self._ask(
                cast(LiveConnection, live), cast(ToPeer, to), request, app
            )


LOST, UNWELCOME = TunnelLost("the agent restarted"), TunnelLost("not wanted")
RESET = PeerReset(ErrorCode.CONNECT_ERROR)
UNWELCOME_UNTOUCHED = PeerReset(ErrorCode.REFUSED_STREAM)


class TestAsk:
    async def test_one_fresh_tunnel(self) -> None:
        """A dead one costs one more try; two in a row are a failure."""
        asking = Asking(LOST, None)
        assert await asking.ask() is cast(object, asking.tunnels[1])
        with pytest.raises(PeerReset):
            await Asking(LOST, RESET).ask()

    async def test_waits_for_the_peers_clean_certificate(
        self, autojump_clock: MockClock
    ) -> None:
        """Its agent is about to have one."""
        asking = Asking(None, refusals=4)
        await asking.ask()
        assert 1 < trio.current_time() < 2

    async def test_waits_for_our_own(self, autojump_clock: MockClock) -> None:
        """The peer's agent knows of the taint first; ours hears of it in a moment."""
        asking = Asking(UNWELCOME, UNWELCOME, UNWELCOME, None)
        await asking.ask()
        assert len(asking.tunnels) == 4

    async def test_what_was_said_early_is_not_said_twice(
        self, autojump_clock: MockClock
    ) -> None:
        """Only where the peer has not touched it, as a GOAWAY says."""
        asking = Asking(UNWELCOME_UNTOUCHED, UNWELCOME_UNTOUCHED, None)
        asking.speaks_early = True
        await asking.ask()
        asking = Asking(UNWELCOME, None)
        asking.speaks_early = True
        with pytest.raises(TunnelLost, match="not wanted"):
            await asking.ask()

    async def test_another_identity_is_asked_again_for_a_moment(
        self, autojump_clock: MockClock
    ) -> None:
        """The pod's account changed, and we have not heard of it yet."""
        await Asking(None, refusals=3, kind=OtherIdentity).ask()
        with pytest.raises(OtherIdentity):
            await Asking(refusals=1000, kind=OtherIdentity).ask()
        assert trio.current_time() < 2 * RENAME_SECONDS

    async def test_and_longer_where_we_know_of_the_change(
        self, autojump_clock: MockClock
    ) -> None:
        """Its agent waits for the new certificate."""
        asking = Asking(None, refusals=8, kind=OtherIdentity)
        asking.world.note_renamed("p")
        await asking.ask()
        assert trio.current_time() > RENAME_SECONDS

    async def test_not_for_ever(self, autojump_clock: MockClock) -> None:
        """After ten seconds the application is told."""
        with pytest.raises(NotYetClean):
            await Asking(refusals=1000).ask()
        with pytest.raises(TunnelLost, match="not wanted"):
            await Asking(*[UNWELCOME] * 1000).ask()
        assert 15 < trio.current_time() <= 20
