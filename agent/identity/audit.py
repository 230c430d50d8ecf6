"""
Who got which certificate: a line in the log, and one in a file that survives.

The file has one JSON object a line. A certificate leaves the process after its line is
on the disk (fdatasync); when the disk is full or broken it does not leave at all. Lines
that come together share one sync. A file that has grown to ROTATE_BYTES is moved to
`NAME.1`, that one to `NAME.2` and so on up to KEPT_FILES; a rotation by another program
does no harm. The log has the same facts, for those who collect it elsewhere.
"""

from __future__ import annotations

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
# Some 40,000 certificates; with those that are kept a third of a million.
ROTATE_BYTES: Final = 16 << 20
KEPT_FILES: Final = 8


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
            rotate(self._path)
            atomic.append(self._path, b"".join(batch.lines), _MODE)
        except OSError as error:
            batch.error = error
        batch.done = True


def read_entries(path: Path) -> tuple[list[dict[str, Any]], int]:
    """
    Every whole entry of an audit log, oldest first, and how many other lines there are:
    one may be torn by a cut, before anyone got that certificate. Raises: OSError.
    """
    entries: list[dict[str, Any]] = []
    damaged = 0
    earlier = (_earlier(path, number) for number in range(KEPT_FILES, 0, -1))
    for each in (*filter(Path.exists, earlier), path):
        with each.open("rb") as file:
            for line in file:
                try:
                    entries.append(msgspec.json.decode(line, type=dict[str, Any]))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    damaged += 1
    return entries, damaged


def rotate(path: Path) -> None:
    """Begin a new file where this one is full; the oldest goes. Raises: OSError."""
    try:
        if not path.is_file() or path.stat().st_size < ROTATE_BYTES:
            return
    except FileNotFoundError:
        return
    for number in range(KEPT_FILES, 1, -1):
        before = _earlier(path, number - 1)
        if before.exists():
            before.replace(_earlier(path, number))
    path.replace(_earlier(path, 1))


def _earlier(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


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
