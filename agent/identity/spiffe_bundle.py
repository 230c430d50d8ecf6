"""
SPIFFE bundle documents: a trust domain's anchors as a JWK Set, in both directions.

Source: SPIFFE Trust Domain and Bundle section 4, X509-SVID section 6, RFC 7517. One
element for each anchor, its `use` x509-svid and its certificate in `x5c`. Elements of
other kinds (jwt-svid, and whatever comes later) are passed over, as the standard asks.
The document does not name its trust domain: whoever reads one has to know it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from agent.errors import InputError
from agent.identity import certificate
from agent.identity.bundle import Anchor, Bundle, InvalidBundle
from agent.identity.spiffe import TrustDomain
from agent.identity.trust import UNREADABLE, Trust

MAX_DOCUMENT_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 1024
# SPIFFE Federation section 4.1 recommends it where a document has no hint.
DEFAULT_REFRESH: Final = timedelta(minutes=5)

X509_SVID: Final = "x509-svid"
# The members that make up a public key (RFC 7518 section 6, RFC 8037 section 2).
_KEY_MEMBERS: Final = {
    "EC": ("crv", "x", "y"),
    "RSA": ("n", "e"),
    "OKP": ("crv", "x"),
}


@dataclass(frozen=True, slots=True)
class SpiffeBundle:
    """A bundle as its publisher tells it; None where the document does not say."""

    bundle: Bundle
    sequence: int | None = None
    """Grows with each change of the anchors."""
    refresh_hint: timedelta | None = None
    """How soon to ask again."""


class _Document(msgspec.Struct):
    keys: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MAX_KEYS)]
    spiffe_sequence: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    spiffe_refresh_hint: Annotated[int, msgspec.Meta(ge=0, le=2**31)] | None = None


def parse(trust_domain: TrustDomain, document: bytes) -> SpiffeBundle:
    """
    Read the bundle of `trust_domain`.

    Raises: InvalidBundle, naming the element, also for one without any anchor.
    """
    where = f"SPIFFE bundle of {trust_domain}"
    if len(document) > MAX_DOCUMENT_BYTES:
        raise InvalidBundle(f"{where}: more than {MAX_DOCUMENT_BYTES} bytes")
    try:
        read = msgspec.json.decode(document, type=_Document)
    except UNREADABLE as error:
        raise InvalidBundle(f"{where}: {error}") from error
    ders = []
    for number, key in enumerate(read.keys, 1):
        try:
            der = _certificate(key)
        except InputError as error:
            raise InvalidBundle(f"{where}: keys, element {number}: {error}") from error
        if der is not None:
            ders.append(der)
    if not ders:
        raise InvalidBundle(f"{where}: no element with use {X509_SVID} and an x5c")
    hint = read.spiffe_refresh_hint
    return SpiffeBundle(
        Bundle.of(trust_domain, ders),
        read.spiffe_sequence,
        None if hint is None else timedelta(seconds=hint),
    )


def format_document(told: SpiffeBundle) -> bytes:
    """
    The document of a bundle.

    Raises: InvalidBundle for an anchor whose key has no form as a JWK.
    """
    document: dict[str, Any] = {"keys": list(map(_jwk, told.bundle.anchors))}
    if told.sequence is not None:
        document["spiffe_sequence"] = told.sequence
    if told.refresh_hint is not None:
        seconds = told.refresh_hint // timedelta(seconds=1)
        document["spiffe_refresh_hint"] = seconds
    return msgspec.json.encode(document)


def published(trust: Trust) -> SpiffeBundle:
    """
    What other trust domains shall know of ours: the anchors that are not tainted.

    Raises: InvalidBundle where none is left.
    """
    anchors = trust.bundle.anchors
    good = tuple(each for each in anchors if each.fingerprint not in trust.tainted)
    bundle = Bundle(trust.bundle.trust_domain, good)
    return SpiffeBundle(bundle, trust.version, DEFAULT_REFRESH)


def _certificate(key: dict[str, Any]) -> bytes | None:
    """The certificate in an element; None for one that is to be passed over."""
    kind = key.get("kty")
    known = isinstance(kind, str) and kind in _KEY_MEMBERS
    if key.get("use") != X509_SVID or not known:
        return None
    chain = key.get("x5c")
    if chain is None or chain == []:  # X509-SVID 6.2: MUST be ignored
        return None
    if not isinstance(chain, list) or not isinstance(chain[0], str):
        raise InvalidBundle("x5c: expected a list of text")
    try:
        # The first one counts and the others are ignored (X509-SVID section 6.2).
        der = base64.b64decode(chain[0], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidBundle(f"x5c: expected base64: {error}") from error
    # RFC 7517 section 4.7: the other members are the key of the first certificate.
    expected = _public_jwk(der)
    for member, value in expected.items():
        if key.get(member) != value:
            raise InvalidBundle(f"{member}: not that of the certificate in x5c")
    return der


def _jwk(anchor: Anchor) -> dict[str, Any]:
    text = base64.b64encode(anchor.der).decode("ascii")
    return {**_public_jwk(anchor.der), "use": X509_SVID, "x5c": [text]}


def _public_jwk(der: bytes) -> dict[str, Any]:
    """The public key of a certificate. Raises: InvalidBundle, InvalidCertificate."""
    parsed = certificate.parse(der)
    certificate.require_ca(parsed)
    key = parsed.public_key()
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                told = ECAlgorithm.to_jwk(key, as_dict=True)
            case rsa.RSAPublicKey():
                told = RSAAlgorithm.to_jwk(key, as_dict=True)
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                told = OKPAlgorithm.to_jwk(key, as_dict=True)
            case _:
                raise InvalidBundle(f"key of kind {type(key).__name__}: has no JWK")
    except jwt.InvalidKeyError as error:
        raise InvalidBundle(f"key: {error}") from error
    kind = told["kty"]
    return {"kty": kind, **{member: told[member] for member in _KEY_MEMBERS[kind]}}
