"""Two pods of one node, past the agent: who may, who may not, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from agent.addresses import ClientAddress, SocketAddress, packed_ip
from agent.redirect import pins as kernel
from agent.redirect import records, sockets
from agent.redirect.direct_maps import DirectMaps
from agent.redirect.enrolment import Capture, Enrolment
from agent.redirect.inet_diag import TcpState
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import PinLayout
from agent.redirect.netns import inside
from tests.bpf.conftest import MakePod, StartApplication, blocking
from tests.bpf.world import (
    ANY,
    PATIENCE_SECONDS,
    Namespace,
    Talk,
    connected,
    family_of,
    listening,
    run,
)
from tests.lab.system import wait_until
from tests.patience import patient

PORT = 8080
VERDICT = 7001
NO_TIME_WAIT = struct.pack("ii", 1, 0)
SHORT_SECONDS = patient(0.5)
SYN_SECONDS = patient(35.0)


@dataclass(frozen=True, slots=True)
class Node:
    """Three captured pods of one node; `web` may talk to `api`, and `other` may not."""

    web: Namespace
    api: Namespace
    other: Namespace
    outside: Namespace
    captures: dict[str, Capture]
    maps: RedirectMaps
    start: StartApplication

    @property
    def direct(self) -> DirectMaps:
        return self.maps.direct

    def of(self, pod: Namespace) -> Capture:
        return self.captures[pod.name]

    def permit(self, host: str, verdict: int = VERDICT) -> None:
        """Connections of `web` to port 8080 of that address of `api` are direct."""
        at = SocketAddress.of((host, PORT))
        self.direct.permit(self.web.cookie, at, verdict, self.api.cookie)

    def withdraw(self, host: str) -> None:
        self.direct.withdraw(self.web.cookie, SocketAddress.of((host, PORT)))


@pytest.fixture
def node(
    enrolment: Enrolment,
    maps: RedirectMaps,
    make_pod: MakePod,
    outside: Namespace,
    start: StartApplication,
) -> Iterator[Node]:
    outside.write("/proc/sys/net/ipv4/ip_forward", "1")
    outside.write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
    for name in ("all", "default"):
        outside.write(f"/proc/sys/net/ipv4/conf/{name}/rp_filter", "0")
    web, api, other = (make_pod() for _ in range(3))
    captures = {
        pod.name: blocking(enrolment.capture(pod.name, pod.path, pod.addresses))
        for pod in (web, api, other)
    }
    node = Node(web, api, other, outside, captures, maps, start)
    yield node
    for netns, at in node.direct.verdicts():
        node.direct.withdraw(netns, at)
    node.direct.serve({})
    node.direct.forget_services()
    for cookie, _ in node.direct.traces():
        node.direct.forget_trace(cookie)
    node.direct.forget_notes(range(10_000))
    for capture in captures.values():
        enrolment.release(capture)


# Applications.


def serve(talk: Talk) -> None:
    """Accept on both families; tell the names, then send back what comes."""
    server = listening(ANY, PORT)
    server.settimeout(None)
    talk.say("ready")
    while True:
        s, shown = server.accept()
        talk.say((shown[:2], s.getpeername()[:2], s.getsockname()[:2]))
        try:
            while data := s.recv(1 << 16):
                s.sendall(data)
            s.close()
        except OSError as error:
            talk.say(error.errno)


def call(
    host: str,
    port: int = PORT,
    bind: Any = None,
    seconds: float = PATIENCE_SECONDS,
) -> Callable[[Talk], None]:
    """Connect and tell the names; then say what comes back for each word told."""

    def main(talk: Talk) -> None:
        s = socket.socket(family_of(host))
        s.settimeout(seconds)
        if bind:
            s.bind(bind)
        try:
            s.connect((host, port))
        except OSError as error:
            talk.say(("failed", error.errno or "timed out", ""))
            return
        talk.say(("connected", s.getpeername()[:2], s.getsockname()[:2]))
        while word := talk.wait():
            try:
                s.sendall(word)
                talk.say(s.recv(len(word)))
            except OSError as error:
                talk.say(error.errno)
        s.close()
        talk.say("closed")

    return main


def nobody(listener: socket.socket) -> bool:
    """Whether nothing waits at a listener."""
    listener.settimeout(SHORT_SECONDS)
    with contextlib.suppress(TimeoutError):
        s, _ = listener.accept()
        s.close()
        return False
    return True


def plain(host: str) -> str:
    return host.removeprefix("::ffff:")


@pytest.fixture(params=["IPv4", "IPv6", "mapped"])
def host(request: pytest.FixtureRequest, node: Node) -> str:
    """An address of `api`, as an application may write it."""
    return {
        "IPv4": node.api.ip4,
        "IPv6": node.api.ip6,
        "mapped": f"::ffff:{node.api.ip4}",
    }[str(request.param)]


@contextlib.contextmanager
def cut(node: Node) -> Iterator[None]:
    """Nothing from `web` gets further than the node."""
    rule = ("rule", "{}", "iif", "veth1", "blackhole")
    run("ip", "-n", node.outside.name, *(p.format("add") for p in rule))
    try:
        yield
    finally:
        run("ip", "-n", node.outside.name, *(p.format("del") for p in rule))


@contextlib.contextmanager
def knocking(node: Node) -> Iterator[SocketAddress]:
    """A permitted connect whose SYN got lost: noted, and nothing at the server yet."""
    with cut(node):
        node.start(node.web, call(node.api.ip4, seconds=SYN_SECONDS))
        yield wait_until(lambda: sources(node), "the SYN", 5)[0]
    # The SYN comes again after 1, 3, 7, 15 seconds (RFC 6298, 2.1 and 5.5).
    node.of(node.api).inbound.settimeout(SYN_SECONDS)


def sources(node: Node) -> list[SocketAddress]:
    return [trace.source for _, trace in node.direct.traces()]


def noted(node: Node, pins: Any) -> Any:
    return kernel.PinnedMap.open(PinLayout(pins).maps / "noted")


def note_of(source: SocketAddress, destination: SocketAddress) -> bytes:
    return records.pack_address(source) + records.pack_address(destination)


class TestPermitted:
    def test_both_ends_see_true_addresses(self, node: Node, host: str) -> None:
        """It goes straight to the application, and no agent is asked."""
        node.permit(host)
        server = node.start(node.api, serve)
        server.hear()
        client = node.start(node.web, call(host))

        outcome, peer, own = client.hear()
        accepted, seen, at = server.hear()
        client.tell(b"ping")

        web = node.web.ip6 if host == node.api.ip6 else node.web.ip4
        assert outcome == "connected"
        assert peer == (host, PORT)
        assert SocketAddress.of(own).ip == SocketAddress.of((web, 1)).ip
        assert SocketAddress.of(accepted) == SocketAddress.of(own)
        assert seen == accepted
        assert SocketAddress.of(at) == SocketAddress.of((host, PORT))
        assert client.hear() == b"ping"

    def test_without_a_verdict_it_goes_to_the_agent(
        self, node: Node, host: str
    ) -> None:
        """Another port, another address or no verdict at all: the agent has it."""
        node.permit(host)
        node.withdraw(host)
        other = SocketAddress.of((host, 81))
        node.direct.permit(node.web.cookie, other, VERDICT, node.api.cookie)
        node.start(node.web, call(host))

        s, client = node.of(node.web).outbound[":" in plain(host)].accept()
        s.close()

        source = ClientAddress(SocketAddress.of(client))
        original = node.maps.take_original(node.web.cookie, source)
        assert original == SocketAddress.of((host, PORT))

    def test_of_another_pod_is_of_no_use(self, node: Node) -> None:
        """A verdict is about one pod's namespace."""
        node.permit(node.api.ip4)
        node.start(node.other, call(node.api.ip4))
        s, _ = node.of(node.other).outbound[0].accept()
        s.close()

    def test_without_an_agent_it_is_refused(self, node: Node, host: str) -> None:
        """Verdicts outlive an agent; that they are used does not."""
        node.permit(host)
        node.start(node.api, serve).hear()
        for capture in (node.of(node.api), node.of(node.web)):
            for listener in (capture.inbound, *capture.outbound):
                listener.close()

        outcome, code, _ = node.start(node.web, call(host)).hear()

        assert (outcome, code) == ("failed", 111)

    def test_nobody_listens(self, node: Node, host: str) -> None:
        """The client is told so, as without a mesh, and the trace says it too."""
        node.permit(host)
        assert node.start(node.web, call(host)).hear()[:2] == ("failed", 111)
        (trace,) = [trace for _, trace in node.direct.traces()]
        assert trace.state == TcpState.SYN_SENT
        assert trace.closed is not None


