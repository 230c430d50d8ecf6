"""From a local pod outwards: locate, find a tunnel, ask, relay; or pass through."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Final

import trio

from agent.addresses import ClientAddress, SocketAddress
from agent.errors import Refused
from agent.hbone.connection import ConnectRequest
from agent.hbone.forwarded import format_forwarded
from agent.proxy.balance import Balancer
from agent.proxy.data_path import DataPath
from agent.proxy.dial import Dialer
from agent.proxy.live import LiveConnection, Register
from agent.proxy.patience import Patience
from agent.proxy.pod import LocalPod
from agent.proxy.pool import CannotTunnel, NotYetClean, OtherIdentity, Pool, PoolKey
from agent.proxy.relay import relay
from agent.proxy.routing import NoRoute, Outside, ToPeer, route
from agent.proxy.seams import KernelMaps
from agent.proxy.session import End, State
from agent.proxy.sockets import closing
from agent.proxy.tunnel import Tunnel, TunnelLost
from agent.proxy.tunnel_stream import PeerReset, TunnelStream
from agent.proxy.world import World
from agent.workload.directory import Endpoint, VirtualService


class PeerRefused(Refused):
    """The destination's agent answered our CONNECT with something else than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


RENAME_SECONDS: Final = 2.0
DENIED: Final = 401
ANSWERS = {
    400: "the destination's agent does not know this address (400)",
    401: "the destination's policy does not permit it (401)",
    503: "the destination's agent could not reach the application (503)",
}


