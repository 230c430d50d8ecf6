"""The limits that OpenSSL has and `ssl` does not offer."""

from __future__ import annotations

import ssl

import pytest
import trio

from agent import openssl
from tests.lab.key_update import NOT_REQUESTED, send_key_update
from tests.unit.proxy.joined import handshake


def test_the_library_is_the_one_that_ssl_uses() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    library = openssl._library()
    before = openssl._default_of(library, openssl._context_pointer(context))
    openssl.limit_peer_chain(context, 1 << 14, 10)
    after = openssl._default_of(library, openssl._context_pointer(context))
    assert (before, after) == (100 * 1024, 1 << 14)


def test_another_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed behind a pointer that does not lead back."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    elsewhere = openssl._context_pointer(context)
    monkeypatch.setattr(openssl, "_context_pointer", lambda _context: elsewhere)
    with pytest.raises(openssl.UnknownOpenSsl, match="OpenSSL"):
        openssl._require_known(openssl._library())


async def test_a_read_ends_at_a_record_without_payload() -> None:
    """OpenSSL by itself reads on as long as records come."""
    client, server = await handshake()
    updates = 5
    for _ in range(updates):
        send_key_update(client.tls, NOT_REQUESTED)
    assert client.send_now(memoryview(b"payload")) == 7
    reads = 0
    while True:
        await trio.lowlevel.wait_readable(server.tls)
        try:
            assert server.tls.read(100) == b"payload"
            break
        except ssl.SSLWantReadError:
            reads += 1
    assert reads >= updates
    client.close()
    server.close()
