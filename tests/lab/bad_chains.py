"""
Chains with one fault each, and the rule that the fault breaks.

Whoever presents one holds the key of its first certificate, and mostly the issuer's:
nothing but the fault itself is in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.lab.forgery import (
    DNS,
    DOMAIN,
    IDENTITY,
    OTHER,
    SHOP,
    SIGNS_TOO,
    Forged,
    Mould,
    Realm,
    Signer,
    authority,
    leaf,
    new_key,
    rsa_key,
    under,
    uri,
    usage,
)

# 1.2.840.113549.1.1.11 and .5 (RFC 8017 appendix A.2.4), DER.
_SHA_256_WITH_RSA: Final = bytes.fromhex("06092a864886f70d01010b")
_SHA_1_WITH_RSA: Final = bytes.fromhex("06092a864886f70d010105")


def _reordered(realm: Realm, order: Sequence[int]) -> Forged:
    upper = authority("upper").cast(realm.anchor)
    lower = authority("lower").cast(upper)
    made = Mould().cast(lower)
    ders = (made.der, lower.der, upper.der, authority("stranger").cast().der)
    return Forged(tuple(ders[at] for at in order), made.key)


def _tampered(realm: Realm) -> Forged:
    good = leaf(realm)
    damaged = bytearray(good.chain[0])
    damaged[-1] ^= 1
    return Forged((bytes(damaged), *good.chain[1:]), good.key)


def _renamed(realm: Realm) -> Forged:
    """Signed for BATCH, then turned into a certificate for API by hand."""
    named = leaf(realm, names=(uri(IDENTITY.replace("/api", "/apx")),))
    return Forged(
        (named.chain[0].replace(b"/sa/apx", b"/sa/api"), *named.chain[1:]), named.key
    )


def _self_signed(_realm: Realm) -> Forged:
    made = Mould(subject="nobody").cast()
    return Forged((made.der,), made.key)


def _own_authority(_realm: Realm) -> Forged:
    evil = authority("evil").cast()
    made = Mould().cast(evil)
    return Forged((made.der, evil.der), made.key)


def _issuers_key_other_name(realm: Realm) -> Forged:
    """The real issuer's key under a name that the anchor never signed."""
    alias = authority("alias").cast(key=realm.issuer.key)
    return leaf(Realm(realm.anchor, alias))


def _issuers_name_other_key(realm: Realm) -> Forged:
    """A leaf that names the real issuer, signed by somebody else's key."""
    impostor = Signer(realm.issuer.certificate, new_key())
    return leaf(Realm(realm.anchor, impostor), points_to_its_issuer=False)


def _signed_by_a_workload(realm: Realm) -> Forged:
    workload = Mould(subject="workload").cast(realm.issuer)
    made = Mould().cast(workload)
    return Forged((made.der, workload.der, realm.issuer.der), made.key)


def _one_authority_too_many(realm: Realm) -> Forged:
    narrow = authority("narrow", path_length=0).cast(realm.anchor)
    below = authority("below").cast(narrow)
    made = Mould().cast(below)
    return Forged((made.der, below.der, narrow.der), made.key)


def _constrained(realm: Realm, *, permitted: str = "", excluded: str = "") -> Forged:
    limits = x509.NameConstraints(
        [uri(permitted)] if permitted else None, [uri(excluded)] if excluded else None
    )
    return under(realm, authority("narrow", more=((limits, True),)))


