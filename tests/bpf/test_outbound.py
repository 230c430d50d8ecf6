"""What an enrolled application connects to, and what it is told of it."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.addresses import ClientAddress, SocketAddress
from agent.redirect.enrolment import Capture
from agent.redirect.kernel import RedirectMaps
from agent.redirect.netns import socket_cookie
from tests.bpf.conftest import StartApplication
from tests.bpf.world import (
    ANY,
    ANY4,
    PATIENCE_SECONDS,
    Namespace,
    Talk,
    connected,
    family_of,
    listening,
)

IPPROTO_MPTCP = 262

ANYWHERE = {
    "IPv4": ("203.0.113.9", 4444),
    "IPv6": ("2001:db8::9", 4444),
    "mapped": ("::ffff:203.0.113.9", 4444),
}
LOOPBACK = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", ANY4, "::"]


def client_of(*destination: Any) -> Callable[[Talk], None]:
    """An application that connects once, tells both its names and waits."""

    def main(talk: Talk) -> None:
        try:
            s = connected(*destination)
        except OSError as error:
            talk.say(("refused", error.errno, ""))
            return
        talk.say(("connected", s.getpeername()[:2], s.getsockname()[:2]))
        talk.wait()

    return main


@contextlib.contextmanager
def accepted(
    capture: Capture, host: str
) -> Iterator[tuple[socket.socket, SocketAddress]]:
    """What the agent accepts of a connect to `host`, and from whom."""
    plain4 = host.startswith("::ffff:") or ":" not in host
    s, address = capture.outbound[0 if plain4 else 1].accept()
    with s:
        s.settimeout(PATIENCE_SECONDS)
        yield s, SocketAddress.of(address)


@pytest.mark.parametrize(("host", "port"), ANYWHERE.values(), ids=ANYWHERE)
class TestRedirect:
    def test_agent_learns_the_destination(
        self,
        captured: Capture,
        maps: RedirectMaps,
        pod: Namespace,
        start: StartApplication,
        host: str,
        port: int,
    ) -> None:
        """A connect ends at the agent, which is told once where it was to go."""
        start(pod, client_of(host, port))
        with accepted(captured, host) as (_, client):
            original = maps.take_original(pod.cookie, ClientAddress(client))
            again = maps.take_original(pod.cookie, ClientAddress(client))

        assert original == SocketAddress.of((host, port))
        assert again is None

    def test_client_sees_what_it_asked_for(
        self,
        captured: Capture,
        pod: Namespace,
        start: StartApplication,
        host: str,
        port: int,
    ) -> None:
        """getpeername is the destination, getsockname the pod's own address."""
        child = start(pod, client_of(host, port))
        with accepted(captured, host) as (_, client):
            outcome, peer, own = child.hear()

        mine = {4: pod.ip4, 6: pod.ip6}[SocketAddress.of((host, port)).ip.version]
        shown = f"::ffff:{mine}" if host.startswith("::ffff:") else mine
        assert outcome == "connected"
        assert peer == (host, port)
        assert own == (shown, client.port)

    def test_without_an_agent_it_is_refused(
        self,
        captured: Capture,
        pod: Namespace,
        start: StartApplication,
        host: str,
        port: int,
    ) -> None:
        """A dead agent closes the way; it does not open it."""
        for listener in captured.outbound:
            listener.close()

        child = start(pod, client_of(host, port))

        assert child.hear()[:2] == ("refused", errno.ECONNREFUSED)


class TestLeftAlone:
    @pytest.mark.usefixtures("captured")
    @pytest.mark.parametrize("host", LOOPBACK)
    def test_loopback(self, pod: Namespace, start: StartApplication, host: str) -> None:
        """What stays in the pod is none of ours, by whatever name it is called."""

        def talk_to_itself(talk: Talk) -> None:
            server = listening("::" if ":" in host else ANY4, 8080)
            client = connected(host, 8080)
            server.accept()
            talk.say((client.getpeername()[:2], client.getsockname()[0]))

        peer, own = start(pod, talk_to_itself).hear()

        names = {ANY4: "127.0.0.1", "::": "::1"}
        assert peer == (names.get(host, host), 8080)
        assert own in (names.get(host, host), "127.0.0.1")

    @pytest.mark.usefixtures("captured")
    def test_a_pod_that_is_not_enrolled(
        self,
        outside: Namespace,
        make_pod: Callable[[], Namespace],
        start: StartApplication,
    ) -> None:
        """A neighbour in the same cgroup connects as if there were no Podlock."""
        neighbour = make_pod()
        server = outside.listen(ANY, 7000)

        child = start(neighbour, client_of(*gateway(neighbour), 7000))
        s, client = server.accept()
        outcome, peer, own = child.hear()
        for each in (s, server):
            each.close()

        assert outcome == "connected"
        assert peer == (*gateway(neighbour), 7000)
        assert own == (neighbour.ip4, client[1])

    @pytest.mark.usefixtures("captured")
    def test_udp(self, pod: Namespace, start: StartApplication) -> None:
        """Only TCP is redirected."""

        def main(talk: Talk) -> None:
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.connect(("203.0.113.9", 53))
            talk.say((s.getpeername(), s.getsockname()[0]))

        assert start(pod, main).hear() == (("203.0.113.9", 53), pod.ip4)

    @pytest.mark.usefixtures("captured")
    @pytest.mark.parametrize("mapped", [False, True], ids=["IPv4", "mapped"])
    def test_a_socket_with_passage(
        self,
        pins: Path,
        pod: Namespace,
        outside: Namespace,
        start: StartApplication,
        mapped: bool,
    ) -> None:
        """The agent's own socket reaches the destination itself; until disallowed."""
        server = outside.listen(ANY, 7000)
        (host,) = gateway(pod)
        target = f"::ffff:{host}" if mapped else host

        def agent(talk: Talk) -> None:
            s = socket.socket(family_of(target))
            s.settimeout(PATIENCE_SECONDS)
            maps = RedirectMaps.open(pins)
            maps.allow(socket_cookie(s))
            s.connect((target, 7000))
            maps.disallow(socket_cookie(s))
            talk.say((s.getpeername()[:2], s.getsockname()[0]))

        child = start(pod, agent)
        s, client = server.accept()
        peer, own = child.hear()
        for each in (s, server):
            each.close()

        assert peer == (target, 7000)
        assert own.endswith(pod.ip4)
        assert SocketAddress.of(client).ip == pod.addresses[0]


