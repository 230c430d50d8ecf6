"""
What we issue and refuse, seen by others: OpenSSL's own commands and py-spiffe.

`openssl verify` judges chains (not SPIFFE's rules), py-spiffe judges the profile of an
X.509-SVID (not who signed it); together they see what a peer of ours sees. go-spiffe
is not asked: it needs a Go toolchain, which a machine that runs these tests rarely has.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from spiffe import X509Svid
from spiffe.errors import PySpiffeError

from agent.identity import pem
from agent.identity.certificate import InvalidCertificate, inspect
from agent.identity.csr import check_csr, make_csr
from agent.identity.key import PrivateKey
from tests.lab.bad_chains import BAD_CHAINS, BadChain
from tests.lab.forgery import Forged, Realm, leaf
from tests.unit.identity.parts import API, credential_for, make_authority

PURPOSES: Final = ("sslclient", "sslserver")
REALM = Realm.create()
AUTHORITY = make_authority(datetime.now(UTC))
ANCHOR = AUTHORITY.bundle.anchors[0].der
ISSUED = credential_for(AUTHORITY, API, datetime.now(UTC))

# What X509-SVID asks beyond X.509: OpenSSL has no opinion on it.
SPIFFE_ONLY: Final = {
    "URI_SAN",
    "SPIFFE_ID",
    "TRUST_DOMAIN",
    "LEAF_IS_CA",
    "KEY_USAGE",
    "KEY_KIND",
    "CHAIN_ORDER",
    "EXTRA_CERTIFICATE",
}
# What is said of a leaf alone, and not of who signed it or when.
PROFILE: Final = {"URI_SAN", "SPIFFE_ID", "LEAF_IS_CA", "KEY_USAGE"}
# py-spiffe lowers a trust domain's case, and knows no limit of length (SPIFFE-ID
# sections 2.1 and 2.3 have both).
LENIENT: Final = {"upper-case-domain", "too-long", "domain-too-long"}
OF_THE_LEAF = [
    bad for bad in BAD_CHAINS if bad.rule in PROFILE and bad.name not in LENIENT
]


@dataclass(frozen=True, slots=True)
class Files:
    """A chain as OpenSSL's commands take it."""

    directory: Path

    def write(self, name: str, ders: Sequence[bytes]) -> str:
        path = self.directory / name
        path.write_bytes(pem.format_blocks(ders, pem.CERTIFICATE))
        return str(path)

    def verify(self, anchor: bytes, chain: Sequence[bytes], purpose: str) -> str:
        """'' where `openssl verify` is content, else what it says."""
        command = ["openssl", "verify", "-auth_level", "2", "-purpose", purpose]
        command += ["-CAfile", self.write("anchor.pem", [anchor])]
        if chain[1:]:
            command += ["-untrusted", self.write("untrusted.pem", chain[1:])]
        command.append(self.write("leaf.pem", chain[:1]))
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def openssl(*command: str) -> str:
    done = subprocess.run(
        ["openssl", *command], check=True, capture_output=True, text=True
    )
    return done.stdout


def as_svid(chain: Sequence[bytes], key: PrivateKey) -> X509Svid:
    """As py-spiffe reads what a SPIFFE agent hands out. Raises: PySpiffeError."""
    loaded = key.load()
    pkcs8 = loaded.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return X509Svid.parse_raw(b"".join(chain), pkcs8)


