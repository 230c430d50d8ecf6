"""
A proxy worker: the process that carries connections, and nothing else.

It knows what control tells it (agent/proxy/instructions.py) and tells control what
happens (agent/workload/connection.py). When control goes, the worker ends: nobody
would tell it of a revoked policy or a renewed certificate any more, so it fails
closed. Run as `python -m agent.app.worker FD PINS LEVEL FORMAT`.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, assert_never, cast

import trio

from agent.addresses import ClientAddress, SocketAddress
from agent.app.descriptors import allow_descriptors
from agent.app.dumps import forbid_dumps
from agent.app.oom import go_before_control
from agent.errors import PodlockError
from agent.identity.crl import RevocationList, Revocations
from agent.identity.spiffe import SpiffeId
from agent.identity.trust import Trust
from agent.log import LogFormat, LogLevel, configure, logger
from agent.proxy import instructions
from agent.proxy.channel import Channel, ChannelClosed
from agent.proxy.contact import TICK_SECONDS, Contact, NoContact
from agent.proxy.data_path import DataPath
from agent.proxy.dial import Dialer
from agent.proxy.inbound import InboundTunnels
from agent.proxy.listener import Acceptor, Serve, beside_bulk, no_patience, yielding
from agent.proxy.live import Register
from agent.proxy.news import News
from agent.proxy.outbound import Outbound
from agent.proxy.plaintext import InboundPlaintext
from agent.proxy.pod import LocalPod
from agent.proxy.pool import Pool
from agent.proxy.recall import Recall
from agent.proxy.session import Direction
from agent.proxy.tls import ContextStore
from agent.proxy.tunnel import Tunnel
from agent.proxy.update import update
from agent.proxy.world import World
from agent.redirect.kernel import RedirectMaps
from agent.redirect.netns import socket_cookie, sockets_in
from agent.tcp import close_hard
from agent.workload.connection import Pong, TrustInstalled, WorldWanted

log = logger()

PR_SET_PDEATHSIG: Final = 1
TELL_SECONDS: Final = 1.0
# How often a worker that drains looks whether its tunnels have closed.
PARTING_SECONDS: Final = 0.02

ServePod = Callable[[LocalPod, socket.socket, SocketAddress], Awaitable[None]]


class KernelSockets:
    """`PodSockets`, as the redirect provides them."""

    open = staticmethod(sockets_in)
    cookie = staticmethod(socket_cookie)


class Worker:
    """The parts of one worker, joined."""

    def __init__(
        self,
        start: instructions.Start,
        maps: RedirectMaps,
        channel: Channel,
        nursery: trio.Nursery,
    ) -> None:
        self._start = start
        self._channel = channel
        self._maps = maps
        self._nursery = nursery
        self._pods: dict[str, LocalPod] = {}
        self._news = News(channel.send)
        limits, self._path = start.limits, DataPath()
        self._contexts = ContextStore()
        self._register = Register(start.worker, self._news.tell, time.time)
        dialer = Dialer(
            maps,
            KernelSockets(),
            self._path.reactor,
            limits.connect_timeout_seconds,
            time.monotonic,
        )
        self._dialer = dialer
        self._pool = Pool(self._contexts, dialer, limits, self._path, nursery)
        self._world = World()
        self._contact = Contact(limits.control_timeout_seconds)
        self._outbound = Outbound(
            self._register,
            maps,
            dialer,
            self._pool,
            self._path,
            self._world,
            2 * limits.connect_timeout_seconds,
            limits.credential_timeout_seconds,
        )
        self._inbound = InboundTunnels(
            self._register,
            self._contexts,
            dialer,
            self._path,
            limits,
            self._world,
            self._contact,
            nursery,
        )
        self._plaintext = InboundPlaintext(
            self._register, dialer, self._path, self._world
        )
        self._recall = Recall(
            self._tunnels,
            lambda identity: self._contexts.current(identity) is not None,
            self._recalled,
            limits.taint_deadline_seconds,
        )

    async def run(self) -> None:
        """Serve until control closes the channel. Raises: ChannelClosed."""
        self._nursery.start_soon(self._path.run)
        self._nursery.start_soon(self._news.run)
        self._nursery.start_soon(self._pool.close_idle)
        self._nursery.start_soon(self._dialer.tidy)
        self._nursery.start_soon(self._recall.run)
        self._nursery.start_soon(self._count_silence)
        while True:
            frame = await self._channel.receive()
            if self._contact.heard():
                self._tell_contact("control answers again: new connections are taken")
            instruction = instructions.decode(frame)
            assert not isinstance(instruction, instructions.Start)
            if isinstance(instruction, instructions.Ping):
                self._news.tell(Pong(number=instruction.number))
            else:
                self._apply(instruction)

    async def _count_silence(self) -> None:
        while True:
            await trio.sleep(TICK_SECONDS)
            if self._contact.tick():
                text = f"no answer for {self._contact.silent_seconds:.0f} s"
                self._tell_contact(f"{text}: no new connections are taken")

    def _tell_contact(self, text: str) -> None:
        log.warning("control", worker=self._start.worker, message=text)
        name = f"worker {self._start.worker}"
        self._register.incident("control-silent", name, text)

    def _apply(self, message: instructions.Instruction) -> None:
        match message:
            case instructions.PodCaptured():
                descriptors = self._channel.take_descriptors(message.descriptors)
                self._capture(LocalPod.adopt(message, descriptors))
            case instructions.PodReleased(uid):
                self._release(uid, "the pod left the mesh or is gone")
            case instructions.CredentialIssued(credential):
                self._contexts.install(credential)
            case instructions.IdentityForgotten(identity):
                self._forget(identity)
            case instructions.TrustUpdated(trust):
                self._trust(trust)
            case instructions.RevocationsUpdated(crls):
                lists = tuple(map(RevocationList.parse, crls))
                self._contexts.revoke(Revocations(lists))
                self._recall.judge(self._contexts.distrust)
            case instructions.WorldUpdated() | instructions.WorldChanged():
                self._update(message)
            case instructions.CountTraffic():
                self._count()
            case instructions.Drain(seconds):
                self._nursery.start_soon(self._drain, seconds)
            case _:
                assert_never(message)

    def _forget(self, identity: SpiffeId) -> None:
        """No new connection speaks as it, not on a tunnel that is open either."""
        self._contexts.forget(identity)
        self._pool.drain(lambda key: key.source == identity)
        for pod in self._pods.values():
            if pod.identity == identity:
                for tunnel in list(pod.tunnels):
                    tunnel.drain()

    def _count(self) -> None:
        self._register.count_traffic()
        if lost := self._news.take_lost():
            text = f"{lost} messages were lost: control did not keep up"
            self._register.incident("lost", f"worker {self._start.worker}", text)

    def _capture(self, pod: LocalPod) -> None:
        held = self._pods.get(pod.uid)
        if held is not None and held.is_where(pod):
            self._rename(held, pod)
            return
        self._release(pod.uid, "the pod was captured anew")
        self._pods[pod.uid] = pod
        tunnels = self._bounded(pod, self._inbound.serve, "inbound")
        plaintext = self._bounded(pod, self._plaintext.serve, "inbound")
        outbound = self._bounded(pod, self._outbound.serve, "outbound")
        pod.acceptors = [
            Acceptor(listener, serve, self._path.reactor, self._nursery, patience)
            for listener, serve, patience in (
                (pod.tunnel, tunnels, self._patience_with_tunnels),
                (pod.inbound, plaintext, no_patience),
                *((each, outbound, self._patience) for each in pod.outbound),
            )
        ]

    def _rename(self, held: LocalPod, pod: LocalPod) -> None:
        """Another identity, the same namespace and addresses: who is there goes on."""
        before = held.identity
        held.become(pod)
        if held.identity != before:
            for tunnel in list(held.tunnels):
                tunnel.drain()
            self._pool.drain(
                lambda key: key.source_uid == held.uid and key.source != held.identity
            )

    def _patience(self) -> float:
        return beside_bulk(self._moves_bulk())

    def _patience_with_tunnels(self) -> float:
        theirs = sum(pod.tunnels_from.total() for pod in self._pods.values())
        return yielding(self._pool.size + theirs, self._moves_bulk())

    def _moves_bulk(self) -> bool:
        return self._path.bulk.lately(trio.current_time())

    def _bounded(self, pod: LocalPod, serve: ServePod, direction: Direction) -> Serve:
        """`serve` for one pod, up to the number of connections that it may have."""
        limit = self._start.limits.connections_per_pod

        async def bounded(sock: socket.socket, peer: SocketAddress) -> None:
            if self._register.count(pod, direction) >= limit:
                self._refuse(pod, sock, peer, "limit", f"{limit} are open")
                return
            try:
                self._contact.require()
                await serve(pod, sock, peer)
            except NoContact as error:
                self._refuse(pod, sock, peer, "control-silent", str(error))
            except Exception:  # what escapes here would end every connection
                log.exception("connection failed by a bug", peer=str(peer))
                close_hard(sock)

        return bounded

    def _refuse(
        self,
        pod: LocalPod,
        sock: socket.socket,
        peer: SocketAddress,
        kind: str,
        why: str,
    ) -> None:
        """Before anything is known of it; what the kernel has noted of it goes too."""
        self._maps.take_original(pod.netns_cookie, ClientAddress(peer))
        close_hard(sock)
        text = f"connection from {peer} refused: {why}"
        self._register.incident(kind, pod.name, text)

    def _release(self, uid: str, reason: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None:
            self._dialer.forget(pod)
            self._pool.purge(lambda key: key.source_uid == uid, reason)
            self._register.end_of_pod(pod, reason)
            pod.close()

    def _update(
        self, told: instructions.WorldUpdated | instructions.WorldChanged
    ) -> None:
        gap = update(told, self._world, self._pods, self._register, self._pool)
        if gap is not None:
            self._news.tell(WorldWanted(reason=gap))

    def _trust(self, trust: Trust) -> None:
        """In force for handshakes and live tunnels when control hears so."""
        if self._contexts.trust(trust):
            self._drain_tunnels()
        self._recall.judge(self._contexts.distrust)
        self._news.tell(TrustInstalled(version=trust.version))

    def _recalled(self, tunnel: Tunnel, reason: str) -> None:
        name = str(tunnel.papers.ours.svid.spiffe_id)
        text = f"tunnel with {tunnel.remote} ({tunnel.peer.spiffe_id}): {reason}"
        self._register.incident("tunnel-recalled", name, text)

    def _tunnels(self) -> Iterator[Tunnel]:
        yield from self._pool.open_tunnels()
        for pod in self._pods.values():
            yield from pod.tunnels

    def _drain_tunnels(self) -> None:
        """New connections shake hands anew; those there are go on."""
        for tunnel in list(self._tunnels()):
            tunnel.drain()

    async def _drain(self, seconds: float) -> None:
        for pod in self._pods.values():
            pod.stop_listening()
        self._drain_tunnels()
        with trio.move_on_after(seconds):
            await self._register.wait_empty()
            # A drained tunnel closes when its peer has read all: not before, or what
            # is in the kernel still would be lost with us.
            while any(self._tunnels()):  # noqa: ASYNC110  (two owners, once a life)
                await trio.sleep(PARTING_SECONDS)
        # What happened last is worth telling too.
        with trio.move_on_after(TELL_SECONDS):
            await self._news.finish()
        self._nursery.cancel_scope.cancel()


async def serve(descriptor: int, pins: Path) -> None:
    """Be a worker over an inherited socket. Returns when control is gone."""
    channel = Channel(socket.socket(fileno=descriptor))
    maps = RedirectMaps.open(pins)
    try:
        start = instructions.decode(await channel.receive())
        if not isinstance(start, instructions.Start):
            raise PodlockError("the first message was not Start")
        async with trio.open_nursery() as nursery:
            worker = Worker(start, maps, channel, nursery)
            try:
                await worker.run()
            except ChannelClosed:
                nursery.cancel_scope.cancel()
    finally:
        channel.close()
        maps.close()


def main(arguments: list[str]) -> int:
    """Entry point of the worker process."""
    descriptor, pins, level, form = arguments
    configure(cast(LogLevel, level), cast(LogFormat, form))
    go_before_control()
    forbid_dumps()
    # Control's death ends us even if it could not close the channel.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    allow_descriptors()
    for number in (signal.SIGINT, signal.SIGHUP):  # control decides when we stop
        signal.signal(number, signal.SIG_IGN)
    trio.run(serve, int(descriptor), Path(pins))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