SERVICE = {4: ("10.96.0.10", 80), 6: ("fd00:96::10", 80)}


class TestServices:
    @pytest.mark.parametrize("kind", ["IPv4", "IPv6", "mapped"])
    def test_the_client_sees_the_service(self, node: Node, kind: str) -> None:
        """The hook chooses the pod; getpeername goes on telling what was asked."""
        version = 6 if kind == "IPv6" else 4
        address, port = SERVICE[version]
        asked = f"::ffff:{address}" if kind == "mapped" else address
        host = node.api.ip6 if version == 6 else node.api.ip4
        endpoint = SocketAddress.of((host, PORT))
        node.permit(host)
        node.direct.serve({SocketAddress.of((address, port)): [endpoint]})
        server = node.start(node.api, serve)
        server.hear()

        client = node.start(node.web, call(asked, port))

        assert client.hear()[:2] == ("connected", (asked, port))
        assert SocketAddress.of(server.hear()[2]) == endpoint
        (trace,) = [trace for _, trace in node.direct.traces()]
        assert trace.meant == SocketAddress.of((address, port))
        assert trace.destination == endpoint

    def test_an_endpoint_without_a_verdict(self, node: Node) -> None:
        """The agent is told of the service, and chooses anew."""
        service = SocketAddress.of(SERVICE[4])
        endpoint = SocketAddress.of((node.api.ip4, PORT))
        node.direct.serve({service: [endpoint]})
        node.start(node.web, call(*SERVICE[4]))

        s, client = node.of(node.web).outbound[0].accept()
        s.close()

        source = ClientAddress(SocketAddress.of(client))
        assert node.maps.take_original(node.web.cookie, source) == service

    def test_every_endpoint_gets_its_share(self, node: Node) -> None:
        """Of a direct and another endpoint, each is chosen again and again."""
        service = SocketAddress.of(SERVICE[4])
        near = SocketAddress.of((node.api.ip4, PORT))
        node.permit(node.api.ip4)
        node.direct.serve({service: [near, SocketAddress.parse("10.99.0.9:80")]})
        node.start(node.api, serve).hear()
        listener = node.of(node.web).outbound[0]

        def main(talk: Talk) -> None:
            for _ in range(60):
                connected(*SERVICE[4]).close()
            talk.say("done")

        node.start(node.web, main).hear()

        through_agent = 0
        while not nobody(listener):
            through_agent += 1
        # 60 throws of a coin: outside of these bounds once in ten million runs.
        assert 9 < through_agent < 51
        assert len(sources(node)) == 60 - through_agent

    def test_a_service_that_is_gone(self, node: Node) -> None:
        """What is not wanted any more is taken out, endpoints and all."""
        service = SocketAddress.of(SERVICE[4])
        node.permit(node.api.ip4)
        node.direct.serve({service: [SocketAddress.of((node.api.ip4, PORT))]})
        node.direct.serve({})
        node.start(node.web, call(*SERVICE[4]))
        s, _ = node.of(node.web).outbound[0].accept()
        s.close()