class TestWhatWeIssue:
    @pytest.mark.parametrize("purpose", PURPOSES)
    def test_openssl_verifies_it(self, files: Files, purpose: str) -> None:
        """As a client's and as a server's certificate, also by the strict rules."""
        assert files.verify(ANCHOR, ISSUED.chain_der, purpose) == ""
        strict = ["openssl", "verify", "-x509_strict", "-CAfile"]
        strict += [files.write("anchor.pem", [ANCHOR])]
        strict += ["-untrusted", files.write("issuer.pem", ISSUED.chain_der[1:])]
        strict += [files.write("leaf.pem", ISSUED.chain_der[:1])]
        assert subprocess.run(strict, check=False, capture_output=True).returncode == 0

    def test_openssl_reads_it(self, files: Files) -> None:
        """The fields of X509-SVID appendix A, in OpenSSL's words."""
        text = openssl(
            "x509",
            "-noout",
            "-text",
            "-in",
            files.write("leaf.pem", ISSUED.chain_der[:1]),
        )
        for line in (
            "Version: 3 (0x2)",
            "ASN1 OID: prime256v1",
            "X509v3 Subject Alternative Name: critical",
            f"URI:{API}",
            "X509v3 Basic Constraints: critical",
            "CA:FALSE",
            "X509v3 Key Usage: critical",
            "TLS Web Client Authentication, TLS Web Server Authentication",
            "ecdsa-with-SHA256",
        ):
            assert line in text
        usage = text.split("X509v3 Key Usage: critical")[1].splitlines()[1]
        assert usage.strip() == "Digital Signature"

    def test_openssl_reads_our_request(self, files: Files) -> None:
        """Its signature holds, and its one name is the identity."""
        path = files.directory / "request.pem"
        der = make_csr(API, PrivateKey.generate())
        path.write_bytes(pem.format_blocks([der], pem.CERTIFICATE_REQUEST))
        text = openssl("req", "-verify", "-noout", "-text", "-in", str(path))
        assert f"URI:{API}" in text
        assert "Version: 1 (0x0)" in text

    def test_py_spiffe_takes_it(self) -> None:
        """An X.509-SVID by somebody else's reading of the standard."""
        assert str(as_svid(ISSUED.chain_der, ISSUED.key).spiffe_id) == str(API)


class TestWhatWeRefuse:
    @pytest.mark.parametrize("bad", BAD_CHAINS, ids=lambda bad: bad.name)
    def test_openssl_agrees(self, bad: BadChain, files: Files) -> None:
        """It refuses the same chains, but for what only SPIFFE forbids."""
        forged = bad.forge(REALM)
        for purpose, rule in zip(PURPOSES, (bad.as_client, bad.as_server), strict=True):
            told = files.verify(REALM.anchor.der, forged.chain, purpose)
            broken = set((rule or bad.rule).split("+"))
            by_spiffe = broken <= {*SPIFFE_ONLY, "EXTENDED_KEY_USAGE"}
            assert bool(told) != by_spiffe, told

    @pytest.mark.parametrize("bad", OF_THE_LEAF, ids=lambda bad: bad.name)
    def test_py_spiffe_agrees(self, bad: BadChain) -> None:
        """It refuses every leaf that breaks the profile."""
        forged = bad.forge(REALM)
        with pytest.raises(PySpiffeError):
            as_svid(forged.chain, PrivateKey.of(forged.key))
        with pytest.raises(InvalidCertificate):
            inspect(forged.chain[0])

    def test_both_take_a_good_one(self, files: Files) -> None:
        """What they refuse above, they refuse for its one fault."""
        good: Forged = leaf(REALM)
        assert files.verify(REALM.anchor.der, good.chain, "sslserver") == ""
        assert str(as_svid(good.chain, PrivateKey.of(good.key)).spiffe_id) == str(API)

    def test_openssl_agrees_on_the_hour(self, files: Files) -> None:
        """A certificate is refused before and after its time, by both."""
        for starts in (timedelta(minutes=5), timedelta(hours=-3)):
            chain = leaf(REALM, starts=starts).chain
            assert files.verify(REALM.anchor.der, chain, "sslclient")


def test_a_request_made_by_openssl_passes(files: Files) -> None:
    """Who makes requests by hand is served as well."""
    path = files.directory / "by-hand.pem"
    key = files.directory / "by-hand.key"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    openssl(
        *("req", "-new", "-key", str(key), "-out", str(path), "-subj", "/"),
        *("-addext", f"subjectAltName=URI:{API}"),
    )
    (der,) = pem.parse(path.read_bytes(), pem.CERTIFICATE_REQUEST)
    assert check_csr(der).spiffe_id == API
    assert x509.load_der_x509_csr(der).is_signature_valid
