"""Chains and keys as OpenSSL sees them: mutual TLS 1.3, both sides in memory."""

from __future__ import annotations

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.identity.authority import SERVICE_NAME, Authority
from agent.identity.certificate import inspect
from agent.identity.context import load_credential
from agent.identity.credential import Credential, InvalidCredential
from agent.identity.key import PrivateKey
from tests.unit.identity.parts import API, BATCH, credential_for, make_authority

# OpenSSL compares with the machine's clock, so these certificates are made by it.
NOW = datetime.now(UTC)
AUTHORITY = make_authority(NOW)


def context(
    side: int, credential: Credential | None, trusted: Authority = AUTHORITY
) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    # As strict as OpenSSL can be: RFC 5280's rules on every extension.
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=trusted.bundle.pem.decode())
    if credential is not None:
        load_credential(made, credential)
    return made


def handshake(
    client: ssl.SSLContext, server: ssl.SSLContext, name: str | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Carry the bytes between both ends until each is done."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = client.wrap_bio(to_client, to_server, server_hostname=name)
    right = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [left, right, left, right, left]
    for end in waiting:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert left.version() == right.version() == "TLSv1.3"
    return left, right


def test_each_side_learns_the_others_identity() -> None:
    """One certificate serves as client and as server; both prove an identity."""
    api, batch = (
        credential_for(AUTHORITY, API, NOW),
        credential_for(AUTHORITY, BATCH, NOW),
    )
    client, server = handshake(
        context(ssl.PROTOCOL_TLS_CLIENT, api), context(ssl.PROTOCOL_TLS_SERVER, batch)
    )

    presented = (server.getpeercert(True), client.getpeercert(True))
    assert [inspect(der or b"").spiffe_id for der in presented] == [API, BATCH]


def test_a_stranger_is_refused() -> None:
    """Another authority's certificate fails on both sides."""
    stranger = credential_for(make_authority(NOW), API, NOW)
    ours = credential_for(AUTHORITY, BATCH, NOW)
    for left, right in [(ours, stranger), (stranger, ours)]:
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(
                context(ssl.PROTOCOL_TLS_CLIENT, left),
                context(ssl.PROTOCOL_TLS_SERVER, right),
            )


def test_an_expired_certificate_is_refused() -> None:
    """What was issued two days ago is over."""
    past = make_authority(NOW - timedelta(days=2))
    old = credential_for(past, API, NOW - timedelta(days=2))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(
            context(ssl.PROTOCOL_TLS_CLIENT, old, past),
            context(ssl.PROTOCOL_TLS_SERVER, old, past),
        )


def test_only_the_service_has_the_services_name() -> None:
    """A workload's certificate, under the same anchor, is not the identity service."""
    client = context(ssl.PROTOCOL_TLS_CLIENT, None)
    client.check_hostname = True

    def server(credential: Credential) -> ssl.SSLContext:
        made = context(ssl.PROTOCOL_TLS_SERVER, credential)
        made.verify_mode = ssl.CERT_NONE
        return made

    handshake(client, server(AUTHORITY.issue_server(now=NOW, serial=1)), SERVICE_NAME)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)hostname mismatch"):
        handshake(client, server(credential_for(AUTHORITY, API, NOW)), SERVICE_NAME)


def test_a_context_takes_a_successor() -> None:
    """The next handshake presents the new certificate; no new context is needed."""
    server = context(ssl.PROTOCOL_TLS_SERVER, credential_for(AUTHORITY, API, NOW))
    client = context(ssl.PROTOCOL_TLS_CLIENT, credential_for(AUTHORITY, API, NOW))
    successor = credential_for(AUTHORITY, BATCH, NOW)
    handshake(client, server)

    load_credential(server, successor)
    presented = handshake(client, server)[0].getpeercert(True)
    assert inspect(presented or b"") == successor.svid


def test_refuses_a_key_that_does_not_fit() -> None:
    """OpenSSL's complaint names our workload."""
    broken = replace(credential_for(AUTHORITY, API, NOW), key=PrivateKey.generate())
    with pytest.raises(InvalidCredential, match="sa/api"):
        load_credential(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), broken)


def test_leaves_nothing_open() -> None:
    """The anonymous file with the key is closed again."""
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    context(ssl.PROTOCOL_TLS_SERVER, credential_for(AUTHORITY, API, NOW))

    assert len(list(descriptors.iterdir())) == before
