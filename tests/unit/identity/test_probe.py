"""An issuer is adopted only if peers accept what it signs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from agent.errors import InputError
from agent.identity.authority import Authority
from agent.identity.bundle import Bundle
from agent.identity.key import PrivateKey
from agent.identity.probe import require_acceptable
from tests.unit.identity.parts import NOW, TD

Extension = tuple[x509.ExtensionType, bool]
YEAR = timedelta(days=365)
SERVER_ONLY: Extension = (
    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    False,
)
CLIENT_ONLY: Extension = (
    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
    False,
)
BOTH: Extension = (
    x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    ),
    False,
)
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\0")
USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def ca(
    subject: str,
    key: Any,
    signer: tuple[str, Any],
    *extensions: Extension,
    start: timedelta = -YEAR,
    end: timedelta = YEAR,
) -> x509.Certificate:
    """A CA certificate, valid around NOW."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(signer[0]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + start)
        .not_valid_after(NOW + end)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(USAGE, critical=True)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer[1], hashes.SHA256())


def pem_of(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


ROOT_KEY = ec.generate_private_key(ec.SECP256R1())
ISSUER_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
ROOT = ca("root", ROOT_KEY, ("root", ROOT_KEY))
OLD_ROOT = ca("root", ROOT_KEY, ("root", ROOT_KEY), end=-timedelta(days=1))
STRANGER = ca("stranger", OTHER_KEY, ("stranger", OTHER_KEY))


def issuer(*extensions: Extension, key: Any = ISSUER_KEY) -> x509.Certificate:
    return ca("issuer", key, ("root", ROOT_KEY), *extensions)


def probe(
    chain: Sequence[x509.Certificate],
    root: x509.Certificate = ROOT,
    key: Any = ISSUER_KEY,
) -> None:
    """What an adoption does with an issuer. Raises: InputError."""
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    bundle = Bundle.parse(TD, pem_of(root))
    authority = Authority.assemble(
        bundle, pem_of(*chain), PrivateKey.parse(text), now=NOW
    )
    require_acceptable(authority.issue_server(now=NOW, serial=1), bundle)


@pytest.mark.parametrize(
    "chain",
    [
        [issuer()],
        [issuer(BOTH)],
        [issuer((UNKNOWN, False))],
        [issuer(), ROOT],
        [issuer(), OLD_ROOT],
    ],
    ids=["plain", "both uses", "unknown extension", "with root", "with expired root"],
)
def test_a_good_issuer(chain: list[x509.Certificate]) -> None:
    probe(chain)


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ([issuer(SERVER_ONLY)], "purpose"),
        ([issuer(CLIENT_ONLY)], "purpose"),
        ([issuer((UNKNOWN, True))], "critical extension"),
        ([issuer(), STRANGER], "does not certify the one before it"),
    ],
    ids=["server only", "client only", "critical extension", "unrelated certificate"],
)
def test_one_that_peers_refuse(chain: list[x509.Certificate], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        probe(chain)


@pytest.mark.parametrize("use", [SERVER_ONLY, CLIENT_ONLY])
def test_an_anchor_without_a_use(use: Extension) -> None:
    root = ca("root", ROOT_KEY, ("root", ROOT_KEY), use)
    with pytest.raises(InputError):
        probe([issuer()], root)


def test_a_short_rsa_key() -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - peers refuse it
    with pytest.raises(InputError):
        probe([issuer(key=key)], key=key)
