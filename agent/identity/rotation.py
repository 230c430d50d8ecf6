"""
When to renew a certificate, and when to try again.

Chance is an argument (`jitter`, 0 to 1), so that a node full of pods that started
together does not renew together, and a test knows the answer.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Final

# Linkerd renews at 70 % of the lifetime, Istio at half. With 24 h this leaves 7 h
# in which the identity service may be away and nobody notices.
RENEW_FRACTION: Final = 0.70
RENEW_SPREAD: Final = 0.05

# As ztunnel: 0.5 s doubling to 150 s, 20 % either way.
FIRST_RETRY: Final = timedelta(seconds=0.5)
LONGEST_RETRY: Final = timedelta(seconds=150)
RETRY_SPREAD: Final = 0.20

_DOUBLINGS: Final = 9  # 0.5 s * 2**9 is past the longest

# When an issuer or anchor goes all nodes hear of it at once, and ask within this.
REPLACE_SPREAD: Final = timedelta(seconds=2)

# With so little left (of 24 h: 2.4 h) a renewal does not queue behind others any more.
URGENT_FRACTION: Final = 0.10


class CertificateState(Enum):
    """Where an identity stands."""

    PENDING = "no certificate yet"
    NOT_YET_VALID = "not valid yet: compare this node's clock with the authority's"
    VALID = "valid"
    DUE = "valid, to be renewed"
    EXPIRED = "expired"
    WITHDRAWN = "tainted or revoked, to be replaced"


def renew_at(not_before: datetime, not_after: datetime, jitter: float) -> datetime:
    """Between 65 % and 75 % of the lifetime. Raises: ValueError for a bad jitter."""
    fraction = RENEW_FRACTION + RENEW_SPREAD * _centred(jitter)
    return not_before + (not_after - not_before) * fraction


def retry_after(attempt: int, jitter: float) -> timedelta:
    """How long to wait after the refusal number `attempt`, counted from 0."""
    pause = min(FIRST_RETRY * (1 << min(attempt, _DOUBLINGS)), LONGEST_RETRY)
    return pause * (1 + RETRY_SPREAD * _centred(jitter))


def replace_after(jitter: float) -> timedelta:
    """How long to wait before a certificate is replaced that must go at once."""
    return REPLACE_SPREAD * (1 + _centred(jitter)) / 2


def is_urgent(not_before: datetime, not_after: datetime, now: datetime) -> bool:
    """Whether a certificate that is valid still is so near its end."""
    return now >= not_after - (not_after - not_before) * URGENT_FRACTION


def judge(
    not_before: datetime, not_after: datetime, renewal: datetime, now: datetime
) -> CertificateState:
    """
    The state of a certificate.

    RFC 5280 section 4.1.2.5 counts `not_after` itself as valid; a status that is one
    second early is on the safe side.
    """
    if now < not_before:
        return CertificateState.NOT_YET_VALID
    if now >= not_after:
        return CertificateState.EXPIRED
    return CertificateState.DUE if now >= renewal else CertificateState.VALID


def _centred(jitter: float) -> float:
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter is between 0 and 1, not {jitter}")
    return 2 * jitter - 1
