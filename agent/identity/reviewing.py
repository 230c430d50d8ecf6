"""
Who bears a token: the seam behind which join tokens and Kubernetes are alike.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import msgspec
import trio

from agent.errors import PodlockError
from agent.identity import atomic
from agent.identity.clock import Clock, utc_now
from agent.identity.ledger import LedgerUnavailable
from agent.identity.report import Moment
from agent.identity.spiffe import TrustDomain
from agent.identity.store import InvalidKeystore
from agent.identity.token import (
    Caller,
    TokenFault,
    TokenKey,
    TokenRefused,
    verify_token,
)

USED_TOKENS: Final = "used-tokens.jsonl"
_SERVING: Final = "serving"
_MODE: Final = 0o600


class CallersUnknown(PodlockError):
    """Nobody can be asked who bears a token now; a later try may tell."""


class TokenReviewer(Protocol):
    """Finds out who bears a token."""

    async def review(self, token: str) -> Caller:
        """Who it is. Raises: TokenRefused, CallersUnknown."""

    async def spend(self, caller: Caller) -> None:
        """
        The caller is about to get a certificate; a token for one is used up by it.

        Raises: TokenRefused (USED); LedgerUnavailable where that cannot be kept.
        """


@dataclass(frozen=True, slots=True)
class JoinTokens:
    """A `TokenReviewer` by the authority's own join tokens."""

    key: TokenKey
    trust_domain: TrustDomain
    used: UsedTokens | None = None
    """None where no token is for single use; one that is gets refused then."""
    clock: Clock = utc_now

    async def review(self, token: str) -> Caller:
        """Raises: TokenRefused."""
        await trio.lowlevel.checkpoint()
        return verify_token(self.key, self.trust_domain, token, now=self.clock())

    async def spend(self, caller: Caller) -> None:
        """Raises: TokenRefused, LedgerUnavailable."""
        until = caller.single_use_until
        if until is None:
            return
        if self.used is None:
            message = "for single use, and there is no record of used ones here"
            raise TokenRefused(TokenFault.USED, message)
        await self.used.spend(caller.token_id, until)


class _Used(msgspec.Struct, frozen=True):
    token_id: str
    until: Moment


@dataclass(slots=True)
class UsedTokens:
    """
    The tokens that were used up, in a file; `open` makes it, `close` lets go of it.

    Locked for as long as the process lives: of two services on one directory, neither
    would know what the other has accepted.
    """

    _path: Path
    _ids: set[str]
    _lock: int
    _turn: trio.Lock = field(default_factory=trio.Lock)

    @classmethod
    def open(cls, directory: Path, now: datetime) -> UsedTokens:
        """Read what was used; forgets what has expired. Raises: InvalidKeystore."""
        path = directory / USED_TOKENS
        lock = _serving(directory)
        try:
            used = [each for each in _read(path) if each.until > now]
            lines = b"".join(msgspec.json.encode(each) + b"\n" for each in used)
            atomic.write(path, lines, _MODE, atomic.Disk())
        except BaseException as error:
            os.close(lock)
            if not isinstance(error, OSError):
                raise
            raise InvalidKeystore(f"{path}: {error.strerror}") from error
        return cls(path, {each.token_id for each in used}, lock)

    def close(self) -> None:
        """Let another process serve."""
        os.close(self._lock)

    async def spend(self, token_id: str, until: datetime) -> None:
        """Use a token up, on the disk. Raises: TokenRefused, LedgerUnavailable."""
        if token_id in self._ids:
            raise TokenRefused(TokenFault.USED, "was for one certificate, and is used")
        # Before anything is awaited: of two that come together one is refused.
        self._ids.add(token_id)
        line = msgspec.json.encode(_Used(token_id, until)) + b"\n"
        async with self._turn:
            try:
                await trio.to_thread.run_sync(atomic.append, self._path, line, _MODE)
            except OSError as error:
                self._ids.discard(token_id)
                message = f"{self._path}: {error.strerror}"
                raise LedgerUnavailable(message) from error


def _serving(directory: Path) -> int:
    """Be the only one that serves it. Raises: InvalidKeystore."""
    path = directory / _SERVING
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        message = f"{directory}: another process serves this authority"
        raise InvalidKeystore(message) from error
    except OSError as error:
        raise InvalidKeystore(f"{path}: {error.strerror}") from error
    return lock


def _read(path: Path) -> list[_Used]:
    if not path.exists():
        return []
    *lines, _torn = path.read_bytes().split(b"\n")  # a torn line was never answered
    try:
        return [msgspec.json.decode(line, type=_Used) for line in lines if line]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidKeystore(f"{path}: {error}") from error
