"""A credential is a chain and the key of its leaf."""

from __future__ import annotations

import pickle

import pytest

from agent.identity.certificate import InvalidCertificate
from agent.identity.credential import Credential, InvalidCredential
from agent.identity.key import PrivateKey
from agent.identity.pem import CERTIFICATE, InvalidPem, format_blocks
from tests.unit.identity.parts import API, certificate, credential_for, make_authority

AUTHORITY = make_authority()


def test_refuses_another_key() -> None:
    """A certificate is of no use without its own key."""
    chain = credential_for(AUTHORITY, API).chain_pem
    with pytest.raises(InvalidCredential, match="sa/api is for another key"):
        Credential.assemble(chain, PrivateKey.generate())


@pytest.mark.parametrize(
    ("chain", "error"),
    [
        (b"", InvalidCredential),
        (b"nothing", InvalidPem),
        (format_blocks([certificate(ca=True)], CERTIFICATE), InvalidCertificate),
        (format_blocks([certificate(), b"\0"], CERTIFICATE), InvalidCertificate),
    ],
)
def test_refuses_a_chain(chain: bytes, error: type[Exception]) -> None:
    """An empty, unreadable or wrongly made chain is named as such."""
    with pytest.raises(error):
        Credential.assemble(chain, PrivateKey.generate())


def test_knows_its_identity_and_chain() -> None:
    """The leaf comes first and tells who we are."""
    credential = credential_for(AUTHORITY, API)

    assert credential.svid.spiffe_id == API
    assert len(credential.chain_der) == 2


def test_travels_and_does_not_print_its_key() -> None:
    """It goes to a worker by pickle; its text has no key."""
    credential = credential_for(AUTHORITY, API)

    assert pickle.loads(pickle.dumps(credential)) == credential  # noqa: S301 - ours
    assert "<PrivateKey ...>" in repr(credential)
    assert "PRIVATE KEY" not in repr(credential)