def gateway(pod: Namespace) -> tuple[str]:
    """The pod's neighbour in the outside namespace."""
    return (pod.ip4.removesuffix(".2") + ".1",)


class TestOneSocketTwice:
    def test_connects_again_after_a_refusal(
        self,
        captured: Capture,
        maps: RedirectMaps,
        pod: Namespace,
        start: StartApplication,
    ) -> None:
        """The second destination counts, and nothing is left of the first."""
        for listener in captured.outbound:
            listener.close()

        def main(talk: Talk) -> None:
            s = socket.socket()  # without a deadline: connect() reports the end itself
            talk.say(s.connect_ex(("203.0.113.9", 1)))
            talk.wait()
            talk.say(s.connect_ex(("203.0.113.10", 2)))
            talk.say(s.getpeername())

        child = start(pod, main)
        assert child.hear() == errno.ECONNREFUSED
        with pod.listen("127.0.0.1", 15001) as restarted:
            child.tell()
            s, client = restarted.accept()
            meant = maps.take_original(
                pod.cookie, ClientAddress(SocketAddress.of(client))
            )
            assert child.hear() == 0
            assert child.hear() == ("203.0.113.10", 2)
            s.close()

        assert meant == SocketAddress.parse("203.0.113.10:2")

    def test_loopback_after_a_refusal_is_loopback(
        self, captured: Capture, pod: Namespace, start: StartApplication
    ) -> None:
        """A socket does not keep the name of a destination that it never reached."""
        for listener in captured.outbound:
            listener.close()

        def main(talk: Talk) -> None:
            server = listening("127.0.0.1", 8080)
            s = socket.socket()
            first = s.connect_ex(("203.0.113.9", 1))
            s.connect(server.getsockname())
            talk.say((first, s.getpeername(), s.getsockname()[0]))

        assert start(pod, main).hear() == (
            errno.ECONNREFUSED,
            ("127.0.0.1", 8080),
            "127.0.0.1",
        )

    def test_a_bound_socket_keeps_its_source(
        self,
        captured: Capture,
        maps: RedirectMaps,
        pod: Namespace,
        start: StartApplication,
    ) -> None:
        """bind() before connect(): the port stays, and the agent finds the flow."""

        def main(talk: Talk) -> None:
            s = socket.socket()
            s.settimeout(PATIENCE_SECONDS)
            s.bind((pod.ip4, 5555))
            s.connect(("203.0.113.9", 80))
            talk.say((s.getpeername(), s.getsockname()))
            talk.wait()

        child = start(pod, main)
        with accepted(captured, "203.0.113.9") as (_, client):
            meant = maps.take_original(pod.cookie, ClientAddress(client))

            assert child.hear() == (("203.0.113.9", 80), (pod.ip4, 5555))
            assert meant == SocketAddress.parse("203.0.113.9:80")


class TestNoWayRound:
    def test_fast_open(
        self,
        captured: Capture,
        maps: RedirectMaps,
        pod: Namespace,
        start: StartApplication,
    ) -> None:
        """sendto with MSG_FASTOPEN connects too, and is redirected."""

        def main(talk: Talk) -> None:
            s = socket.socket()
            s.sendto(b"hello", socket.MSG_FASTOPEN, ("203.0.113.9", 80))
            talk.say(s.getpeername())
            talk.wait()

        child = start(pod, main)
        with accepted(captured, "203.0.113.9") as (s, client):
            assert child.hear() == ("203.0.113.9", 80)
            assert s.recv(5) == b"hello"
            assert maps.take_original(pod.cookie, ClientAddress(client)) is not None

    @pytest.mark.parametrize("host", ["10.9.1.1", "fd09:1::1", "::ffff:10.9.1.1"])
    def test_mptcp(
        self,
        captured: Capture,
        maps: RedirectMaps,
        pod: Namespace,
        outside: Namespace,
        start: StartApplication,
        host: str,
    ) -> None:
        """An MPTCP socket is redirected by its first subflow; nothing gets past."""
        bypassed = outside.listen(ANY, 7000)
        bypassed.settimeout(0)

        def main(talk: Talk) -> None:
            s = socket.socket(family_of(host), socket.SOCK_STREAM, IPPROTO_MPTCP)
            s.connect((host, 7000))
            s.sendall(b"hello")
            talk.say("sent")
            talk.wait()

        child = start(pod, main)
        with bypassed, accepted(captured, host) as (s, client):
            assert child.hear() == "sent"
            assert s.recv(5) == b"hello"
            meant = maps.take_original(pod.cookie, ClientAddress(client))
            with pytest.raises(BlockingIOError):
                bypassed.accept()

        assert meant == SocketAddress.of((host, 7000))
