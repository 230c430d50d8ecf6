"""From outside the mesh to a local pod, in plaintext: authorize, deliver, relay."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from agent.addresses import ClientAddress, DeliveryAddress, SocketAddress
from agent.policy.decision import Request
from agent.proxy.admission import NotAdmitted
from agent.proxy.data_path import DataPath
from agent.proxy.dial import Dialer
from agent.proxy.live import LiveConnection, Register
from agent.proxy.pod import LocalPod
from agent.proxy.relay import relay
from agent.proxy.routing import RESERVED_PORTS
from agent.proxy.session import End, State
from agent.proxy.sockets import closing
from agent.proxy.world import World


@dataclass(slots=True, eq=False)
class InboundPlaintext:
    """Serves the inbound listeners of every pod of this worker."""

    register: Register
    dialer: Dialer
    path: DataPath
    world: World

    async def serve(
        self, pod: LocalPod, sock: socket.socket, peer: SocketAddress
    ) -> None:
        """Serve one accepted connection; owns `sock`."""
        # sk_lookup keeps the destination: the socket's own address is what was asked.
        to = DeliveryAddress(SocketAddress.of(sock.getsockname()))
        live = self.register.begin(
            pod,
            "inbound",
            "plaintext",
            End(str(peer), self.world.name_at(peer.ip)),
            End(str(to), pod.name, str(pod.identity)),
        )

        async def work() -> None:
            with closing(sock):
                await self._admit_and_relay(live, sock, to, ClientAddress(peer))

        await self.register.run(live, work)

    async def _admit_and_relay(
        self,
        live: LiveConnection,
        sock: socket.socket,
        to: DeliveryAddress,
        client: ClientAddress,
    ) -> None:
        live.session.advance(State.LOCATED)
        if to.port in RESERVED_PORTS:
            raise NotAdmitted(503, f"port {to.port} belongs to the agent")
        live.authorize(Request(None, client.ip, to.port, to.ip))
        app = await self.dialer.deliver(live.pod, to, client)
        traffic = live.session.traffic
        account = self.path.accounts.of(client.ip)
        with self.dialer.carrying(live.pod, app, traffic):
            live.opened()
            await relay(sock, app, traffic, self.path.reactor, account, live.is_revoked)
