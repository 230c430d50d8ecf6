"""The identity service is judged by the trust of now, over real TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest
import trio

from agent.identity.anchored import AnchoredTransport
from agent.identity.authority import SERVICE_NAME, Authority
from agent.identity.bundle import Bundle
from agent.identity.certificate import fingerprint
from agent.identity.context import load_credential
from agent.identity.trust import Trust
from tests.unit.identity.parts import TD, make_authority

OLD, NEW = (make_authority(datetime.now(UTC)) for _ in range(2))
BOTH = Bundle(TD, (*OLD.bundle.anchors, *NEW.bundle.anchors))
ISSUER = fingerprint(ssl.PEM_cert_to_DER_cert(OLD.chain_pem.decode()))
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Service:
    """Answers every request with 200, under an authority that may change."""

    def __init__(self, authority: Authority, url: str) -> None:
        self.url = url
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tokens = 0
        self.use(authority)

    def use(self, authority: Authority) -> None:
        credential = authority.issue_server(now=datetime.now(UTC), serial=1)
        load_credential(self.context, credential)

    async def serve(self, stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, self.context, server_side=True)
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                data = await tls.receive_some()
                if not data:
                    return
                head += data
            self.tokens += b"secret" in head
            await tls.send_all(ANSWER)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            return
        finally:
            await trio.aclose_forcefully(tls)


@asynccontextmanager
async def serving(authority: Authority) -> AsyncIterator[Service]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        service = Service(authority, f"https://127.0.0.1:{port}/")
        nursery.start_soon(trio.serve_listeners, service.serve, [listener])
        yield service
        nursery.cancel_scope.cancel()


async def ask(transport: AnchoredTransport, service: Service) -> int:
    request = httpx.Request(
        "GET",
        service.url,
        headers={"authorization": "Bearer secret"},
        extensions={"sni_hostname": SERVICE_NAME},
    )
    response = await transport.handle_async_request(request)
    await response.aread()
    await response.aclose()
    return response.status_code


def reasons(error: BaseException | None) -> str:
    """What lies under an error, which httpx does not repeat."""
    return f"{error} {reasons(error.__cause__ or error.__context__)}" if error else ""


async def test_follows_the_anchors() -> None:
    """Added, used, and the old one gone: each with the next handshake."""
    transport = AnchoredTransport(OLD.bundle.pem)
    async with serving(OLD) as service, transport:
        assert await ask(transport, service) == 200
        service.use(NEW)
        with pytest.raises(httpx.ConnectError):
            await ask(transport, service)
        assert transport.trust(Trust(2, BOTH))
        assert await ask(transport, service) == 200
        assert transport.trust(Trust(3, NEW.bundle))
        service.use(OLD)
        with pytest.raises(httpx.ConnectError):
            await ask(transport, service)


async def test_a_thief_of_a_tainted_key_is_not_the_service() -> None:
    """The handshake fails, so that he does not get a token either."""
    transport = AnchoredTransport(OLD.bundle.pem)
    async with serving(OLD) as service, transport:
        transport.trust(Trust(2, BOTH, tainted=frozenset({ISSUER})))
        with pytest.raises(httpx.ConnectError) as caught:
            await ask(transport, service)
        assert f"is under the tainted {ISSUER}" in reasons(caught.value)
        assert service.tokens == 0
        service.use(NEW)
        assert await ask(transport, service) == 200


def test_what_is_no_news() -> None:
    """The anchors of the file, told by the service; another version of the same."""
    transport = AnchoredTransport(OLD.bundle.pem)
    assert not transport.trust(Trust(1, OLD.bundle))
    assert transport.trust(Trust(2, BOTH))
    assert not transport.trust(Trust(3, BOTH))


def test_the_last_anchor_stays() -> None:
    """Who taints all of them is listened to still, or nobody could mend it."""
    transport = AnchoredTransport(OLD.bundle.pem)
    (anchor,) = OLD.bundle.anchors
    assert not transport.trust(
        Trust(2, OLD.bundle, tainted=frozenset({anchor.fingerprint}))
    )
