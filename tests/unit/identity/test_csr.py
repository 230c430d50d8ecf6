"""A signing request names one identity and proves that its sender has the key."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.certificate import Rule
from agent.identity.csr import MAX_CSR_BYTES, InvalidCsr, check_csr, make_csr
from agent.identity.key import PrivateKey
from tests.lab.bad_requests import BAD_REQUESTS, BadRequest
from tests.unit.identity.parts import API, BATCH, csr, uri

KEY = PrivateKey.generate()
GOOD = make_csr(API, KEY)
SIGNED = x509.load_der_x509_csr(GOOD).tbs_certrequest_bytes
NAME = uri(str(API))


def test_what_we_make_passes() -> None:
    """Identity and key come back; empty subject, critical SAN, nothing else."""
    checked = check_csr(GOOD)
    request = x509.load_der_x509_csr(GOOD)

    assert checked.spiffe_id == API
    assert checked.public_key == KEY.load().public_key()
    assert not list(request.subject)
    assert [(ext.oid, ext.critical) for ext in request.extensions] == [
        (x509.SubjectAlternativeName.oid, True)
    ]


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()],
)
def test_other_kinds_of_key_pass(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
) -> None:
    """P-384 and Ed25519 are as good."""
    assert check_csr(make_csr(API, PrivateKey.of(key))).spiffe_id == API


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], "none"),
        ([NAME, uri(str(BATCH))], "UniformResourceIdentifier, Uniform"),
        ([NAME, x509.DNSName("identity.podlock.internal")], "DNSName"),
        ([NAME, x509.IPAddress(ip_address("10.0.0.1"))], "IPAddress"),
        ([NAME, x509.RFC822Name("a@example.org")], "RFC822Name"),
        ([x509.DNSName("api")], "DNSName"),
        ([uri("https://example.org/")], "does not start with spiffe"),
        ([uri("spiffe://cluster.local")], "has a path"),
    ],
)
def test_refuses_names(names: list[x509.GeneralName], found: str) -> None:
    """One URI SAN, a SPIFFE ID, and no name of any other kind."""
    with pytest.raises(InvalidCsr, match=found):
        check_csr(csr(names))


@pytest.mark.parametrize("bad", BAD_REQUESTS, ids=lambda bad: bad.name)
def test_refuses_a_bad_request(bad: BadRequest) -> None:
    """Each fault by its own rule; none comes through."""
    with pytest.raises(InvalidCsr) as caught:
        check_csr(bad.forge())
    assert caught.value.rule is Rule[bad.rule]


def test_refuses_a_would_be_ca() -> None:
    """CA:TRUE is refused, CA:FALSE says what we do anyway."""
    with pytest.raises(InvalidCsr, match="CA:TRUE"):
        check_csr(csr([NAME], x509.BasicConstraints(True, None)))
    harmless = csr([NAME], x509.BasicConstraints(False, None))
    assert check_csr(harmless).spiffe_id == API


@pytest.mark.parametrize(
    "key",
    [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP521R1())],
)
def test_refuses_kinds_of_key(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
) -> None:
    """RSA and other curves are refused."""
    with pytest.raises(InvalidCsr, match="expected P-256"):
        check_csr(csr([NAME], key=key))


def test_refuses_another_holders_key() -> None:
    """A request with somebody else's public key is not proof of possession."""
    theirs = x509.load_der_x509_csr(make_csr(API, PrivateKey.generate()))
    mine = x509.load_der_x509_csr(GOOD)
    forged = GOOD.replace(mine.tbs_certrequest_bytes, theirs.tbs_certrequest_bytes)

    assert forged != GOOD
    with pytest.raises(InvalidCsr, match="not signed by the key"):
        check_csr(forged)


def test_refuses_a_large_one_unread() -> None:
    """The limit comes before the parser."""
    with pytest.raises(InvalidCsr, match="at most"):
        check_csr(b"\x30" * (MAX_CSR_BYTES + 1))


@given(st.binary())
def test_any_bytes_are_refused(der: bytes) -> None:
    """Nothing but InvalidCsr comes out of noise."""
    with pytest.raises(InvalidCsr):
        check_csr(der)


@given(st.data())
def test_no_changed_byte_changes_the_meaning(data: st.DataObject) -> None:
    """Damage is refused; only the signature's own encoding has some play."""
    position = data.draw(st.integers(0, len(GOOD) - 1))
    damaged = bytearray(GOOD)
    damaged[position] ^= data.draw(st.integers(1, 255))
    signed_end = GOOD.index(SIGNED) + len(SIGNED)
    try:
        checked = check_csr(bytes(damaged))
    except InvalidCsr:
        return
    assert position >= signed_end
    assert checked == check_csr(GOOD)
