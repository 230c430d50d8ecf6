"""
Who got which certificate: a line in the log, and one in a file that survives.

The file has one JSON object a line and only grows. A certificate leaves the process
after its line is on the disk (fdatasync); when the disk is full or broken it does not
leave at all. Lines that come together share one sync. Whoever rotates the file moves
it; the next line goes into a new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import trio

from agent.errors import PodlockError
from agent.identity import atomic
from agent.identity.certificate import Svid
from agent.identity.signing import Issued, SigningRefused
from agent.identity.token import AdminCaller, Caller, NodeCaller, WorkloadCaller
from agent.log import Logger

_MODE: Final = 0o600


class AuditUnavailable(PodlockError):
    """The audit log cannot be written, so nothing is issued."""


class AuditLog(Protocol):
    """Keeps who got what."""

    async def append(self, entry: dict[str, Any]) -> None:
        """Return once the entry is safe. Raises: AuditUnavailable."""


@dataclass(slots=True)
class _Batch:
    lines: list[bytes] = field(default_factory=list)
    done: bool = False
    error: OSError | None = None


class AuditFile:
    """An `AuditLog` in a file, which is made when the first line comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._batch = _Batch()
        self._turn = trio.Lock()

    async def append(self, entry: dict[str, Any]) -> None:
        """Returns once the line is on the disk. Raises: AuditUnavailable."""
        batch = self._batch
        batch.lines.append(msgspec.json.encode(entry) + b"\n")
        async with self._turn:
            if not batch.done:  # whoever comes first writes for all that wait
                self._batch = _Batch()
                await trio.to_thread.run_sync(self._write, batch)
        if batch.error is not None:
            message = f"audit log {self._path}: {batch.error.strerror}"
            raise AuditUnavailable(message) from batch.error

    def _write(self, batch: _Batch) -> None:
        try:
            atomic.append(self._path, b"".join(batch.lines), _MODE)
        except OSError as error:
            batch.error = error
        batch.done = True


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole entry of an audit log. Raises: OSError."""
    with path.open("rb") as file:
        for line in file:
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # torn by a cut, before anyone got that certificate


def entry_of(caller: Caller, issued: Issued, now: datetime) -> dict[str, Any]:
    """What the audit log says of one certificate."""
    return {"at": now.isoformat(), **_facts(issued.svid), **caller_facts(caller)}


def record_issued(log: Logger, caller: Caller, issued: Issued) -> None:
    """Who got which certificate, until when."""
    log.info("certificate issued", **_facts(issued.svid), **caller_facts(caller))


def record_refused(log: Logger, caller: Caller, refused: SigningRefused) -> None:
    """Who asked for what and did not get it, and why."""
    log.warning(
        "certificate refused",
        identity=str(refused.identity) if refused.identity else None,
        reason=refused.code,
        detail=str(refused),
        **caller_facts(caller),
    )


def _facts(svid: Svid) -> dict[str, str]:
    return {
        "identity": str(svid.spiffe_id),
        "serial": f"{svid.serial:x}",
        "not_after": svid.not_after.isoformat(),
        "fingerprint": svid.fingerprint,
        "issuer": svid.issuer,
    }


def caller_facts(caller: Caller) -> dict[str, str]:
    """Who asked, for a log."""
    match caller:
        case NodeCaller(node, token_id):
            return {"node": node, "token_id": token_id}
        case WorkloadCaller(identity, token_id):
            return {"workload": str(identity), "token_id": token_id}
        case AdminCaller(token_id):
            return {"admin": "", "token_id": token_id}
