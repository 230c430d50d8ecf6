"""Which HTTP status and reason each "no" of the identity service has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import trio

from agent.identity.asgi import HttpRefusal
from agent.identity.audit import AuditUnavailable
from agent.identity.certificate import Rule
from agent.identity.issuer_path import InvalidAuthority
from agent.identity.ledger import LedgerUnavailable
from agent.identity.limits import TooManyRequests
from agent.identity.report import InvalidReport
from agent.identity.reviewing import CallersUnknown
from agent.identity.signing import SigningRefused
from agent.identity.token import TokenRefused

# Ours to put right: whoever asks again later may succeed.
_UNAVAILABLE: Final[Mapping[type[Exception], str]] = {
    InvalidAuthority: "authority_unusable",
    AuditUnavailable: "audit_unavailable",
    LedgerUnavailable: "state_unavailable",
    CallersUnknown: "callers_unknown",
}


def refusal_of(error: Exception) -> HttpRefusal:
    """The answer for whatever a request met; 500 for what nobody foresaw."""
    match error:
        case HttpRefusal():
            return error
        case TokenRefused():
            bearer = [(b"www-authenticate", b"Bearer")]
            return HttpRefusal(401, error.fault.value, str(error), bearer)
        case SigningRefused(reason=Rule()):
            return HttpRefusal(400, error.code, str(error))
        case SigningRefused():
            return HttpRefusal(403, error.code, str(error))
        case InvalidReport():
            return HttpRefusal(400, "malformed_report", str(error))
        case TooManyRequests():
            wait = b"%d" % math.ceil(error.retry_after_seconds)
            again = [(b"retry-after", wait)]
            return HttpRefusal(429, "too_many_requests", str(error), again)
        case trio.TooSlowError():
            return HttpRefusal(408, "too_slow", "the request did not come in time")
        case _ if type(error) in _UNAVAILABLE:
            return HttpRefusal(503, _UNAVAILABLE[type(error)], str(error))
        case _:
            return HttpRefusal(500, "internal", "see the identity service's log")
