"""Service and client over real TLS, on the loopback."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from agent.addresses import SocketAddress
from agent.identity.authority import Authority
from agent.identity.client import IdentityClient
from agent.identity.clock import utc_now
from agent.identity.context import load_credential
from agent.identity.credential import Credential
from agent.identity.csr import make_csr
from agent.identity.issuance import Issuance
from agent.identity.key import PrivateKey
from agent.identity.report import TrustReport
from agent.identity.reviewing import JoinTokens
from agent.identity.service import ServerCertificate, Settings, serve
from agent.identity.source import IdentityUnavailable
from agent.identity.token import NodeCaller, TokenKey, issue_token
from agent.identity.trust import Trust
from tests.unit.identity.parts import (
    API,
    NOW,
    TD,
    VirtualClock,
    anchor_at,
    at_work,
    authority_under,
    credential_for,
    make_authority,
)

KEY = TokenKey(b"k" * 32)
AGES_AGO = NOW - timedelta(days=1000)
LOOPBACK = SocketAddress(ip_address("127.0.0.1"), 0)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    caller = NodeCaller("n1", "id")
    token = issue_token(KEY, TD, caller, now=utc_now(), ttl=timedelta(hours=1))
    path = tmp_path / "token"
    path.write_text(token)
    return path


@pytest.fixture
def authority() -> Authority:
    return make_authority(utc_now())


async def test_an_agent_gets_its_certificate(
    authority: Authority, token_file: Path, nursery: trio.Nursery
) -> None:
    """By address, with the service's name checked; the key fits the chain."""

    async def run(task_status: trio.TaskStatus[SocketAddress]) -> None:
        await serve(
            Settings(bind=LOOPBACK),
            at_work(authority, ("n1", API), clock=utc_now),
            JoinTokens(KEY, TD),
            task_status=task_status,
        )

    address = await nursery.start(run)
    assert address.port != 0
    key = PrivateKey.generate()
    url = f"https://{address}"
    async with IdentityClient(url, authority.bundle.pem, token_file) as client:
        signed = await client.sign(make_csr(API, key))
        async with aclosing(client.watch()) as changes:
            assert await anext(changes) == signed.trust == Trust(1, authority.bundle)
        await client.acknowledge(TrustReport("n1", 1))
    assert Credential.assemble(signed.chain_pem, key).svid.spiffe_id == API

    strangers = make_authority(utc_now()).bundle.pem
    async with IdentityClient(url, strangers, token_file) as client:
        with pytest.raises(IdentityUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await anext(client.watch())
    nursery.cancel_scope.cancel()


async def test_a_workload_cannot_be_the_service(
    authority: Authority, token_file: Path, nursery: trio.Nursery
) -> None:
    """A pod on the service's address, with its own good certificate, gets no token."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_credential(context, credential_for(authority, API, utc_now()))
    received: list[bytes] = []

    async def pose(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            received.append(bytes(await stream.receive_some()))
        except trio.BrokenResourceError:
            received.append(b"")

    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    inner = listeners[0].transport_listener
    assert isinstance(inner, trio.SocketListener)
    port = inner.socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, pose, listeners)
    client = IdentityClient(
        f"https://127.0.0.1:{port}", authority.bundle.pem, token_file
    )
    async with client:
        with pytest.raises(IdentityUnavailable, match=r"(?i)hostname mismatch"):
            await client.sign(make_csr(API, PrivateKey.generate()))
    nursery.cancel_scope.cancel()
    assert not any(received)


async def test_renews_its_own_certificate(autojump_clock: MockClock) -> None:
    """At 70 % of the lifetime, in the same context; an outage is retried."""
    clock = VirtualClock()
    good = make_authority()
    issuance = at_work(good, clock=clock)
    keeper = ServerCertificate(issuance, lambda: 0.5)
    first_renewal = keeper.renew()
    first = presented(keeper.context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, first_renewal)
        await trio.sleep(16.7 * 3600)
        assert presented(keeper.context) == first
        # An issuer that has expired by then: the old certificate stays.
        issuance._authority = make_authority(AGES_AGO)
        await trio.sleep(3600)
        assert presented(keeper.context) == first
        issuance._authority = good
        await trio.sleep(300)
        assert presented(keeper.context) != first
        nursery.cancel_scope.cancel()


async def test_its_own_certificate_moves_last(autojump_clock: MockClock) -> None:
    """A foreign domain that knows the old anchor alone still reads our bundle here."""
    old, new = make_authority(), authority_under(anchor_at(serial=0xC))
    both = replace(old.bundle, anchors=(*old.bundle.anchors, *new.bundle.anchors))
    issuance = at_work(old, clock=VirtualClock())
    keeper = ServerCertificate(issuance, lambda: 0.5)
    pause = keeper.renew()
    first = presented(keeper.context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, pause)
        for signer, trust in (
            (old, Trust(2, both)),
            (new, Trust(3, both)),
            (
                new,
                Trust(4, both, retiring=frozenset({old.bundle.anchors[0].fingerprint})),
            ),
        ):
            issuance.replace(signer, trust)
            await trio.sleep(60)
            assert presented(keeper.context) == first
        issuance.replace(new, Trust(5, new.bundle))
        await trio.sleep(60)
        second = presented(keeper.context)
        assert second != first
        nursery.cancel_scope.cancel()


async def test_a_tainted_certificate_moves_at_once(autojump_clock: MockClock) -> None:
    old, new = make_authority(), authority_under(anchor_at(serial=0xC))
    both = replace(old.bundle, anchors=(*old.bundle.anchors, *new.bundle.anchors))
    issuance = at_work(old, clock=VirtualClock())
    keeper = ServerCertificate(issuance, lambda: 0.5)
    pause = keeper.renew()
    first = presented(keeper.context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, pause)
        await trio.sleep(1)
        tainted = frozenset({old.bundle.anchors[0].fingerprint})
        issuance.replace(new, Trust(2, both, tainted=tainted))
        await trio.sleep(1)
        assert presented(keeper.context) != first
        nursery.cancel_scope.cancel()


def presented(server: ssl.SSLContext) -> bytes | None:
    """The certificate that the next client would see."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    left = client.wrap_bio(to_client, to_server)
    right = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (left, right, left):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return left.getpeercert(True)


async def test_an_agent_follows_the_service_to_another_anchor(
    authority: Authority, token_file: Path, tmp_path: Path
) -> None:
    """
    The anchor is added, signs, and the old one goes, under one client; the next client,
    with the old file, still knows the service.
    """
    old, new = authority, make_authority(utc_now())
    both = replace(old.bundle, anchors=(*old.bundle.anchors, *new.bundle.anchors))
    memory = tmp_path / "trust.json"
    async with serving(at_work(old, ("n1", API), clock=utc_now)) as (url, issuance):
        client = IdentityClient(url, old.bundle.pem, token_file, memory=memory)
        async with client, aclosing(client.watch()) as changes:
            await anext(changes)
            for version, signer, bundle in (
                (2, old, both),
                (3, new, both),
                (4, new, new.bundle),
            ):
                issuance.replace(signer, Trust(version, bundle))
                assert (await anext(changes)).version == version
                await client.sign(make_csr(API, PrivateKey.generate()))
        again = IdentityClient(url, old.bundle.pem, token_file, memory=memory)
        async with again:
            await again.sign(make_csr(API, PrivateKey.generate()))
        stranger = IdentityClient(url, old.bundle.pem, token_file)
        async with stranger:
            with pytest.raises(IdentityUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await stranger.sign(make_csr(API, PrivateKey.generate()))


async def test_a_replaced_file_of_anchors_is_read(
    authority: Authority, token_file: Path, tmp_path: Path
) -> None:
    """An anchor expired while nobody looked: a person copies the new one."""
    file = tmp_path / "ca.crt"
    file.write_bytes(make_authority(utc_now()).bundle.pem)
    async with serving(at_work(authority, ("n1", API), clock=utc_now)) as (url, _):
        stale = await trio.Path(file).read_bytes()
        client = IdentityClient(url, stale, token_file, anchors_file=file)
        async with client:
            with pytest.raises(IdentityUnavailable):
                await client.sign(make_csr(API, PrivateKey.generate()))
            await trio.Path(file).write_bytes(authority.bundle.pem[:50])
            with pytest.raises(IdentityUnavailable):
                await client.sign(make_csr(API, PrivateKey.generate()))
            await trio.Path(file).write_bytes(authority.bundle.pem)
            await client.sign(make_csr(API, PrivateKey.generate()))


@contextlib.asynccontextmanager
async def serving(issuance: Issuance) -> AsyncIterator[tuple[str, Issuance]]:
    """The service on the loopback, and its URL."""
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[SocketAddress]) -> None:
            settings, tokens = Settings(bind=LOOPBACK), JoinTokens(KEY, TD)
            await serve(settings, issuance, tokens, task_status=task_status)

        address = await nursery.start(run)
        yield f"https://{address}", issuance
        nursery.cancel_scope.cancel()
