"""A bundle comes only from who proves to be the one that was configured."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.identity.bundle import Bundle
from agent.identity.bundle_endpoint import BundleUnavailable, fetch, read_file
from agent.identity.federated import FederatedDomain
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.spiffe_bundle import MAX_DOCUMENT_BYTES
from tests.lab.forgery import FOREIGN_IDENTITY, Forged, Realm, leaf, uri

PARTNER = TrustDomain("partner.example")
REALM, EVIL = Realm.create(str(PARTNER)), Realm.create(str(PARTNER))
BUNDLE = Bundle.of(PARTNER, [REALM.anchor.der])
SERVER = SpiffeId.parse(FOREIGN_IDENTITY)
SVID = leaf(REALM, names=(uri(FOREIGN_IDENTITY),))
WEB = leaf(REALM, names=(x509.IPAddress(ip_address("127.0.0.1")),))


@dataclass(slots=True, eq=False)
class Server:
    """Answers every request with the same bytes."""

    port: int
    answer: bytes
    asked: list[bytes] = field(default_factory=list)

    def url(self, path: str = "/bundle") -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    async def handle(self, context: ssl.SSLContext, plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, context, server_side=True)
        # A client that refuses us goes; that is what some of the tests are about.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            request = await stream.receive_some(65536)
            if request:
                self.asked.append(bytes(request).split(b"\r\n")[0])
                await stream.send_all(self.answer)
                await stream.aclose()
        await plain.aclose()


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "connection: close", *headers]
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def serving(forged: Forged, answer: bytes) -> AsyncIterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    forged.load_into(context)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server = Server(listener.socket.getsockname()[1], answer)
        handler = partial(server.handle, context)
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        yield server
        nursery.cancel_scope.cancel()


def spiffe(server: Server, who: SpiffeId = SERVER) -> FederatedDomain:
    return FederatedDomain(
        PARTNER,
        file=Path("/nowhere"),
        url=server.url(),
        profile="https_spiffe",
        endpoint_id=who,
    )


def web(server: Server, anchors: Path) -> FederatedDomain:
    return FederatedDomain(PARTNER, url=server.url(), web_anchors=anchors)


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    file = tmp_path / "web.pem"
    file.write_bytes(REALM.anchor.certificate.public_bytes(Encoding.PEM))
    return file


class TestSpiffe:
    async def test_the_right_server(self) -> None:
        """Its SPIFFE ID under its domain's bundle; the host name does not matter."""
        async with serving(SVID, response(b"{}")) as server:
            assert await fetch(spiffe(server), BUNDLE) == b"{}"

    async def test_another_identity(self) -> None:
        """A workload of the same domain that is not the endpoint."""
        async with serving(SVID, response(b"{}")) as server:
            wanted = SpiffeId.parse("spiffe://partner.example/bundle")
            with pytest.raises(BundleUnavailable, match="not the identity that we"):
                await fetch(spiffe(server, wanted), BUNDLE)

    @pytest.mark.parametrize(
        "forged",
        [
            leaf(EVIL, names=(uri(FOREIGN_IDENTITY),)),
            leaf(REALM, names=(uri(FOREIGN_IDENTITY),), starts=timedelta(hours=-3)),
            WEB,
        ],
        ids=["foreign", "expired", "no-svid"],
    )
    async def test_who_proves_nothing(self, forged: Forged) -> None:
        """Another authority, yesterday's certificate, no SPIFFE ID at all."""
        async with serving(forged, response(b"{}")) as server:
            with pytest.raises(BundleUnavailable):
                await fetch(spiffe(server), BUNDLE)

    async def test_a_redirect_proves_the_same(self) -> None:
        """The second server is asked for the same SPIFFE ID, and has another."""
        other = leaf(REALM, names=(uri("spiffe://partner.example/other"),))
        async with serving(other, response(b"{}")) as second:
            moved = response(b"", "302 Found", f"location: {second.url()}")
            async with serving(SVID, moved) as first:
                with pytest.raises(BundleUnavailable, match=r"partner\.example/other"):
                    await fetch(spiffe(first), BUNDLE)

    async def test_without_the_servers_bundle(self) -> None:
        """Who cannot be proven is not asked."""
        async with serving(SVID, response(b"{}")) as server:
            with pytest.raises(BundleUnavailable, match=r"no bundle of partner"):
                await fetch(spiffe(server), None)
            assert server.asked == []


class TestWeb:
    async def test_the_right_host(self, anchors: Path) -> None:
        """Its name under an authority of the web, or those that were named."""
        async with serving(WEB, response(b"{}")) as server:
            assert await fetch(web(server, anchors), None) == b"{}"

    async def test_another_host(self, anchors: Path) -> None:
        """A certificate of that authority for somebody else."""
        other = leaf(REALM, names=(x509.DNSName("other.example"),))
        async with serving(other, response(b"{}")) as server:
            with pytest.raises(BundleUnavailable, match="not valid for"):
                await fetch(web(server, anchors), None)

    async def test_the_systems_authorities(self) -> None:
        """Without any named, it is the system's, and ours is not among them."""
        async with serving(WEB, response(b"{}")) as server:
            domain = FederatedDomain(PARTNER, url=server.url())
            with pytest.raises(BundleUnavailable, match="verify failed"):
                await fetch(domain, None)

    async def test_a_redirect(self, anchors: Path) -> None:
        """Followed where it leads to https (Federation 5.2.1.4)."""
        async with serving(WEB, response(b"{}")) as second:
            moved = response(b"", "302 Found", f"location: {second.url('/new')}")
            async with serving(WEB, moved) as first:
                assert await fetch(web(first, anchors), None) == b"{}"
            assert second.asked == [b"GET /new HTTP/1.1"]

    async def test_a_redirect_to_plaintext(self, anchors: Path) -> None:
        """Never without TLS."""
        moved = response(b"", "302 Found", "location: http://127.0.0.1:1/bundle")
        async with serving(WEB, moved) as server:
            with pytest.raises(BundleUnavailable, match="redirects to http:"):
                await fetch(web(server, anchors), None)

    async def test_a_circle(self, anchors: Path) -> None:
        """Redirects have an end."""
        async with serving(WEB, b"") as server:
            server.answer = response(b"", "302 Found", f"location: {server.url()}")
            with pytest.raises(BundleUnavailable, match="redirects"):
                await fetch(web(server, anchors), None)
            assert len(server.asked) <= 4

    @pytest.mark.parametrize(
        ("answer", "told"),
        [
            (response(b"no", "404 Not Found"), "status 404"),
            (response(b" " * (MAX_DOCUMENT_BYTES + 1)), "more than"),
            (b"not http\r\n\r\n", "127.0.0.1"),
            (response(b"{}")[:-1], "127.0.0.1"),
        ],
        ids=["missing", "large", "garbage", "cut"],
    )
    async def test_bad_answers(self, anchors: Path, answer: bytes, told: str) -> None:
        """Each is our error, naming the place."""
        async with serving(WEB, answer) as server:
            with pytest.raises(BundleUnavailable, match=told):
                await fetch(web(server, anchors), None)

    async def test_nobody_there(self, anchors: Path) -> None:
        """A port that nobody listens on."""
        async with serving(WEB, b"") as server:
            domain = web(server, anchors)
        with pytest.raises(BundleUnavailable, match=r"127\.0\.0\.1"):
            await fetch(domain, None)


async def test_a_large_file(tmp_path: Path) -> None:
    """Not read to its end."""
    file = tmp_path / "large"
    file.write_bytes(b" " * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(BundleUnavailable, match="more than"):
        await read_file(FederatedDomain(PARTNER, file=file))
