"""The kubelet's probes, and the start gate, in the kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.redirect.enrolment import Capture
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import GATE_HOOKS, PROBE_HOOK, PinLayout
from agent.redirect.netns import inside
from agent.redirect.sideline import Sideline
from tests.bpf.conftest import StartApplication
from tests.bpf.test_inbound import serve
from tests.bpf.world import (
    ANY,
    Namespace,
    Talk,
    application,
    connected,
    scratch_cgroup,
)


@pytest.fixture
def sideline(pins: Path) -> Iterator[Sideline]:
    """Nothing is attached before a test, nor after it."""
    made = Sideline(pins)
    yield made
    made.note_probes_of(None)
    made.guard(())


@pytest.fixture
def kubelets() -> Iterator[Path]:
    """The cgroup of a kubelet."""
    with scratch_cgroup() as path:
        yield path


@pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
def address(request: pytest.FixtureRequest, pod: Namespace) -> str:
    """One of the pod's own addresses."""
    return pod.ip4 if request.param == 4 else pod.ip6


def ping(talk: Talk, host: str, port: int) -> None:
    """Tell what comes back, or which error."""
    try:
        with connected(host, port) as client:
            client.sendall(b"ping")
            talk.say(client.recv(4))
    except OSError as error:
        talk.say(type(error).__name__)


def asked(cgroup: Path, where: Namespace, host: str, port: int) -> object:
    """What a process of that cgroup hears from a server."""
    with application(cgroup, where, lambda talk: ping(talk, host, port)) as child:
        return child.hear()


class TestProbes:
    @pytest.fixture(autouse=True)
    def _attached(self, sideline: Sideline, kubelets: Path) -> None:
        sideline.note_probes_of(kubelets)

    @pytest.fixture(autouse=True)
    def _server(self, pod: Namespace, start: StartApplication) -> None:
        start(pod, serve(ANY, 8080)).hear()

    @pytest.mark.usefixtures("captured")
    def test_the_kubelet_reaches_the_application(
        self, kubelets: Path, outside: Namespace, address: str
    ) -> None:
        """Past the agent, which accepts nothing here."""
        assert asked(kubelets, outside, address, 8080) == b"ping"

    @pytest.mark.usefixtures("captured")
    def test_others_of_the_node_do_not(
        self, captured: Capture, cgroup: Path, outside: Namespace, address: str
    ) -> None:
        """From the same addresses, but not from the kubelet's cgroup."""
        captured.inbound.settimeout(5)
        with application(
            cgroup, outside, lambda talk: ping(talk, address, 8080)
        ) as child:
            accepted, _ = captured.inbound.accept()
            accepted.close()
            assert child.hear() != b"ping"

    def test_also_while_there_is_no_agent(
        self, captured: Capture, kubelets: Path, outside: Namespace, address: str
    ) -> None:
        """Or the kubelet would kill healthy pods while an agent is replaced."""
        captured.inbound.close()

        assert asked(kubelets, outside, address, 8080) == b"ping"

    @pytest.mark.usefixtures("captured")
    def test_what_it_left_is_of_no_use_to_another(
        self,
        captured: Capture,
        kubelets: Path,
        outside: Namespace,
        pod: Namespace,
    ) -> None:
        """The same 4-tuple a moment later, from another process."""

        def probe(talk: Talk) -> None:
            with connected(pod.ip4, 8080) as client:
                client.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                )
                talk.say(client.getsockname())

        with application(kubelets, outside, probe) as child:
            source = child.hear()
        with outside_socket(outside, source) as thief:
            thief.connect((pod.ip4, 8080))
            accepted, _ = captured.inbound.accept()
            accepted.close()

    @pytest.mark.usefixtures("captured")
    def test_a_probe_that_was_refused_leaves_nothing(
        self, captured: Capture, kubelets: Path, outside: Namespace, pod: Namespace
    ) -> None:
        """Nobody listens on the port: its 4-tuple is forgotten."""

        def probe(talk: Talk) -> None:
            with socket.socket() as client:
                client.bind((outside_address(pod), 0))
                talk.say(client.getsockname())
                with pytest.raises(ConnectionRefusedError):
                    client.connect((pod.ip4, 8081))
            talk.say("refused")

        with application(kubelets, outside, probe) as child:
            source = child.hear()
            assert child.hear() == "refused"
        with outside_socket(outside, source) as thief:
            thief.connect((pod.ip4, 8081))
            accepted, _ = captured.inbound.accept()
            accepted.close()

    @pytest.mark.usefixtures("captured")
    def test_another_cgroup_takes_its_place(
        self, sideline: Sideline, kubelets: Path, outside: Namespace, pins: Path
    ) -> None:
        """A kubelet that was started again."""
        with scratch_cgroup() as next_one:
            sideline.note_probes_of(next_one)
            links = list(PinLayout(pins).links.glob(f"{PROBE_HOOK.name}-*"))
            assert [path.name for path in links] == [
                f"{PROBE_HOOK.name}-{next_one.stat().st_ino}"
            ]
            sideline.note_probes_of(kubelets)


