"""Signing requests with one fault each, and the rule that the fault breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.lab.forgery import (
    DNS,
    DOMAIN,
    IDENTITY,
    OTHER,
    SHOP,
    SIGNS_TOO,
    Key,
    Mould,
    name_of,
    new_key,
    rsa_key,
    uri,
    usage,
)


def request(
    names: tuple[x509.GeneralName, ...] = (uri(IDENTITY),),
    *extensions: x509.ExtensionType,
    key: Key | None = None,
) -> bytes:
    """A signing request (DER), good unless told otherwise."""
    key = key or new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(name_of(""))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), True)
    for extension in extensions:
        builder = builder.add_extension(extension, False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _sequence(*parts: bytes) -> bytes:
    """DER of a SEQUENCE of between 128 and 65,535 bytes."""
    body = b"".join(parts)
    octets = 1 if len(body) < 256 else 2
    return bytes([0x30, 0x80 | octets]) + len(body).to_bytes(octets, "big") + body


def _sha_1_request() -> bytes:
    key = new_key()
    told = x509.load_der_x509_csr(request(key=key)).tbs_certrequest_bytes
    signature = key.sign(told, ec.ECDSA(hashes.SHA1()))  # noqa: S303
    bits = b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature
    # ecdsa-with-SHA1, RFC 3279 section 2.2.3.
    return _sequence(told, bytes.fromhex("300906072a8648ce3d0401"), bits)


def _tampered_request() -> bytes:
    damaged = bytearray(request())
    damaged[-1] ^= 1
    return bytes(damaged)


def _renamed_request() -> bytes:
    return request((uri(OTHER.replace("batch", "apx")),)).replace(b"/apx", b"/api")


def _stolen_key_request() -> bytes:
    """Somebody else's public key, signed by our own."""
    mine, theirs = (x509.load_der_x509_csr(request()) for _ in range(2))
    der = mine.public_bytes(Encoding.DER)
    return der.replace(mine.tbs_certrequest_bytes, theirs.tbs_certrequest_bytes)


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A signing request that must not be signed."""

    name: str
    forge: Callable[[], bytes]
    rule: str
    """`Rule` that it breaks, by name."""


def _asks(name: str, *texts: str, rule: str = "SPIFFE_ID") -> BadRequest:
    names = tuple(map(uri, texts))
    return BadRequest(name, lambda: request(names), rule)


def _wants(name: str, extension: x509.ExtensionType, rule: str) -> BadRequest:
    return BadRequest(name, lambda: request((uri(IDENTITY),), extension), rule)


def _beside(name: str, other: x509.GeneralName) -> BadRequest:
    names = (uri(IDENTITY), other)
    return BadRequest(name, lambda: request(names), "OTHER_NAMES")


def _signed_by(name: str, make: Callable[[], Key], rule: str) -> BadRequest:
    return BadRequest(name, lambda: request(key=make()), rule)


BAD_REQUESTS: Final = (
    BadRequest("empty", lambda: b"", "MALFORMED"),
    BadRequest("cut-short", lambda: request()[:-1], "MALFORMED"),
    BadRequest("more-behind-it", lambda: request() + b"\0", "MALFORMED"),
    BadRequest("a-certificate", lambda: Mould().cast().der, "MALFORMED"),
    BadRequest("too-large", lambda: request() + bytes(20_000), "SIZE"),
    BadRequest("no-san", lambda: request(()), "URI_SAN"),
    BadRequest("no-uri-san", lambda: request((DNS,)), "URI_SAN"),
    _asks("two-uri-sans", IDENTITY, OTHER, rule="URI_SAN"),
    _asks("the-same-uri-twice", IDENTITY, IDENTITY, rule="URI_SAN"),
    _beside("uri-and-dns", DNS),
    _beside("uri-and-address", x509.IPAddress(IPv4Address("10.0.0.1"))),
    _beside("uri-and-mail", x509.RFC822Name("api@shop.example")),
    _beside("uri-and-directory-name", x509.DirectoryName(name_of("api"))),
    _asks("percent-encoded", f"{SHOP}/sa/%61pi"),
    _asks("upper-case-domain", IDENTITY.replace(DOMAIN, "CLUSTER.local")),
    _asks("upper-case-scheme", IDENTITY.replace("spiffe", "SPIFFE")),
    _asks("empty-segment", f"{SHOP}//sa/api"),
    _asks("trailing-slash", f"{IDENTITY}/"),
    _asks("dot-segment", f"{SHOP}/../sa/api"),
    _asks("no-path", f"spiffe://{DOMAIN}"),
    _asks("port", f"spiffe://{DOMAIN}:8443/ns/shop/sa/api"),
    _asks("user", f"spiffe://root@{DOMAIN}/ns/shop/sa/api"),
    _asks("query", f"{IDENTITY}?admin=1"),
    _asks("too-long", f"{IDENTITY}/{'a' * 2048}"),
    _wants("ca", x509.BasicConstraints(True, 3), "LEAF_IS_CA"),
    _wants("cert-sign", SIGNS_TOO, "KEY_USAGE"),
    _wants("crl-sign", usage("digital_signature", "crl_sign"), "KEY_USAGE"),
    _signed_by("rsa-1024", lambda: rsa_key(1024), "KEY_KIND"),
    _signed_by("rsa-2048", lambda: rsa_key(2048), "KEY_KIND"),
    _signed_by("p521", lambda: ec.generate_private_key(ec.SECP521R1()), "KEY_KIND"),
    BadRequest("sha-1", _sha_1_request, "WEAK_DIGEST"),
    BadRequest("tampered-signature", _tampered_request, "POSSESSION"),
    BadRequest("tampered-name", _renamed_request, "POSSESSION"),
    BadRequest("somebody-elses-key", _stolen_key_request, "POSSESSION"),
)