@dataclass(slots=True, eq=False)
class Outbound:
    """Serves the outbound listeners of every pod of this worker."""

    register: Register
    maps: KernelMaps
    dialer: Dialer
    pool: Pool
    path: DataPath
    world: World
    answer_seconds: float
    clean_seconds: float
    """How long an application waits for certificates that count."""
    balancer: Balancer = field(default_factory=Balancer)

    async def serve(
        self, pod: LocalPod, sock: socket.socket, peer: SocketAddress
    ) -> None:
        """Serve one accepted connection; owns `sock`."""
        original = self.maps.take_original(pod.netns_cookie, ClientAddress(peer))
        family = peer.ip.version if original is None else original.ip.version
        client = _own(pod, peer, family)
        live = self.register.begin(
            pod,
            "outbound",
            "tunnel",
            End(str(client), pod.name, str(pod.identity)),
            End(str(original or "127.0.0.1:15001")),
        )

        async def work() -> None:
            with closing(sock):
                if original is None:
                    raise NoRoute("a connection to the agent's own outbound port")
                if not pod.addresses:
                    raise NoRoute("the pod has no address of its own")
                directory = self.world.known()

                def choose(service: VirtualService) -> Endpoint:
                    return self.balancer.choose(
                        service, client.ip, now=trio.current_time()
                    )

                decided = route(original, pod.addresses, directory, choose)
                with self.balancer.counting(decided):
                    await self._follow(live, decided, sock, client)

        await self.register.run(live, work)

    async def _follow(
        self,
        live: LiveConnection,
        decided: ToPeer | Outside,
        sock: socket.socket,
        client: ClientAddress,
    ) -> None:
        live.session.advance(State.LOCATED)
        asked = live.session.destination.address
        match decided:
            case Outside(destination, service):
                live.session.path = "passthrough"
                live.session.destination = End(asked, service=service)
                await self._pass_through(live, destination, sock)
            case ToPeer(peer, _, _, service):
                live.session.destination = End(
                    asked, peer.name, str(peer.identity), service
                )
                await self._through_tunnel(live, decided, sock, client)

    async def _pass_through(
        self, live: LiveConnection, to: SocketAddress, sock: socket.socket
    ) -> None:
        live.outside = to
        onward = await self.dialer.reach(live.pod, to)
        with closing(onward):
            live.opened()
            traffic = live.session.traffic
            account = self.path.accounts.of(live.pod.uid)
            await relay(
                sock, onward, traffic, self.path.reactor, account, live.is_revoked
            )

    async def _through_tunnel(
        self,
        live: LiveConnection,
        to: ToPeer,
        sock: socket.socket,
        client: ClientAddress,
    ) -> None:
        request = ConnectRequest(str(to.delivery), format_forwarded(client))
        try:
            stream = await self._ask(live, to, request, sock)
        except PeerRefused as refused:
            if refused.status != DENIED:
                raise
            raise PeerRefused(DENIED, f"{refused}; {_where_to_ask(live, to)}") from None
        live.stream = stream
        with stream.aborting():
            live.opened()
            await stream.relay(sock, live.meter(app_is_client=True))

    async def _ask(
        self,
        live: LiveConnection,
        to: ToPeer,
        request: ConnectRequest,
        sock: socket.socket,
    ) -> TunnelStream:
        """
        An accepted stream to the destination.

        A pooled tunnel may turn out to be dead, its agent restarted: then one fresh
        tunnel is tried. A certificate at either end may be tainted or revoked, and its
        agent about to have a clean one, or about to hear of it: then tries go on for
        a while. Nothing is sent twice: where application bytes went along with the
        CONNECT, only if the peer says that it has not touched it.
        """
        pod, patience, fresh = live.pod, Patience(self.clean_seconds), False
        tunnel = await self._tunnel(pod, to, patience)
        live.session.advance(State.IDENTIFIED)
        while True:
            try:
                return await self._accepted(live, tunnel, request, sock)
            except (TunnelLost, PeerReset) as error:
                untouched = isinstance(error, PeerReset) and error.untouched
                again = untouched or not live.spoke_early
                if again and tunnel.unwelcome:
                    again = await patience.pause()
                elif again:
                    again, fresh = not fresh, True
                if not again:
                    raise
                before, tunnel = tunnel, await self._tunnel(pod, to, patience)
                if tunnel is before:
                    raise

    async def _tunnel(self, pod: LocalPod, to: ToPeer, patience: Patience) -> Tunnel:
        """
        A pod's ServiceAccount may change: its agent, ours and the certificate are not
        quite at one time, so another identity is asked again, for a moment where we
        have not heard of a change.
        """
        surprise = Patience(min(RENAME_SECONDS, self.clean_seconds))
        while True:
            try:
                return await self.pool.tunnel(pod, self._key(pod, to))
            except NotYetClean:
                if not await patience.pause():
                    raise
            except OtherIdentity:
                renamed = self.world.was_renamed(to.peer.uid)
                if not await (patience if renamed else surprise).pause():
                    raise

    def _key(self, pod: LocalPod, to: ToPeer) -> PoolKey:
        """The pair of workloads, under the identities that they have now."""
        now = self.world.known().peer_at(to.tunnel.ip)
        peer = now if now is not None and now.uid == to.peer.uid else to.peer
        return PoolKey(pod.uid, pod.identity, peer.uid, peer.identity, to.tunnel)

    async def _accepted(
        self,
        live: LiveConnection,
        tunnel: Tunnel,
        request: ConnectRequest,
        sock: socket.socket,
    ) -> TunnelStream:
        live.session.peer = tunnel.told_peer
        stream = tunnel.open_stream(request)
        if tunnel.heard_lately:
            live.spoke_early = stream.send_early(sock)
        # Not CANCEL, which means an end in order to a peer that has connected already:
        # its application would see a connection that ends cleanly without a byte.
        with stream.aborting():
            status = await self._answer(stream)
            if status != 200:
                text = ANSWERS.get(status, f"the destination's agent answered {status}")
                raise PeerRefused(status, text)
        live.session.advance(State.AUTHORIZED)
        return stream

    async def _answer(self, stream: TunnelStream) -> int:
        """The peer connects to its application first: it has that long, and some."""
        seconds = self.answer_seconds
        with trio.move_on_after(seconds):
            return await stream.answer()
        raise CannotTunnel(f"no answer to the CONNECT within {seconds:g} s")


def _where_to_ask(live: LiveConnection, to: ToPeer) -> str:
    """
    The rule is known to the destination's node alone, which does not disclose it: a
    client learns that it is denied, not by what.
    """
    port = to.delivery.port
    command = f"podlock authz check --from {live.pod.name} --to {to.peer.name}"
    return f"on node {to.peer.node or 'unknown'}: `{command} --port {port}`"


def _own(pod: LocalPod, peer: SocketAddress, version: int) -> ClientAddress:
    """The client as others know it: the pod's address of a family, its own port."""
    same_family = (ip for ip in pod.addresses if ip.version == version)
    return ClientAddress(SocketAddress(next(same_family, peer.ip), peer.port))