class TestThirdParties:
    def test_cannot_join_a_live_connection(self, node: Node) -> None:
        """A pod that takes another's source meets its socket, and gets nothing."""
        node.permit(node.api.ip4)
        server = node.start(node.api, serve)
        server.hear()
        client = node.start(node.web, call(node.api.ip4))
        own = client.hear()[2]
        server.hear()

        assert not ride(node, own)

        assert not server.line.poll(SHORT_SECONDS), "a second connection was accepted"
        client.tell(b"still")
        assert client.hear() == b"still"

    def test_cannot_ride_a_noted_tuple(self, node: Node) -> None:
        """Before the noted SYN arrives: the answer goes to the pod that was noted."""
        node.permit(node.api.ip4)
        server = node.start(node.api, serve)
        server.hear()

        with knocking(node) as source:
            assert not ride(node, (str(source.ip), source.port))
            assert not server.line.poll(SHORT_SECONDS)

    def test_a_spoofed_source_is_not_noted(self, node: Node) -> None:
        """Another port of a permitted pod comes to the agent, which sees no answer."""
        node.permit(node.api.ip4)
        server = node.start(node.api, serve)
        server.hear()

        assert not ride(node, (node.web.ip4, 40_123))

        assert not server.line.poll(SHORT_SECONDS)
        assert nobody(node.of(node.api).inbound)

    def test_a_foreign_source_goes_to_the_agent(self, node: Node) -> None:
        """A permitted pod that binds an address of its own making is not direct."""
        run("ip", "-n", node.web.name, "addr", "add", "10.99.0.7/32", "dev", "lo")
        node.permit(node.api.ip4)
        node.start(node.web, call(node.api.ip4, bind=("10.99.0.7", 0)))

        s, client = node.of(node.web).outbound[0].accept()
        s.close()

        assert client[0] == "10.99.0.7"
        assert not sources(node)

    def test_its_own_source_may_be_bound(self, node: Node, host: str) -> None:
        """A client that binds the pod's address is as direct as any other."""
        node.permit(host)
        node.start(node.api, serve).hear()
        own = node.web.ip6 if host == node.api.ip6 else node.web.ip4
        bound = f"::ffff:{own}" if host.startswith("::ffff:") else own
        client = node.start(node.web, call(host, bind=(bound, 0)))
        assert client.hear()[0] == "connected"

    def test_by_another_way_out(self, node: Node) -> None:
        """A source that the route chose, and not the pod's own, is not noted."""
        run("ip", "-n", node.web.name, "addr", "add", "10.99.0.7/32", "dev", "lo")
        via = ("via", "10.9.1.1", "src", "10.99.0.7")
        run("ip", "-n", node.web.name, "route", "add", f"{node.api.ip4}/32", *via)
        back = ("route", "add", "10.99.0.7/32", "dev", "veth1")
        run("ip", "-n", node.outside.name, *back)
        node.permit(node.api.ip4)
        node.start(node.api, serve).hear()
        node.start(node.web, call(node.api.ip4))

        s, client = node.of(node.api).inbound.accept()
        s.close()

        assert SocketAddress.of(client).ip == SocketAddress.of(("10.99.0.7", 1)).ip
        assert not sources(node)


