"""
Peers that break the rules at a pod's tunnel port: each is refused as the standard
says, the reason is in the events, and everybody else is served.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.demo.stage import Stage
from tests.lab import system
from tests.lab.certificates import Authority, Credential
from tests.lab.identity import PARTNER
from tests.node import peer

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _others_are_served(world: Stage) -> Iterator[None]:
    """Whatever the peer did, web still reaches api."""
    yield
    answer = world.pods["web"].run("curl", "-sS", f"http://{api(world)}/")
    assert answer.stdout == world.page("api"), answer.stderr


def api(world: Stage) -> str:
    return world.pods["api"].address.v4


def heard(world: Stage, words: str, *, since: int) -> str:
    """The message of an event of node 2 that came after `since` and says `words`."""

    def find() -> str | None:
        for event in world.agents["n2"].ask("events")["events"][since:]:
            if words in event["message"]:
                return f"{event['object']}: {event['message']}"
        return None

    return system.wait_until(find, f"an event that says {words!r}", 5)


def events(world: Stage) -> int:
    return len(world.agents["n2"].ask("events")["events"])


def connection(world: Stage, words: str) -> dict[str, object]:
    """The latest ended connection of node 2 whose reason says `words`."""

    def find() -> dict[str, object] | None:
        recent = world.agents["n2"].ask("connections")["recent"]
        found = [one for one in recent if words in (one["reason"] or "")]
        return found[-1] if found else None

    return system.wait_until(find, f"a connection refused with {words!r}", 5)


class TestBeforeTls:
    @pytest.mark.parametrize(
        ("sent", "reason"),
        [
            (b"GET / HTTP/1.1\r\nHost: api\r\n\r\n", "plaintext HTTP"),
            (b"\x00\x01\x02garbage" * 20, "does not speak TLS"),
            (b"\x16\x03\x01\xff\xff" + bytes(40), "TLS handshake"),
        ],
    )
    def test_garbage(self, world: Stage, sent: bytes, reason: str) -> None:
        """What is not TLS gets nothing but an end, and the log says what it was."""
        before = events(world)
        with peer.dial(world, api(world)) as sock:
            sock.sendall(sent)
            received = b""
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
                while data := sock.recv(4096):
                    received += data
        assert world.secret.encode() not in received
        assert "shop/api" in heard(world, reason, since=before)


class TestCertificates:
    def refuse(self, world: Stage, credential: Credential | None, reason: str) -> None:
        """No answer to a CONNECT, and the reason in the events of node 2."""
        before = events(world)
        status = None
        # TLS 1.3: a client is done before the server has judged its certificate.
        with (
            contextlib.suppress(OSError),
            peer.dial_tls(world, api(world), credential) as tls,
        ):
            status = peer.Peer(tls).connect(f"{api(world)}:80")
        assert status is None
        assert "shop/api" in heard(world, reason, since=before)

    def test_none(self, world: Stage) -> None:
        """A client without a certificate."""
        self.refuse(world, None, "presented no certificate")

    def test_foreign_authority(self, world: Stage, tmp_path: Path) -> None:
        """The right name, signed by nobody we trust."""
        forged = Authority.foreign("evil").issue(tmp_path, world.identity_of("web"))
        self.refuse(world, forged, "does not verify")

    def test_expired(self, world: Stage, tmp_path: Path) -> None:
        """Yesterday's certificate."""
        stolen = world.identity.stolen()
        old = stolen.issue(
            tmp_path,
            world.identity_of("web"),
            starts=datetime.now(UTC) - timedelta(hours=3),
        )
        self.refuse(world, old, "expired")

    def test_another_trust_domain(self, world: Stage, tmp_path: Path) -> None:
        """Our authority's signature on somebody else's name."""
        other = world.identity.stolen().issue(tmp_path, "spiffe://other.org/ns/a/sa/b")
        self.refuse(world, other, "trust domain")

    @pytest.mark.parametrize(
        "name",
        [
            "spiffe://cluster.local",
            "spiffe://cluster.local/ns//sa/web",
            "https://cluster.local/ns/shop/sa/web",
        ],
    )
    def test_outside_the_profile(self, world: Stage, tmp_path: Path, name: str) -> None:
        """A certificate whose URI is not a workload's SPIFFE ID."""
        odd = world.identity.stolen().issue(tmp_path, name)
        self.refuse(world, odd, "SPIFFE")


