"""
Join tokens: how an agent or a VM tells the identity service who is calling.

A token is a JWT (RFC 7519) signed with the authority's own HMAC key. It names a node,
whose agent may ask for the identities of the pods there, or one workload, for a
machine that is one. In a cluster a service-account token stands in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

import jwt

from agent.errors import InputError, Refused
from agent.identity.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain

AUDIENCE: Final = "podlock"
ALGORITHM: Final = "HS256"
MAX_TOKEN_BYTES: Final = 8 * 1024
# RFC 7518 section 3.2: an HMAC key is at least as long as the digest.
MIN_KEY_BYTES: Final = 32
# Token and service may come from two machines; the same two minutes as certificates.
CLOCK_SKEW: Final = timedelta(minutes=2)

# A Kubernetes node's name is a DNS subdomain (RFC 1123).
_NODE: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_NODE_PREFIX: Final = "node:"
_WORKLOAD_PREFIX: Final = "workload:"
_ADMIN: Final = "admin"
_SINGLE_USE: Final = "podlock/single-use"


class InvalidTokenRequest(InputError):
    """A token key, node name or lifetime that cannot make a token."""


class TokenFault(Enum):
    """Why a token was refused; the value is what the caller is told."""

    MISSING = "token_missing"
    MALFORMED = "token_malformed"
    ALGORITHM = "token_wrong_algorithm"
    SIGNATURE = "token_bad_signature"
    AUDIENCE = "token_wrong_audience"
    ISSUER = "token_wrong_trust_domain"
    EXPIRED = "token_expired"
    NOT_YET_VALID = "token_not_yet_valid"
    SUBJECT = "token_wrong_subject"
    USED = "token_used"
    NOT_AUTHENTICATED = "token_not_authenticated"


class TokenRefused(Refused):
    """A token that does not prove who calls."""

    def __init__(self, fault: TokenFault, message: str) -> None:
        super().__init__(f"token: {message}")
        self.fault = fault


@dataclass(frozen=True, slots=True, repr=False)
class TokenKey:
    """The secret that signs join tokens. Raises: InvalidTokenRequest if short."""

    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) < MIN_KEY_BYTES:
            raise InvalidTokenRequest(
                f"token key: {len(self.secret)} bytes, expected {MIN_KEY_BYTES} or more"
            )

    def __repr__(self) -> str:
        return "<TokenKey ...>"


@dataclass(frozen=True, slots=True)
class NodeCaller:
    """The agent of one node."""

    node: str
    token_id: str
    single_use_until: datetime | None = None
    """When a token for one certificate expires; None for any number of them."""

    def __post_init__(self) -> None:
        if not _NODE.fullmatch(self.node):
            raise InvalidTokenRequest(f"node name {self.node!r}: expected a DNS name")


@dataclass(frozen=True, slots=True)
class WorkloadCaller:
    """A machine that is one workload, and may have its identity only."""

    identity: SpiffeId
    token_id: str
    single_use_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class AdminCaller:
    """A person or program that may ask for the authority's state, and nothing else."""

    token_id: str
    single_use_until: None = None


Caller = NodeCaller | WorkloadCaller | AdminCaller


def issue_token(
    key: TokenKey,
    trust_domain: TrustDomain,
    caller: Caller,
    *,
    now: datetime,
    ttl: timedelta,
    single_use: bool = False,
) -> str:
    """
    A token that makes its bearer `caller` for `ttl` from `now`.

    One for single use is good for one certificate.

    Raises: InvalidTokenRequest for a lifetime that is not positive or an identity
    of another trust domain.
    """
    if ttl <= timedelta(0):
        raise InvalidTokenRequest(f"token lifetime {ttl}: expected more than 0")
    match caller:
        case NodeCaller(node):
            subject = _NODE_PREFIX + node
        case WorkloadCaller(identity):
            if identity.trust_domain != trust_domain:
                raise InvalidTokenRequest(f"{identity}: not of {trust_domain}")
            subject = _WORKLOAD_PREFIX + str(identity)
        case AdminCaller():
            subject = _ADMIN
    claims = {
        "iss": str(trust_domain),
        "aud": AUDIENCE,
        "sub": subject,
        "iat": int(now.timestamp()),
        "exp": int((now + ttl).timestamp()),
        "jti": caller.token_id,
        _SINGLE_USE: single_use,
    }
    return jwt.encode(claims, key.secret, algorithm=ALGORITHM)


