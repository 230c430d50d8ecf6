"""TLS as the tunnel needs it: who it refuses, and what it says when records break."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from agent.identity.authority import Authority
from agent.identity.bundle import Bundle
from agent.identity.crl import RevocationList, Revocations
from agent.identity.spiffe import SpiffeId
from agent.identity.trust import Trust
from agent.proxy.tls import Contexts, ContextStore, NoCredential, build_contexts
from agent.proxy.transport import (
    HandshakeFailed,
    Transport,
    TransportFailed,
    explain,
)
from tests.unit.identity.crls import crl
from tests.unit.identity.parts import (
    API,
    BATCH,
    TD,
    anchor_at,
    authority_under,
    credential_for,
    make_authority,
)
from tests.unit.proxy.joined import handshake, receive, tcp_pair


def contexts(
    authority: Authority, identity: SpiffeId, ago_hours: float = 0
) -> Contexts:
    issued = datetime.now(UTC) - timedelta(hours=ago_hours)
    return build_contexts(credential_for(authority, identity, issued), authority.bundle)


async def refused(client: ssl.SSLContext, server: ssl.SSLContext) -> set[str]:
    """The reasons that both ends give for a handshake that must not succeed."""
    reasons = set()
    near, far = tcp_pair()

    async def shake(sock: socket.socket, context: ssl.SSLContext, server: bool) -> None:
        try:
            one = await Transport.handshake(
                sock, context, server=server, timeout_seconds=2
            )
            # TLS 1.3: a client is done before its certificate was judged.
            with contextlib.closing(one):
                await receive(one, memoryview(bytearray(20000)))
        except (HandshakeFailed, TransportFailed) as error:
            reasons.add(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shake, near, client, False)
        nursery.start_soon(shake, far, server, True)
    return reasons


class TestHandshake:
    async def test_a_foreign_authority(self) -> None:
        """Neither side takes a certificate that does not chain to its bundle."""
        ours, theirs = (make_authority(datetime.now(UTC)) for _ in range(2))
        told = await refused(contexts(ours, BATCH).client, contexts(theirs, API).server)
        assert any("does not verify" in reason for reason in told)

    async def test_an_expired_certificate(self) -> None:
        """A certificate that has ended is refused, and the reason says so."""
        authority = make_authority(datetime.now(UTC) - timedelta(days=3))
        old = contexts(authority, BATCH, ago_hours=60)
        told = await refused(old.client, contexts(authority, API).server)
        assert any("expired" in reason for reason in told)

    async def test_no_certificate(self) -> None:
        """A client that presents nothing is refused."""
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE
        server = contexts(make_authority(datetime.now(UTC)), API).server
        told = await refused(bare, server)
        assert any("presented no certificate" in reason for reason in told)

    async def test_tls_1_2(self) -> None:
        """Nothing below TLS 1.3."""
        authority = make_authority(datetime.now(UTC))
        old = contexts(authority, BATCH).client
        old.minimum_version = ssl.TLSVersion.TLSv1_2
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        told = await refused(old, contexts(authority, API).server)
        assert any("TLS 1.3" in reason for reason in told)

    async def test_silence(self, autojump_clock: trio.abc.Clock) -> None:
        """A peer that says nothing is given up."""
        near, far = tcp_pair()
        client = contexts(make_authority(datetime.now(UTC)), BATCH).client
        with pytest.raises(HandshakeFailed, match="no answer within 2 s"):
            await Transport.handshake(near, client, server=False, timeout_seconds=2)
        far.close()


class TestRecords:
    async def test_cut_without_close_notify(self) -> None:
        """A connection that is cut is not mistaken for one that ended."""
        near, far = await handshake()
        os.close(near.tls.detach())
        with pytest.raises(TransportFailed, match=r"close_notify|reset"):
            await receive(far, memoryview(bytearray(20000)))
        far.close()

    async def test_closed_in_order(self) -> None:
        """close_notify is an end, and reads as 0 bytes."""
        near, far = await handshake()
        near.close()
        assert await receive(far, memoryview(bytearray(20000))) == 0
        far.close()

    async def test_what_is_sent_arrives(self) -> None:
        """More than one record, in one read where the buffer allows it."""
        near, far = await handshake()
        data = memoryview(bytes(40000))
        while data:
            data = data[near.send_now(data) :]
        buffer = memoryview(bytearray(100000))
        got = 0
        while got < 40000:
            got += await receive(far, buffer)
        assert got == 40000
        near.close()
        far.close()


class TestContextStore:
    async def test_waits_for_a_certificate(self) -> None:
        """A pod that is faster than its certificate waits for it."""
        store = ContextStore()
        authority = make_authority(datetime.now(UTC))
        async with trio.open_nursery() as nursery:
            found: list[Contexts] = []

            async def wait() -> None:
                found.append(await store.wait(API, 5))

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            store.trust(Trust(1, authority.bundle))
            store.install(credential_for(authority, API, datetime.now(UTC)))
        assert found[0].svid.spiffe_id == API

    async def test_an_ended_certificate(self, autojump_clock: trio.abc.Clock) -> None:
        """It is not presented any more, and the error says since when."""
        authority = make_authority(datetime.now(UTC))
        credential = credential_for(authority, API, datetime.now(UTC))
        store = ContextStore(lambda: credential.svid.not_after + timedelta(seconds=1))
        store.trust(Trust(1, authority.bundle))
        store.install(credential)
        with pytest.raises(NoCredential, match="ended at"):
            await store.wait(API, 5)

    async def test_a_tainted_certificate(self, autojump_clock: trio.abc.Clock) -> None:
        """It is not presented; who waits gets the clean one, or is told why."""
        authority, clean = (make_authority(datetime.now(UTC)) for _ in range(2))
        bundle = Bundle(TD, (*authority.bundle.anchors, *clean.bundle.anchors))
        store = ContextStore()
        store.trust(Trust(1, bundle))
        store.install(credential_for(authority, API, datetime.now(UTC)))
        assert store.current(API) is not None
        tainted = frozenset({authority.bundle.anchors[0].fingerprint})
        store.trust(Trust(2, bundle, tainted))
        assert store.current(API) is None
        with pytest.raises(NoCredential, match=r"our own certificate 1 .* tainted"):
            await store.wait(API, 5)
        store.install(credential_for(clean, API, datetime.now(UTC), serial=2))
        assert (await store.wait(API, 5)).svid.serial == 2

    async def test_a_revoked_certificate(self) -> None:
        """Nor is one that is on a list, until its number is taken off it again."""
        now = datetime.now(UTC)
        anchor = anchor_at(now)
        authority = authority_under(anchor, now)
        store = ContextStore()
        store.trust(Trust(1, authority.bundle))
        store.install(credential_for(authority, API, now, serial=0xB))
        # The authority's issuer has the number 0xB, under the anchor.
        listed = RevocationList.parse(crl(anchor, 0xB, now=now))
        store.revoke(Revocations([listed]))
        assert store.current(API) is None
        store.revoke(Revocations())
        assert store.current(API) is not None

    async def test_gives_up(self, autojump_clock: trio.abc.Clock) -> None:
        """The error names the identity."""
        with pytest.raises(NoCredential, match=str(API)):
            await ContextStore().wait(API, 5)


class TestExplain:
    @pytest.mark.parametrize(
        "reason", ["DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "RECORD_LAYER_FAILURE"]
    )
    def test_a_tampered_record(self, reason: str) -> None:
        """The same words whichever OpenSSL found it: 3.0 says one, 3.5 the other."""
        error = ssl.SSLError(1, "as OpenSSL has it")
        error.reason = reason

        assert "altered, replayed or not meant for us" in explain(error)
        assert reason in explain(error)