def ride(node: Node, source: tuple[str, int]) -> bool:
    """Whether `other` gets a connection to `api` from an address of `web`."""
    run("ip", "-n", node.other.name, "addr", "add", f"{source[0]}/32", "dev", "lo")
    with inside(node.other.fd), socket.socket() as s:
        s.settimeout(patient(1.5))
        s.bind(source)
        try:
            s.connect((node.api.ip4, PORT))
        except OSError:
            return False
        return True


class TestFailsClosed:
    def test_an_address_that_another_pod_has_got(self, node: Node) -> None:
        """A verdict about one pod is none about its successor, whoever knows of it."""
        node.permit(node.api.ip4)
        node.start(node.api, serve).hear()
        address = ("10.9.2.2/24", "dev")
        run("ip", "-n", node.api.name, "addr", "del", *address, "eth0")
        run("ip", "-n", node.other.name, "addr", "add", "10.9.2.2/32", "dev", "eth0")
        way = ("10.9.2.2/32", "via", "10.9.3.2")
        run("ip", "-n", node.outside.name, "route", "add", *way)
        successor = node.start(node.other, serve)
        successor.hear()

        node.start(node.web, call(node.api.ip4))

        wait_until(lambda: sources(node), "the SYN", 5)
        assert not successor.line.poll(SHORT_SECONDS), "the application was reached"

    def test_nobody_tells_which_pod_it_is(self, node: Node, pins: Any) -> None:
        """Without the pod's own program nothing is admitted past the agent."""
        pin = node.of(node.api).pin
        kernel.unlink(PinLayout(pins).here_link(pin))
        node.permit(node.api.ip4)
        server = node.start(node.api, serve)
        server.hear()
        node.start(node.web, call(node.api.ip4))
        s, _ = node.of(node.api).inbound.accept()
        s.close()
        assert not server.line.poll(0)

    def test_captured_again_it_is_told_again(
        self, node: Node, enrolment: Enrolment, pins: Any
    ) -> None:
        """The program that tells comes first, also where the other was there before."""
        kernel.unlink(PinLayout(pins).here_link(node.of(node.api).pin))
        held = node.of(node.api)
        for listener in (held.tunnel, held.inbound, *held.outbound):
            listener.close()
        next_agent = Enrolment(pins, node.maps)
        again = next_agent.capture(node.api.name, node.api.path, node.api.addresses)
        node.permit(node.api.ip4)
        node.start(node.api, serve).hear()

        outcome = node.start(node.web, call(node.api.ip4)).hear()[0]

        for listener in (again.tunnel, again.inbound, *again.outbound):
            listener.close()
        assert outcome == "connected"
        assert not PinLayout(pins).past_link(held.pin).exists()

    def test_a_note_that_was_evicted(self, node: Node, pins: Any) -> None:
        """The SYN that comes then goes to the agent, not to the application."""
        node.permit(node.api.ip4)
        server = node.start(node.api, serve)
        server.hear()
        at = SocketAddress.of((node.api.ip4, PORT))

        with knocking(node) as source:
            notes = noted(node, pins)
            key = note_of(source, at)
            assert notes.get(key)
            crowd_out(notes, key)
            notes.close()

        s, client = node.of(node.api).inbound.accept()
        s.close()
        assert SocketAddress.of(client) == source
        assert not server.line.poll(0)

    def test_a_verdict_that_goes_takes_its_notes_along(
        self, node: Node, pins: Any
    ) -> None:
        """What was noted under it is void at once, whether the note is there or not."""
        node.permit(node.api.ip4)
        server = node.start(node.api, serve)
        server.hear()
        at = SocketAddress.of((node.api.ip4, PORT))

        with knocking(node) as source:
            node.withdraw(node.api.ip4)
            notes = noted(node, pins)
            assert notes.get(note_of(source, at))
            notes.close()

        s, _ = node.of(node.api).inbound.accept()
        s.close()
        assert not server.line.poll(0)

    def test_a_new_verdict_does_not_revive_old_notes(self, node: Node) -> None:
        """The same pair under another id is another verdict."""
        node.permit(node.api.ip4)
        node.start(node.api, serve).hear()
        with knocking(node):
            node.permit(node.api.ip4, VERDICT + 1)
        s, _ = node.of(node.api).inbound.accept()
        s.close()

    def test_a_verdict_that_is_withdrawn(self, node: Node, host: str) -> None:
        """The next connection goes through the agent."""
        node.permit(host)
        node.start(node.api, serve).hear()
        assert node.start(node.web, call(host)).hear()[0] == "connected"
        node.withdraw(host)
        node.start(node.web, call(host))
        s, _ = node.of(node.web).outbound[":" in plain(host)].accept()
        s.close()


