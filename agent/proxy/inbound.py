"""From a tunnel to a local pod: identify, admit, authorize, deliver, relay."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import partial

import trio

from agent.addresses import ClientAddress, DeliveryAddress, SocketAddress
from agent.errors import PodlockError, Refused
from agent.hbone.connection import Connection, ConnectRequest, ErrorCode, Role
from agent.identity.chain import CertificateTainted
from agent.identity.crl import CertificateRevoked
from agent.policy.decision import Denied, Request
from agent.proxy.admission import NotAdmitted, client_address, delivery_address
from agent.proxy.contact import Contact, NoContact
from agent.proxy.data_path import DataPath
from agent.proxy.dial import CannotConnect, Dialer
from agent.proxy.limits import ProxyLimits
from agent.proxy.live import LiveConnection, Register
from agent.proxy.papers import Papers
from agent.proxy.pod import LocalPod
from agent.proxy.session import End, State
from agent.proxy.tls import ContextStore, verified_peer
from agent.proxy.transport import Transport
from agent.proxy.tunnel import Tunnel
from agent.proxy.tunnel_stream import TunnelStream
from agent.proxy.world import World
from agent.tcp import close_hard


class TooManyTunnels(Refused):
    """A pod has as many tunnels and handshakes under way as it may."""


@dataclass(slots=True, eq=False)
class InboundTunnels:
    """Serves the tunnel listeners of every pod of this worker."""

    register: Register
    contexts: ContextStore
    dialer: Dialer
    path: DataPath
    limits: ProxyLimits
    world: World
    contact: Contact
    nursery: trio.Nursery

    async def serve(
        self, pod: LocalPod, sock: socket.socket, peer: SocketAddress
    ) -> None:
        """Serve one accepted tunnel; owns `sock`."""
        pod.tunnels_from[peer.ip] += 1
        try:
            await self._serve(pod, sock, peer)
        finally:
            pod.tunnels_from[peer.ip] -= 1
            if not pod.tunnels_from[peer.ip]:
                del pod.tunnels_from[peer.ip]

    async def _serve(
        self, pod: LocalPod, sock: socket.socket, peer: SocketAddress
    ) -> None:
        try:
            self._refuse_too_many(pod, peer)
            tunnel = await self._establish(pod, sock, peer)
        except (PodlockError, OSError) as error:
            close_hard(sock)
            text = f"tunnel from {peer} refused: {error}"
            self.register.incident("tunnel-refused", pod.name, text)
            return
        if not pod.listening:
            tunnel.shut("the pod takes no tunnels any more")
            return
        pod.tunnels.add(tunnel)
        try:
            await tunnel.run()
        finally:
            pod.tunnels.discard(tunnel)
        if tunnel.broken:
            text = f"tunnel from {peer} ({tunnel.peer.spiffe_id}): {tunnel.closed}"
            self.register.incident("tunnel-broken", pod.name, text)

    def _refuse_too_many(self, pod: LocalPod, peer: SocketAddress) -> None:
        """
        Tunnels and handshakes, of one address and of all: each tunnel may make us
        hold a connection window, and a handshake costs its sender nothing.
        """
        theirs, all_of_them = pod.tunnels_from[peer.ip], pod.tunnels_from.total()
        if theirs > self.limits.tunnels_per_source:
            raise TooManyTunnels(f"{theirs - 1} tunnels from {peer.ip} are open")
        if all_of_them > self.limits.connections_per_pod:
            raise TooManyTunnels(f"{all_of_them - 1} tunnels are open")

    async def _establish(
        self, pod: LocalPod, sock: socket.socket, address: SocketAddress
    ) -> Tunnel:
        # Before there is an identity to account to.
        account = self.path.accounts.of(address.ip)
        contexts = await self.contexts.wait(
            pod.identity, self.limits.credential_timeout_seconds
        )
        transport = await Transport.handshake(
            sock,
            contexts.server,
            server=True,
            timeout_seconds=self.limits.handshake_timeout_seconds,
            steps=partial(self.path.turns.turn, account),
        )
        try:
            peer = verified_peer(transport.tls, contexts.judge, None)
            tunnel = Tunnel(
                transport,
                Connection(Role.SERVER),
                Papers(contexts.chain, peer),
                self.limits,
                self.path,
                on_request=partial(self._requested, pod),
                on_malformed=partial(self._malformed, pod),
            )
        except BaseException:
            transport.close()
            raise
        self._require_good(tunnel)
        return tunnel

    def _require_good(self, tunnel: Tunnel) -> None:
        """
        Raises: CertificateTainted, CertificateRevoked; the peer is told so, since
        there may be another certificate in a moment, and then it comes again.
        """
        try:
            tunnel.papers.require_good(self.contexts.distrust)
        except (CertificateTainted, CertificateRevoked) as error:
            tunnel.shut(str(error), ErrorCode.INADEQUATE_SECURITY)
            raise

    def _requested(
        self, pod: LocalPod, tunnel: Tunnel, stream: TunnelStream, asked: ConnectRequest
    ) -> None:
        if self.register.count(pod, "inbound") >= self.limits.connections_per_pod:
            stream.refuse(503)
            text = f"a connection of {tunnel.peer.spiffe_id} refused: too many are open"
            self.register.incident("limit", pod.name, text)
            return
        try:
            self.contact.require()
        except NoContact as error:
            stream.refuse(503)
            text = f"a connection of {tunnel.peer.spiffe_id} refused: {error}"
            self.register.incident("control-silent", pod.name, text)
            return
        self.nursery.start_soon(self._serve_stream, pod, tunnel, stream, asked)

    def _malformed(self, pod: LocalPod, tunnel: Tunnel, reason: str) -> None:
        text = f"{tunnel.peer.spiffe_id} at {tunnel.remote}: {reason}"
        self.register.incident("request-refused", pod.name, text)

    async def _serve_stream(
        self, pod: LocalPod, tunnel: Tunnel, stream: TunnelStream, asked: ConnectRequest
    ) -> None:
        identity = tunnel.peer.spiffe_id
        name = self.world.name_of(identity, tunnel.remote.ip)
        live = self.register.begin(
            pod,
            "inbound",
            "tunnel",
            End(str(tunnel.remote), name, str(identity)),
            End(asked.authority[:80], pod.name, str(pod.identity)),
        )
        live.session.peer = tunnel.told_peer
        live.session.advance(State.IDENTIFIED)
        live.stream = stream
        stream.watch(live.revoke)
        work = partial(self._admit_and_relay, live, tunnel, stream, asked)
        await self.register.run(live, work)

    async def _admit_and_relay(
        self,
        live: LiveConnection,
        tunnel: Tunnel,
        stream: TunnelStream,
        asked: ConnectRequest,
    ) -> None:
        try:
            async with self.path.turns.turn(tunnel.account):
                to, client = self._admit(live, tunnel, asked)
            app = await self.dialer.deliver(live.pod, to, client)
        except (NotAdmitted, Denied, CannotConnect) as error:
            stream.refuse(_status(error))
            raise
        except BaseException:
            stream.abort(ErrorCode.INTERNAL_ERROR)
            raise
        traffic = live.session.traffic
        with self.dialer.carrying(live.pod, app, traffic), stream.aborting():
            stream.accept()
            live.opened()
            await stream.relay(app, live.meter(app_is_client=False))

    def _admit(
        self, live: LiveConnection, tunnel: Tunnel, asked: ConnectRequest
    ) -> tuple[DeliveryAddress, ClientAddress]:
        """Decide in one step: where to connect to, and for whom."""
        to = delivery_address(asked.authority, tunnel.local.ip)
        client = client_address(asked.forwarded, tunnel.remote)
        live.session.advance(State.LOCATED)
        source = live.session.source
        live.session.source = End(str(client), source.workload, source.identity)
        identity, peer = tunnel.peer.spiffe_id, tunnel.remote.ip
        live.authorize(Request(identity, peer, to.port, to.ip))
        return to, client


def _status(error: NotAdmitted | Denied | CannotConnect) -> int:
    match error:
        case NotAdmitted():
            return error.status
        case Denied():
            return 401
        case CannotConnect():
            return 503
