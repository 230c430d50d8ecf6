"""The embedded authority answers as the service would."""

from __future__ import annotations

from contextlib import aclosing
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from agent.identity.csr import make_csr
from agent.identity.key import PrivateKey
from agent.identity.local import EmbeddedIdentity
from agent.identity.report import TrustReport
from agent.identity.source import (
    CertificateSource,
    IdentityRefused,
    IdentityUnavailable,
)
from agent.identity.spiffe import SpiffeId
from agent.identity.trust import Trust
from tests.unit.identity.parts import API, BATCH, NOW, at_work, make_authority

AUTHORITY = make_authority()


def embedded(away: timedelta = timedelta(0)) -> CertificateSource:
    issuance = at_work(AUTHORITY, ("n1", API), clock=lambda: NOW + away)
    return EmbeddedIdentity(issuance, "n1")


def csr(identity: SpiffeId) -> bytes:
    return make_csr(identity, PrivateKey.generate())


async def test_refuses_what_does_not_run_here() -> None:
    """The same question, the same reason, the same log line."""
    with capture_logs() as lines, pytest.raises(IdentityRefused) as caught:
        await embedded().sign(csr(BATCH))
    assert caught.value.reason == "identity_not_on_node"
    assert [line["event"] for line in lines] == ["certificate refused"]


async def test_an_expired_issuer_can_be_asked_again() -> None:
    """Somebody may replace it."""
    with pytest.raises(IdentityUnavailable, match="expired"):
        await embedded(timedelta(days=366)).sign(csr(API))


async def test_signs_and_tells_the_anchors() -> None:
    """Issued, logged, with the trust that it is judged by."""
    source = embedded()
    with capture_logs() as lines:
        signed = await source.sign(csr(API))
    async with aclosing(source.watch()) as changes:
        assert signed.trust == await anext(changes) == Trust(1, AUTHORITY.bundle)
    assert signed.chain_pem.endswith(AUTHORITY.chain_pem)
    assert [line["node"] for line in lines] == ["n1"]


async def test_hears_its_own_node_only() -> None:
    """A report of another node is a mistake, and told."""
    await embedded().acknowledge(TrustReport("n1", 1))
    with pytest.raises(IdentityRefused, match="report of node n2"):
        await embedded().acknowledge(TrustReport("n2", 1))
