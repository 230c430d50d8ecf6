"""Private keys are read strictly and never printed."""

from __future__ import annotations

import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from agent.identity.key import InvalidKey, PrivateKey, workload_key


def encrypted() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def of_unused_kind() -> bytes:
    return ed448.Ed448PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"", "expected PKCS #8"),
        (b"SECRET-TEXT", "expected PKCS #8"),
        (encrypted(), "encrypted"),
        (of_unused_kind(), "Ed448PrivateKey"),
    ],
)
def test_refuses(pem: bytes, message: str) -> None:
    """What is not a plain key of our kinds is an error that quotes none of it."""
    with pytest.raises(InvalidKey, match=message) as caught:
        PrivateKey.parse(pem)
    assert "SECRET" not in str(caught.value)


def test_never_prints() -> None:
    """Every way to turn a key into text gives the same nothing."""
    key = PrivateKey.generate()

    assert {repr(key), str(key), f"{key}", f"{key!r}", "%s" % key} == {  # noqa: UP031
        "<PrivateKey ...>"
    }
    assert "PRIVATE" not in repr([key])


def test_travels_to_a_worker() -> None:
    """A pickled key arrives whole and still does not print."""
    key = PrivateKey.generate()
    arrived = pickle.loads(pickle.dumps(key))  # noqa: S301 - our own bytes

    assert arrived == key
    assert arrived.load().public_key() == key.load().public_key()
    assert repr(arrived) == "<PrivateKey ...>"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
)
def test_a_workload_may_have(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    """P-256, P-384 and Ed25519 pass."""
    assert workload_key(key.public_key()) == key.public_key()


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ec.generate_private_key(ec.SECP521R1()), "secp521r1"),
        (rsa.generate_private_key(65537, 2048), "RSAPublicKey"),
    ],
)
def test_a_workload_may_not_have(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, kind: str
) -> None:
    """Other kinds are refused by name."""
    with pytest.raises(InvalidKey, match=kind):
        workload_key(key.public_key())
