"""The JSON bodies of the identity service's requests and answers."""

from __future__ import annotations

import msgspec

from agent.identity.trust import TrustDocument


class SignBody(msgspec.Struct, frozen=True):
    """The body of POST /v1/sign."""

    csr: str


class SignAnswer(msgspec.Struct, frozen=True):
    """The answer of POST /v1/sign."""

    chain: str
    trust: TrustDocument


class AcknowledgedAnswer(msgspec.Struct, frozen=True):
    """The answer of POST /v1/acknowledgements: the version that is in force here."""

    version: int


class HealthAnswer(msgspec.Struct, frozen=True):
    """The answer of GET /healthz."""

    status: str


class ErrorFacts(msgspec.Struct, frozen=True):
    """Why not."""

    reason: str
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Any answer but 200."""

    error: ErrorFacts