class TestGate:
    """`cgroup` is the pods' own; the gate is attached to it."""

    @pytest.fixture(autouse=True)
    def _guarded(self, sideline: Sideline, cgroup: Path) -> None:
        sideline.guard([cgroup])

    @pytest.fixture
    def server(self, outside: Namespace) -> Iterator[socket.socket]:
        with outside.listen(ANY, 9000) as listener:
            yield listener

    @pytest.mark.usefixtures("server")
    def test_an_unknown_namespace_connects_nowhere(
        self, cgroup: Path, pod: Namespace, address: str
    ) -> None:
        """A pod in its first millisecond."""
        there = address.rsplit("2", 1)[0] + "1"

        assert asked(cgroup, pod, there, 9000) == "PermissionError"

    def test_but_to_itself(
        self, cgroup: Path, pod: Namespace, start: StartApplication
    ) -> None:
        """Loopback never leaves the pod."""
        start(pod, serve(ANY, 8080)).hear()

        assert asked(cgroup, pod, "127.0.0.1", 8080) == b"ping"
        assert asked(cgroup, pod, "::1", 8080) == b"ping"

    def test_one_that_was_judged_connects_as_ever(
        self, maps: RedirectMaps, cgroup: Path, pod: Namespace, server: socket.socket
    ) -> None:
        """A pod outside the mesh."""
        there = pod.ip4.rsplit("2", 1)[0] + "1"
        maps.judge(pod.cookie)
        try:
            with application(
                cgroup, pod, lambda talk: talk.say(bool(connected(there, 9000)))
            ) as child:
                server.accept()[0].close()
                assert child.hear() is True
        finally:
            maps.unjudge(pod.cookie)
        assert asked(cgroup, pod, there, 9000) == "PermissionError"

    def test_one_that_is_captured_goes_to_the_agent(
        self, captured: Capture, cgroup: Path, pod: Namespace
    ) -> None:
        """The gate is open for it, the redirect has it."""
        there = pod.ip4.rsplit("2", 1)[0] + "1"
        with application(
            cgroup, pod, lambda talk: talk.say(bool(connected(there, 9000)))
        ) as child:
            captured.outbound[0].accept()[0].close()
            assert child.hear() is True

    def test_taken_away_nothing_is_left(self, sideline: Sideline, pins: Path) -> None:
        """Neither a link nor its pin."""
        sideline.guard(())

        links = PinLayout(pins).links
        assert not [p for hook in GATE_HOOKS for p in links.glob(f"{hook.name}-*")]


def outside_socket(where: Namespace, source: tuple[str, int]) -> socket.socket:
    """A socket outside the kubelet's cgroup that is bound to its source."""
    with inside(where.fd):
        made = socket.socket()
    made.settimeout(5)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(tuple(source))
    return made


def outside_address(pod: Namespace) -> str:
    """The other end of the pod's wire."""
    return pod.ip4.rsplit("2", 1)[0] + "1"