def _sha_1(realm: Realm) -> Forged:
    """The library signs no SHA-1 certificate, so a SHA-256 one is made over."""
    key = rsa_key(2048)
    issuer = authority("sha-1").cast(realm.anchor, key)
    made = Mould().cast(issuer)
    before = made.certificate.tbs_certificate_bytes
    after = before.replace(_SHA_256_WITH_RSA, _SHA_1_WITH_RSA)
    signature = key.sign(after, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    der = made.der.replace(_SHA_256_WITH_RSA, _SHA_1_WITH_RSA)
    der = der.replace(made.certificate.signature, signature)
    return Forged((der, issuer.der), made.key)


def _unknown_critical(realm: Realm) -> Forged:
    odd = x509.UnrecognizedExtension(
        x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\5\0"
    )
    return leaf(realm, more=((odd, True),))


def _issuer_itself(realm: Realm) -> Forged:
    """Who has stolen the issuer's key, and does not trouble to sign anything."""
    return Forged((realm.issuer.der, Mould().cast(realm.issuer).der), realm.issuer.key)


def _versatile_issuer(realm: Realm) -> Forged:
    """The same with an issuer that may also sign handshakes, and has an identity."""
    mould = authority("versatile", names=(uri(IDENTITY),), usage=SIGNS_TOO)
    issuer = mould.cast(realm.anchor)
    return Forged((issuer.der,), issuer.key)


@dataclass(frozen=True, slots=True)
class BadChain:
    """A chain that must not be accepted."""

    name: str
    forge: Callable[[Realm], Forged]
    rule: str
    """`Rule` that it breaks, by name; with + between them where it breaks two."""
    as_server: str | None = None
    """Where OpenSSL tells it as another rule when a server presents it."""
    as_client: str | None = None


def _named(name: str, *texts: str, rule: str = "SPIFFE_ID") -> BadChain:
    names = tuple(map(uri, texts))
    return BadChain(name, lambda realm: leaf(realm, names=names), rule)


BAD_CHAINS: Final = (
    BadChain("expired", lambda r: leaf(r, starts=timedelta(hours=-3)), "EXPIRED"),
    BadChain(
        "expired-issuer",
        lambda r: under(r, authority("old", starts=timedelta(days=-31))),
        "EXPIRED",
    ),
    BadChain(
        "not-yet-valid", lambda r: leaf(r, starts=timedelta(minutes=5)), "NOT_YET_VALID"
    ),
    BadChain("no-san", lambda r: leaf(r, names=(), subject="api"), "URI_SAN"),
    BadChain("no-uri-san", lambda r: leaf(r, names=(DNS,)), "URI_SAN"),
    _named("two-uri-sans", IDENTITY, OTHER, rule="URI_SAN"),
    _named("uri-and-web-uri", IDENTITY, "https://api.shop/", rule="URI_SAN"),
    _named("wrong-domain", "spiffe://other.org/ns/shop/sa/api", rule="TRUST_DOMAIN"),
    _named("sub-domain", f"spiffe://a.{DOMAIN}/ns/shop/sa/api", rule="TRUST_DOMAIN"),
    _named("percent-encoded", f"{SHOP}/sa/%61pi"),
    _named("percent-encoded-slash", f"{SHOP}%2Fsa/api"),
    _named("upper-case-domain", IDENTITY.replace(DOMAIN, "CLUSTER.local")),
    _named("upper-case-scheme", IDENTITY.replace("spiffe", "SPIFFE")),
    _named("empty-segment", f"{SHOP}//sa/api"),
    _named("trailing-slash", f"{IDENTITY}/"),
    _named("dot-segment", f"{SHOP}/../sa/api"),
    _named("no-path", f"spiffe://{DOMAIN}"),
    _named("no-domain", "spiffe:///ns/shop/sa/api"),
    _named("port", f"spiffe://{DOMAIN}:8443/ns/shop/sa/api"),
    _named("user", f"spiffe://root@{DOMAIN}/ns/shop/sa/api"),
    _named("query", f"{IDENTITY}?admin=1"),
    _named("fragment", f"{IDENTITY}#admin"),
    _named("too-long", f"{IDENTITY}/{'a' * 2048}"),
    _named("domain-too-long", f"spiffe://{'a' * 256}/ns/shop/sa/api"),
    BadChain("ca-leaf", lambda r: leaf(r, ca=True), "LEAF_IS_CA"),
    BadChain("cert-sign-leaf", lambda r: leaf(r, usage=SIGNS_TOO), "KEY_USAGE"),
    BadChain(
        "crl-sign-leaf",
        lambda r: leaf(r, usage=usage("digital_signature", "crl_sign")),
        "KEY_USAGE",
    ),
    BadChain("no-key-usage", lambda r: leaf(r, usage=None), "KEY_USAGE"),
    BadChain(
        "no-digital-signature",
        lambda r: leaf(r, usage=usage("key_agreement")),
        "KEY_USAGE",
    ),
    BadChain(
        "key-usage-of-nothing",
        lambda r: leaf(r, usage=usage("content_commitment")),
        "PURPOSE",
    ),
    BadChain(
        "client-only",
        lambda r: leaf(r, roles=(ExtendedKeyUsageOID.CLIENT_AUTH,)),
        "EXTENDED_KEY_USAGE",
        as_server="PURPOSE",
    ),
    BadChain(
        "server-only",
        lambda r: leaf(r, roles=(ExtendedKeyUsageOID.SERVER_AUTH,)),
        "EXTENDED_KEY_USAGE",
        as_client="PURPOSE",
    ),
    BadChain(
        "mail-only",
        lambda r: leaf(r, roles=(ExtendedKeyUsageOID.EMAIL_PROTECTION,)),
        "PURPOSE",
    ),
    BadChain("rsa-1024", lambda r: leaf(r, rsa_key(1024)), "WEAK_KEY"),
    BadChain("rsa-2048", lambda r: leaf(r, rsa_key(2048)), "KEY_KIND"),
    BadChain(
        "rsa-1024-issuer",
        lambda r: under(r, authority("weak"), rsa_key(1024)),
        "WEAK_KEY",
    ),
    BadChain(
        "p521", lambda r: leaf(r, ec.generate_private_key(ec.SECP521R1())), "KEY_KIND"
    ),
    BadChain("sha-1", _sha_1, "WEAK_DIGEST"),
    BadChain("issuer-first", _issuer_itself, "PURPOSE"),
    BadChain("issuer-as-peer", _versatile_issuer, "LEAF_IS_CA+KEY_USAGE"),
    BadChain("no-issuer", lambda r: _reordered(r, [0]), "UNKNOWN_AUTHORITY"),
    BadChain("missing-link", lambda r: _reordered(r, [0, 1]), "UNKNOWN_AUTHORITY"),
    BadChain("wrong-order", lambda r: _reordered(r, [0, 2, 1]), "CHAIN_ORDER"),
    BadChain("extra", lambda r: _reordered(r, [0, 1, 2, 3]), "EXTRA_CERTIFICATE"),
    BadChain("extra-first", lambda r: _reordered(r, [0, 3, 1, 2]), "EXTRA_CERTIFICATE"),
    BadChain("leaf-twice", lambda r: _reordered(r, [0, 0, 1, 2]), "EXTRA_CERTIFICATE"),
    BadChain("many", lambda r: _reordered(r, [0, 1, 2, *[2] * 8]), "EXTRA_CERTIFICATE"),
    BadChain(
        "not-permitted",
        lambda r: _constrained(r, permitted="other.org"),
        "NAME_CONSTRAINT",
    ),
    BadChain("excluded", lambda r: _constrained(r, excluded=DOMAIN), "NAME_CONSTRAINT"),
    BadChain("path-length", _one_authority_too_many, "PATH_LENGTH"),
    BadChain(
        "issuer-not-a-ca", lambda r: under(r, authority("no", ca=False)), "NOT_CA"
    ),
    BadChain("signed-by-a-workload", _signed_by_a_workload, "NOT_CA"),
    BadChain("critical-extension", _unknown_critical, "CRITICAL_EXTENSION"),
    BadChain("self-signed", _self_signed, "SELF_SIGNED"),
    BadChain("own-authority", _own_authority, "UNKNOWN_AUTHORITY"),
    BadChain("issuers-key-other-name", _issuers_key_other_name, "UNKNOWN_AUTHORITY"),
    BadChain("issuers-name-other-key", _issuers_name_other_key, "SIGNATURE"),
    BadChain("tampered-signature", _tampered, "SIGNATURE"),
    BadChain("tampered-name", _renamed, "SIGNATURE"),
)