def verify_token(
    key: TokenKey, trust_domain: TrustDomain, token: str, *, now: datetime
) -> Caller:
    """Who the bearer is. Raises: TokenRefused with the fault."""
    claims = _claims(key, trust_domain, token)
    expires, issued = claims["exp"], claims["iat"]
    if not isinstance(expires, int) or not isinstance(issued, int):
        raise TokenRefused(TokenFault.MALFORMED, "exp and iat are not whole numbers")
    if now.timestamp() >= expires:
        raise TokenRefused(TokenFault.EXPIRED, "expired; make a new one")
    if now.timestamp() < issued - CLOCK_SKEW // timedelta(seconds=1):
        message = "made in the future; compare the two machines' clocks"
        raise TokenRefused(TokenFault.NOT_YET_VALID, message)
    try:
        return _caller(claims, trust_domain)
    except (InvalidSpiffeId, InvalidTokenRequest, OverflowError, ValueError) as error:
        raise TokenRefused(TokenFault.SUBJECT, f"subject: {error}") from error


# PyJWT asks the clock by itself; `verify_token` has `now` and checks the times.
_OPTIONS: Final[Any] = {
    "require": ["iss", "aud", "sub", "exp", "iat", "jti"],
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "strict_aud": True,
}

# The order matters: PyJWT's errors derive from one another.
_FAULTS: Final[Mapping[type[Exception], TokenFault]] = {
    jwt.InvalidAlgorithmError: TokenFault.ALGORITHM,
    jwt.InvalidSignatureError: TokenFault.SIGNATURE,
    jwt.InvalidAudienceError: TokenFault.AUDIENCE,
    jwt.InvalidIssuerError: TokenFault.ISSUER,
    jwt.PyJWTError: TokenFault.MALFORMED,
}


def _claims(key: TokenKey, trust_domain: TrustDomain, token: str) -> dict[str, Any]:
    if len(token) > MAX_TOKEN_BYTES:
        message = f"more than {MAX_TOKEN_BYTES} bytes"
        raise TokenRefused(TokenFault.MALFORMED, message)
    try:
        return jwt.decode(
            token,
            key.secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=str(trust_domain),
            options=_OPTIONS,
        )
    except (jwt.PyJWTError, ValueError) as error:
        kinds = (_FAULTS[kind] for kind in _FAULTS if isinstance(error, kind))
        raise TokenRefused(next(kinds, TokenFault.MALFORMED), str(error)) from error


def _caller(claims: Mapping[str, Any], trust_domain: TrustDomain) -> Caller:
    subject, token_id = claims["sub"], claims["jti"]
    if not isinstance(subject, str) or not isinstance(token_id, str):
        raise InvalidTokenRequest("sub and jti are text")
    once = claims.get(_SINGLE_USE, False)
    until = datetime.fromtimestamp(claims["exp"], UTC) if once is not False else None
    if subject == _ADMIN:
        return AdminCaller(token_id)
    if subject.startswith(_NODE_PREFIX):
        return NodeCaller(subject.removeprefix(_NODE_PREFIX), token_id, until)
    if not subject.startswith(_WORKLOAD_PREFIX):
        raise InvalidTokenRequest("expected node:NAME, workload:SPIFFE-ID or admin")
    identity = SpiffeId.parse(subject.removeprefix(_WORKLOAD_PREFIX))
    if identity.trust_domain != trust_domain:
        raise InvalidTokenRequest(f"{identity} is not of {trust_domain}")
    return WorkloadCaller(identity, token_id, until)