def crowd_out(notes: kernel.PinnedMap, key: bytes) -> None:
    """
    Note other connections until the map has forgotten this one.

    On each core in turn: what one core has noted last is spared by the others
    (bpf_lru_list.c, the local pending list).
    """
    stranger = packed_ip(SocketAddress.parse("10.99.1.1:1").ip)
    cores = os.sched_getaffinity(0)
    numbers = iter(range(1_000_000))
    try:
        for core in (*cores, *cores):
            os.sched_setaffinity(0, {core})
            for number in itertools.islice(numbers, 70_000):
                filler = stranger + struct.pack("!HxxI", 1, number) + bytes(16)
                notes.put(filler, bytes(records.NOTE_BYTES))
            if notes.get(key) is None:
                break
    finally:
        os.sched_setaffinity(0, cores)
    assert notes.get(key) is None
    for each in notes:
        if each.startswith(stranger):
            notes.delete(each)


class TestRevocation:
    def test_resets_both_ends(self, node: Node, host: str) -> None:
        """Client and server get an error, not an end of file."""
        node.permit(host)
        server = node.start(node.api, serve)
        server.hear()
        client = node.start(node.web, call(host))
        client.hear()
        server.hear()
        to = SocketAddress.of((host, PORT))

        ended = sockets.destroy_sockets(node.web.fd, lambda s: s.remote == to)

        assert ended == 1
        assert server.hear() == 104  # ECONNRESET
        client.tell(b"more")
        assert client.hear() in (32, 103, 104)  # EPIPE, ECONNABORTED, ECONNRESET

    def test_of_the_server_alone(self, node: Node, host: str) -> None:
        """A client whose namespace drops resets does not keep the server's end."""
        node.permit(host)
        server = node.start(node.api, serve)
        server.hear()
        node.start(node.web, call(host)).hear()
        server.hear()
        to = SocketAddress.of((host, PORT))

        assert sockets.destroy_sockets(node.api.fd, lambda s: s.local == to) == 1

        assert server.hear() == 103  # ECONNABORTED

    def test_of_one_that_is_being_made(self, node: Node) -> None:
        """A connect whose SYN is on its way fails at once."""
        node.permit(node.api.ip4)
        with cut(node):
            client = node.start(node.web, call(node.api.ip4))
            wait_until(lambda: sources(node), "the SYN", 5)
            to = SocketAddress.of((node.api.ip4, PORT))
            assert sockets.destroy_sockets(node.web.fd, lambda s: s.remote == to) == 1
            assert client.hear()[:2] == ("failed", 103)

    def test_leaves_others_alone(self, node: Node) -> None:
        """Only what was chosen ends."""
        node.permit(node.api.ip4)
        server = node.start(node.api, serve)
        server.hear()
        client = node.start(node.web, call(node.api.ip4))
        client.hear()
        other = SocketAddress.of((node.api.ip4, PORT + 1))
        assert sockets.destroy_sockets(node.web.fd, lambda s: s.remote == other) == 0
        client.tell(b"ping")
        assert client.hear() == b"ping"

    def test_the_kernel_can(self) -> None:
        """The probe that the agent starts with finds it so here."""
        sockets.probe()