class TestFederation:
    THEIRS = f"spiffe://{PARTNER}/ns/shop/sa/web"

    def test_a_partner_is_who_it_is(self, world: Stage, tmp_path: Path) -> None:
        """
        Unknown until its anchors are put in place; then its whole identity is judged
        by policy, which admits our own web and not its namesake. No restart.
        """
        partner = Authority.foreign("partner")
        credential = partner.issue(tmp_path, self.THEIRS)
        before = events(world)
        assert self.connect(world, credential) is None
        assert "shop/api" in heard(world, "under any trust anchor", since=before)

        world.identity.partner.write_bytes(
            partner.certificates[0].public_bytes(Encoding.PEM)
        )
        try:
            system.wait_until(
                lambda: self.connect(world, credential) == "401", "federation", 20, 0.5
            )
            reason = str(connection(world, self.THEIRS)["reason"])
            assert f"matches identity {self.THEIRS}" in reason

            before = events(world)
            posing = world.identity.stolen().issue(tmp_path / "posing", self.THEIRS)
            assert self.connect(world, posing) is None
            heard(world, "under another trust domain's anchor", since=before)
            before = events(world)
            ours = partner.issue(tmp_path / "ours", world.identity_of("web"))
            assert self.connect(world, ours) is None
            heard(world, "under another trust domain's anchor", since=before)
        finally:
            world.identity.partner.unlink()

    def connect(self, world: Stage, credential: Credential) -> str | None:
        with (
            contextlib.suppress(OSError),
            peer.dial_tls(world, api(world), credential) as tls,
        ):
            return peer.Peer(tls).connect(f"{api(world)}:80")
        return None


class TestRequests:
    @pytest.fixture
    def web(self, world: Stage, tmp_path: Path) -> Iterator[peer.Peer]:
        """A connection with a valid certificate of web's."""
        credential = peer.web_credential(world, tmp_path)
        one = peer.Peer(peer.dial_tls(world, api(world), credential))
        yield one
        one.close()

    def test_a_valid_one_is_served(self, world: Stage, web: peer.Peer) -> None:
        """The refusals below are for what they say and not for this peer as such."""
        assert web.connect(f"{api(world)}:80") == "200"

    def test_not_connect(self, world: Stage, web: peer.Peer) -> None:
        """A GET is answered with 400, and the connection goes on."""
        before = events(world)
        get = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", f"{api(world)}:80"),
        ]
        assert web.ask(get) == "400"
        assert web.connect(f"{api(world)}:80") == "200"
        heard(world, "CONNECT", since=before)

    @pytest.mark.parametrize(
        "authority", ["10.244.2.11:80", "[fd00:244:2::10]:80", "127.0.0.1:80", "api:80"]
    )
    def test_another_authority(
        self, world: Stage, web: peer.Peer, authority: str
    ) -> None:
        """A tunnel to api's address does not lead anywhere else."""
        assert web.connect(authority) == "400"
        assert connection(world, ":authority")["outcome"] == "refused"

    @pytest.mark.parametrize("port", [15001, 15006, 15008])
    def test_the_agents_own_ports(
        self, world: Stage, web: peer.Peer, port: int
    ) -> None:
        """A tunnel does not lead into the agent itself."""
        assert web.connect(f"{api(world)}:{port}") == "503"
        assert connection(world, "belongs to the agent")["outcome"] == "refused"

    def test_a_port_where_nobody_listens(self, world: Stage, tmp_path: Path) -> None:
        """The application's refusal is 503, not ours."""
        cache = world.pods["cache"].address.v4
        credential = peer.web_credential(world, tmp_path)
        with peer.dial_tls(world, cache, credential) as tls:
            assert peer.Peer(tls).connect(f"{cache}:81") == "503"
        assert connection(world, "connection refused")["outcome"] == "failed"

    def test_oversized_headers(self, world: Stage, web: peer.Peer) -> None:
        """More headers than we take end in an error, never in memory."""
        before = events(world)
        big = [(f"x-{n}", "v" * 4000) for n in range(20)]
        headers = [(":method", "CONNECT"), (":authority", f"{api(world)}:80"), *big]
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert web.ask(headers) in (None, "400", "431")
        heard(world, "header", since=before)

    def test_a_broken_frame(self, world: Stage, web: peer.Peer) -> None:
        """A frame that the standard forbids ends in GOAWAY, and the reason is told."""
        assert web.connect(f"{api(world)}:80") == "200"
        before = events(world)
        web.raw(bytes.fromhex("000000 00 00 00000000"))  # DATA on stream 0
        ended = web.events()
        assert [type(event).__name__ for event in ended] == ["ConnectionTerminated"]
        heard(world, "DATA", since=before)
