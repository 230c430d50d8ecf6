"""What reaches an enrolled pod from outside, and what its servers are told."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from agent.addresses import ClientAddress, SocketAddress
from agent.errors import InputError
from agent.redirect.enrolment import Capture, Enrolment
from agent.redirect.kernel import RedirectMaps
from agent.redirect.netns import inside
from tests.bpf.conftest import MakePod, StartApplication
from tests.bpf.world import (
    ANY,
    PATIENCE_SECONDS,
    Namespace,
    Talk,
    family_of,
    listening,
)

# l_onoff, l_linger: close() resets, and the source is free at once.
NO_TIME_WAIT = struct.pack("ii", 1, 0)


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def address(request: pytest.FixtureRequest, pod: Namespace) -> str:
    """One of the pod's own addresses."""
    return pod.ip4 if request.param == 4 else pod.ip6


class TestFromOutside:
    @pytest.mark.parametrize("port", [1, 8080, 15001, 15006])
    def test_every_port_is_the_agents(
        self, captured: Capture, outside: Namespace, address: str, port: int
    ) -> None:
        """The agent accepts it, and getsockname says what was asked for."""
        with outside.connect(address, port) as client:
            s, _ = captured.inbound.accept()
            asked = SocketAddress.of(s.getsockname())
            peer = SocketAddress.of(s.getpeername())
            own = SocketAddress.of(client.getsockname())
            s.close()

        assert asked == SocketAddress.of((address, port))
        assert peer == own

    def test_a_server_of_the_pod_is_not_reached(
        self,
        captured: Capture,
        outside: Namespace,
        pod: Namespace,
        start: StartApplication,
    ) -> None:
        """Also where an application listens, the agent comes first."""
        child = start(pod, serve(pod.ip4, 8080))
        child.hear()

        with outside.connect(pod.ip4, 8080):
            s, _ = captured.inbound.accept()
            s.close()

    def test_the_tunnel_has_its_own_listener(
        self, captured: Capture, outside: Namespace, address: str
    ) -> None:
        """Peers reach port 15008 as it is."""
        with outside.connect(address, 15008):
            s, _ = captured.tunnel.accept()
            s.close()

    def test_without_an_agent_it_is_refused(
        self,
        captured: Capture,
        outside: Namespace,
        pod: Namespace,
        address: str,
        start: StartApplication,
    ) -> None:
        """A server of the pod does not get the plaintext that the agent should."""
        start(pod, serve(ANY, 8080)).hear()
        captured.inbound.close()

        with pytest.raises(ConnectionRefusedError):
            outside.connect(address, 8080)

    @pytest.mark.usefixtures("captured")
    def test_within_the_pod_it_is_left_alone(
        self, pod: Namespace, address: str, start: StartApplication
    ) -> None:
        """What arrives on lo is the pod's own, to whichever address."""
        start(pod, serve(ANY, 8080)).hear()

        with pod.connect(address, 8080) as client:
            client.sendall(b"ping")
            assert client.recv(4) == b"ping"

    @pytest.mark.usefixtures("captured")
    def test_a_neighbour_is_left_alone(
        self, outside: Namespace, make_pod: MakePod, start: StartApplication
    ) -> None:
        """A pod that is not captured serves as before."""
        neighbour = make_pod()
        start(neighbour, serve(ANY, 8080)).hear()

        with outside.connect(neighbour.ip4, 8080) as client:
            client.sendall(b"ping")
            assert client.recv(4) == b"ping"


def serve(host: str, port: int) -> Callable[[Talk], None]:
    """An application that sends back what it is sent, connection after connection."""

    def main(talk: Talk) -> None:
        server = listening(host, port)
        talk.say("ready")
        while True:
            s, _ = server.accept()
            s.sendall(s.recv(4))

    return main


def tell_names(host: str, port: int) -> Callable[[Talk], None]:
    """An application that accepts once and tells every name it sees."""

    def main(talk: Talk) -> None:
        server = listening(host, port)
        talk.say("ready")
        s, shown = server.accept()
        talk.say((shown[:2], s.getpeername()[:2], s.getsockname()[:2]))
        talk.wait()
        talk.say(s.getpeername()[:2])

    return main


@pytest.fixture
def source(pod: Namespace, address: str) -> Iterator[socket.socket]:
    """The agent's socket before it delivers: in the pod, bound to its address."""
    with inside(pod.fd):
        s = socket.socket(family_of(address))
    s.settimeout(PATIENCE_SECONDS)
    s.bind((address, 0))
    yield s
    s.close()