class TestTraces:
    def test_counts_and_end(self, node: Node, host: str, pins: Any) -> None:
        """A closed connection is told with its bytes, and its tuple is forgotten."""
        node.permit(host)
        server = node.start(node.api, serve)
        server.hear()
        client = node.start(node.web, call(host))
        own = client.hear()[2]
        server.hear()
        for word in (b"x" * 1000, b"y" * 24):
            client.tell(word)
            client.hear()

        ((cookie, live),) = node.direct.traces()
        (found,) = [
            each
            for each in sockets.list_sockets(node.web.fd)
            if each.remote == live.destination
        ]
        client.tell(None)
        client.hear()
        ended = wait_until(lambda: closed(node), "the end", 5)

        assert live.closed is None
        assert (live.verdict, live.netns) == (VERDICT, node.web.cookie)
        assert live.source == SocketAddress.of(own)
        assert live.destination == live.meant == SocketAddress.of((host, PORT))
        assert found.cookie == cookie
        assert (found.acked_bytes - 1, found.received_bytes) == (1024, 1024)
        assert ended.state in (TcpState.FIN_WAIT2, TcpState.CLOSING)
        assert ended.acked_bytes == 1024 + 2
        assert ended.received_bytes - (ended.received_bytes > 1024) == 1024
        notes = noted(node, pins)
        assert notes.get(note_of(live.source, live.destination)) is None
        notes.close()

    def test_sockets_of_others_are_not_traced(self, node: Node) -> None:
        """What goes through the agent leaves no trace here."""
        node.start(node.web, call(node.api.ip4))
        s, _ = node.of(node.web).outbound[0].accept()
        s.close()
        assert not sources(node)

    def test_a_socket_that_connects_again(self, node: Node) -> None:
        """What it does through the agent later is no part of its direct connection."""
        node.permit(node.api.ip4)

        def main(talk: Talk) -> None:
            s = socket.socket()
            talk.say(s.connect_ex((node.api.ip4, PORT)))
            talk.wait()
            talk.say(s.connect_ex((node.api.ip4, PORT)))
            s.close()
            talk.say("closed")

        client = node.start(node.web, main)
        assert client.hear() == 111
        before = list(node.direct.traces())
        node.withdraw(node.api.ip4)
        client.tell()
        assert client.hear() == 0
        node.of(node.web).outbound[0].accept()[0].close()
        assert client.hear() == "closed"
        assert list(node.direct.traces()) == before

    def test_no_room_for_a_trace(self, node: Node, pins: Any) -> None:
        """It is counted, and the connection is as good as any: noted and revocable."""
        node.permit(node.api.ip4)
        node.start(node.api, serve).hear()
        traces = kernel.PinnedMap.open(PinLayout(pins).maps / "traces")
        before = node.direct.unrecorded()
        value = bytes(records.TRACE_BYTES)
        fillers = [records.pack_cookie((1 << 60) + number) for number in range(65_536)]
        try:
            for filler in fillers:
                traces.put(filler, value)
            client = node.start(node.web, call(node.api.ip4))
            assert client.hear()[0] == "connected"
            to = SocketAddress.of((node.api.ip4, PORT))
            assert sockets.destroy_sockets(node.web.fd, lambda s: s.remote == to) == 1
        finally:
            for filler in fillers:
                traces.delete(filler)
            traces.close()
        assert node.direct.unrecorded() == before + 1


