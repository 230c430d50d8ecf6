"""A private key shows up in nothing that we write, whatever goes wrong around it."""

from __future__ import annotations

import io
from typing import Literal

import pytest

from agent.identity.chain import Chain
from agent.identity.key import InvalidKey, PrivateKey
from agent.log import configure, logger
from agent.proxy.instructions import CredentialIssued
from agent.proxy.papers import Papers
from agent.proxy.tls import build_contexts
from tests.unit.identity.parts import API, anchor_at, credential_for, make_authority

AUTHORITY = make_authority()
CREDENTIAL = credential_for(AUTHORITY, API)
CHAIN = Chain.of_credential(CREDENTIAL, AUTHORITY.bundle)
# What any rendering of the key would have in it: the middle of its PEM.
TELLTALE = CREDENTIAL.key.pem.decode().splitlines()[2][:40]


@pytest.mark.parametrize(
    "holder",
    [
        CREDENTIAL.key,
        CREDENTIAL,
        CredentialIssued(CREDENTIAL),
        build_contexts(CREDENTIAL, AUTHORITY.bundle),
        Papers(CHAIN, CHAIN),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_no_holder_prints_it(holder: object) -> None:
    """Neither do the tuples and dictionaries that they may be in."""
    assert TELLTALE in CREDENTIAL.key.pem.decode()
    for text in (repr(holder), str(holder), repr({"key": [holder]})):
        assert TELLTALE not in text
        assert "PRIVATE KEY" not in text


def test_nor_does_an_authority() -> None:
    """Issuer and anchor keys least of all."""
    anchor = anchor_at()
    assert anchor.key.pem.decode().splitlines()[1] not in repr(anchor)
    assert "PRIVATE KEY" not in repr(AUTHORITY)


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_quotes_no_local(form: Literal["json", "console"]) -> None:
    """A bug right beside a key is logged with its traceback, and without the key."""
    out = io.StringIO()
    configure("info", form, out)
    try:
        parse(CREDENTIAL.key.pem + b"broken")
    except InvalidKey:
        logger().exception("a bug", key=CREDENTIAL.key.pem)
    told = out.getvalue()
    assert "InvalidKey" in told
    assert TELLTALE not in told
    assert "PRIVATE KEY" not in told


def parse(text: bytes) -> PrivateKey:
    return PrivateKey.parse(text.replace(b"BEGIN", b"BEGUN"))