@pytest.mark.usefixtures("captured")
class TestDelivery:
    CLIENTS = ("10.244.3.7", "fd00:244::7")

    @pytest.mark.parametrize("server", ["own address", "any address"])
    def test_the_server_sees_the_client(
        self,
        maps: RedirectMaps,
        pod: Namespace,
        address: str,
        source: socket.socket,
        start: StartApplication,
        server: str,
    ) -> None:
        """accept, getpeername and getsockname tell of client and pod, not of us."""
        client = self.CLIENTS[":" in address]
        host = address if server == "own address" else ANY
        child = start(pod, tell_names(host, 8080))
        child.hear()
        announced = ClientAddress(SocketAddress.of((client, 51234)))
        maps.announce(pod.cookie, SocketAddress.of(source.getsockname()), announced)

        source.connect((address, 8080))

        mapped = "::ffff:" if host == ANY and ":" not in address else ""
        shown = (mapped + client, 51234)
        assert child.hear() == (shown, shown, (mapped + address, 8080))

    def test_the_name_lasts_as_long_as_the_connection(
        self,
        maps: RedirectMaps,
        pod: Namespace,
        source: socket.socket,
        address: str,
        start: StartApplication,
    ) -> None:
        """It is kept in the socket: dropping every map entry takes nothing away."""
        client = (self.CLIENTS[":" in address], 51234)
        child = start(pod, tell_names(address, 8080))
        child.hear()
        announced = ClientAddress(SocketAddress.of(client))
        maps.announce(pod.cookie, SocketAddress.of(source.getsockname()), announced)
        source.connect((address, 8080))
        child.hear()

        maps.forget_connections()
        child.tell()

        assert child.hear() == client

    def test_an_announcement_serves_once(
        self, maps: RedirectMaps, pod: Namespace, start: StartApplication
    ) -> None:
        """A later connection from the same source goes by its own name."""
        for expected in (("10.244.3.7", 51234), (pod.ip4, 41000)):
            child = start(pod, tell_names(pod.ip4, 8080))
            child.hear()
            with inside(pod.fd), socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_TIME_WAIT)
                s.bind((pod.ip4, 41000))
                if expected[1] == 51234:
                    own = SocketAddress.of(s.getsockname())
                    client = ClientAddress(SocketAddress.of(expected))
                    maps.announce(pod.cookie, own, client)
                s.settimeout(PATIENCE_SECONDS)
                s.connect((pod.ip4, 8080))
                assert child.hear()[0] == expected
            child.end()

    def test_withdrawn_in_time_it_has_no_effect(
        self,
        maps: RedirectMaps,
        pod: Namespace,
        address: str,
        source: socket.socket,
        start: StartApplication,
    ) -> None:
        """What the agent takes back does not name anybody."""
        child = start(pod, tell_names(address, 8080))
        child.hear()
        own = SocketAddress.of(source.getsockname())
        client = ClientAddress(SocketAddress.parse("10.244.3.7:51234"))
        maps.announce(pod.cookie, own, client)
        maps.withdraw(pod.cookie, own)

        source.connect((address, 8080))

        assert child.hear()[0] == (address, own.port)

    def test_a_pod_cannot_name_a_client(
        self, captured: Capture, pod: Namespace, start: StartApplication
    ) -> None:
        """What a refused connect leaves behind names nobody in the pod's servers."""
        server = start(pod, tell_names("127.0.0.1", 8080))
        server.hear()
        for listener in captured.outbound:
            listener.close()

        def main(talk: Talk) -> None:
            for destination in (("203.0.113.9", 80), ("127.0.0.1", 8080)):
                s = socket.socket()
                s.bind(("127.0.0.1", 41000))
                talk.say(s.connect_ex(destination))

        start(pod, main)

        assert server.hear()[0] == ("127.0.0.1", 41000)


def test_two_pods_do_not_share_an_address(
    enrolment: Enrolment, captured: Capture, make_pod: MakePod, pod: Namespace
) -> None:
    """Inbound connections are told apart by address, so the second is not captured."""
    other = make_pod()

    with pytest.raises(InputError, match=rf"pod twin: {pod.ip4} .* pod {pod.name}"):
        enrolment.capture("twin", other.path, pod.addresses)