def test_thousands_are_read_in_batches(pins: Any) -> None:
    """None is left out and none comes twice, with or without one in the map."""
    traces = kernel.PinnedMap.open(PinLayout(pins).maps / "traces")
    keys = [records.pack_cookie((1 << 60) + number) for number in range(10_000)]
    value = bytes(range(records.TRACE_BYTES))
    assert list(traces.batches()) == []
    try:
        for key in keys:
            traces.put(key, value)
        found = list(traces.batches())
    finally:
        for key in keys:
            traces.delete(key)
        traces.close()
    assert sorted(key for key, _ in found) == sorted(keys)
    assert {value for _, value in found} == {value}


def closed(node: Node) -> records.Trace | None:
    return next((t for _, t in node.direct.traces() if t.closed is not None), None)


def test_the_agents_own_namespace_is_left(node: Node) -> None:
    """Asking about a pod's sockets leaves this process where it was."""
    before = os.readlink("/proc/thread-self/ns/net")
    sockets.list_sockets(node.web.fd)
    assert os.readlink("/proc/thread-self/ns/net") == before


class TestAnotherHolder:
    """The address has passed on, and the objects do not say so."""

    def test_nothing_is_sent_to_a_pod_that_is_not_captured(
        self, node: Node, make_pod: MakePod
    ) -> None:
        """Its SYN was let in by nobody: not a byte is sent, and none is read."""
        stranger = make_pod()
        at = node.api.ip4
        node.permit(at)
        run("ip", "-n", stranger.name, "address", "add", f"{at}/32", "dev", "lo")
        route = ("route", "replace", at, "via", stranger.ip4)
        run("ip", "-n", node.outside.name, *route)
        with stranger.listen(at, PORT) as server:
            server.settimeout(PATIENCE_SECONDS)
            client = node.start(node.web, call(at))
            accepted, _ = server.accept()
            accepted.settimeout(SHORT_SECONDS)
            assert client.hear()[0] == "connected"
            client.tell(b"secret")
            assert client.hear() == errno.EACCES
            with pytest.raises(TimeoutError):
                accepted.recv(10)
            accepted.close()
