"""
What the API server's "no" means, and how long to wait before asking again. Pure.

Source: Kubernetes API conventions ("HTTP Status codes", "Response Status Kind") and
RFC 9110 section 10.2.3 for Retry-After.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from agent.recovery import interval

# After an answer that is no success: 0.5 s doubling to 8 s, and half of it at least.
# Where there was no answer the pause is that of every dependency (`agent.recovery`).
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 8.0
_DOUBLINGS: Final = 4
# What no repetition helps with, only a person: a role, a custom resource definition.
SLOW_PAUSE_SECONDS: Final = 60.0
# Before a list that cannot be true is asked for again.
DOUBT_PAUSE_SECONDS: Final = 8.0
# Whatever a server asks for, nobody goes to sleep for good.
LONGEST_RETRY_AFTER_SECONDS: Final = 300.0

MAX_MESSAGE: Final = 300


class FailureKind(Enum):
    """Why a request did not give what it was asked for; the value is for people."""

    AWAY = "cannot be reached"
    UNTRUSTED = "does not prove who it is"
    THROTTLED = "asks to wait"
    UNAUTHORIZED = "does not know who we are"
    FORBIDDEN = "does not permit it"
    ABSENT = "does not have it"
    CONFLICT = "has another object there"
    INVALID = "does not take it"
    EXPIRED = "has forgotten that version"
    AHEAD = "is behind the version that we know"
    GARBAGE = "answered what cannot be read"
    OVERSIZE = "answered more than we take"
    REFUSED = "refused the request"
    DOUBTFUL = "answered what is not believed"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed request; `retry_after_seconds` is what the server asked for."""

    kind: FailureKind
    message: str
    retry_after_seconds: float | None = None

    def __str__(self) -> str:
        return f"the API server {self.kind.value}: {self.message}"


class _Cause(msgspec.Struct, frozen=True):
    reason: str = ""


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    causes: tuple[_Cause, ...] | None = None
    retry_after_seconds: int | None = None


class Status(msgspec.Struct, frozen=True):
    """Kubernetes' Status kind, as far as it is used."""

    message: str | None = None
    reason: str | None = None
    code: int | None = None
    details: _Details | None = None


_KINDS: Final = {
    401: FailureKind.UNAUTHORIZED,
    403: FailureKind.FORBIDDEN,
    404: FailureKind.ABSENT,
    409: FailureKind.CONFLICT,
    410: FailureKind.EXPIRED,
    422: FailureKind.INVALID,
    429: FailureKind.THROTTLED,
    503: FailureKind.THROTTLED,
}


def failure_of(code: int, body: bytes, retry_after: str | None = None) -> Failure:
    """The failure behind an answer that is no success, whatever its body is."""
    try:
        status = msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = bytes(body[:MAX_MESSAGE]).decode("utf-8", "replace").strip()
        status = Status(message=text)
    return failure_of_status(status, code, retry_after)


def failure_of_status(
    status: Status, code: int, retry_after: str | None = None
) -> Failure:
    """The failure that a Status tells of; `code` is HTTP's, where there is one."""
    kind = _KINDS.get(code)
    if _is_ahead(status):
        kind = FailureKind.AHEAD
    if kind is None:
        kind = FailureKind.AWAY if code >= 500 else FailureKind.REFUSED
    seconds = _seconds(retry_after)
    if seconds is None and status.details and status.details.retry_after_seconds:
        asked = status.details.retry_after_seconds
        seconds = float(max(0, min(asked, 86_400)))  # an int may be too large for float
    if seconds is None and kind is FailureKind.THROTTLED and code == 503:
        kind = FailureKind.AWAY
    message = (status.message or status.reason or "no reason given")[:MAX_MESSAGE]
    return Failure(kind, f"{message} ({code})", seconds)


def _is_ahead(status: Status) -> bool:
    """504 with this cause: a replica that lags, or an etcd restored from a backup."""
    causes = (status.details.causes or ()) if status.details else ()
    if any(cause.reason == "ResourceVersionTooLarge" for cause in causes):
        return True
    return "Too large resource version" in (status.message or "")


def _seconds(retry_after: str | None) -> float | None:
    """Delay-seconds; the form with a date is not used by API servers."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return float(retry_after[:9])


def pause_seconds(failure: Failure, attempt: int, jitter: float) -> float:
    """
    How long to wait after failure number `attempt` in a row, counted from 0.

    `jitter` is chance, 0 to 1. A version that was forgotten is asked anew at once the
    first time, spread over a second: all agents hear of it in the same moment.
    """
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter is between 0 and 1, not {jitter}")
    if failure.kind is FailureKind.EXPIRED and attempt == 0:
        return jitter
    if failure.kind is FailureKind.DOUBTFUL:
        return DOUBT_PAUSE_SECONDS * (0.5 + 0.5 * jitter)
    if failure.kind is FailureKind.ABSENT:
        return SLOW_PAUSE_SECONDS * (0.5 + 0.5 * jitter)
    if failure.kind is FailureKind.AWAY:
        pause = interval(attempt, jitter)
    else:
        growing: float = FIRST_PAUSE_SECONDS * (1 << min(attempt, _DOUBLINGS))
        pause = min(growing, LONGEST_PAUSE_SECONDS) * (0.5 + 0.5 * jitter)
    asked = min(failure.retry_after_seconds or 0.0, LONGEST_RETRY_AFTER_SECONDS)
    # What the server asks for is the least; the spread comes on top.
    return max(pause, asked * (1 + 0.25 * jitter))
