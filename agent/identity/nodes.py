"""
What each node reported last, kept in the authority's directory, one file a node.

So `podlock ca` can answer beside a running authority, and a restarted one knows them.
A file that a cut tore is told of and counts as a node that reports nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from agent.identity import atomic
from agent.identity.dependence import NodeRecord
from agent.identity.report import Moment, ReportDocument, TrustReport
from agent.identity.spiffe import InvalidSpiffeId
from agent.identity.store import NODES, read_file
from agent.identity.trust import UNREADABLE
from agent.log import logger

log = logger(part="identity")

# Nodes come and go for years; what a thief of one token can add is one file.
MAX_NODES: Final = 20_000
# So that not every certificate costs a write of the node's file.
_MARGIN: Final = timedelta(minutes=10)
_PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,200}", re.ASCII)
_SUFFIX: Final = ".json"


class _RecordDocument(msgspec.Struct, frozen=True):
    node: str
    heard_at: Moment | None = None
    holds_until: Moment | None = None
    report: ReportDocument | None = None


class NodeRecords:
    """The records of one authority. Its calls block, and are short."""

    def __init__(self, directory: Path, disk: atomic.Disk | None = None) -> None:
        """Args: directory is the authority's."""
        self._place = directory / NODES
        self._disk = disk or _Unsynced()

    def load(self) -> dict[str, NodeRecord]:
        """Every record. Raises: InvalidKeystore for a file that is unreadable."""
        found = {}
        for path in sorted(self._place.glob(f"*{_SUFFIX}")):
            record = _parse(read_file(path), path)
            found[record.node] = record
        return found

    def heard(
        self, known: Mapping[str, NodeRecord], report: TrustReport, now: datetime
    ) -> NodeRecord:
        """Keep a node's report in place of its last. Raises: OSError."""
        record = known.get(report.node) or NodeRecord(report.node)
        return self._keep(replace(record, heard_at=now, report=report))

    def issued(
        self, known: Mapping[str, NodeRecord], node: str, not_after: datetime
    ) -> NodeRecord:
        """Keep that a node holds a certificate until then. Raises: OSError."""
        record = known.get(node) or NodeRecord(node)
        if record.holds_until is not None and record.holds_until >= not_after:
            return record
        return self._keep(replace(record, holds_until=not_after + _MARGIN))

    def forget(self, node: str) -> bool:
        """A node that will not come back. Returns: whether it was known."""
        path = self._path(node)
        known = path.exists()
        self._disk.remove(path)
        return known

    def _keep(self, record: NodeRecord) -> NodeRecord:
        report = ReportDocument.of(record.report) if record.report else None
        document = _RecordDocument(
            record.node, record.heard_at, record.holds_until, report
        )
        self._place.mkdir(mode=0o700, exist_ok=True)
        content = msgspec.json.encode(document) + b"\n"
        atomic.write(self._path(record.node), content, 0o600, self._disk)
        return record

    def _path(self, node: str) -> Path:
        # A machine that is one workload goes by its SPIFFE ID, which is no file name.
        plain = _PLAIN.fullmatch(node)
        name = node if plain else f"_{hashlib.sha256(node.encode()).hexdigest()[:32]}"
        return self._place / f"{name}{_SUFFIX}"


class _Unsynced(atomic.Disk):
    """Whole files, but not synced: a report comes again within a minute."""

    def sync(self, directory: Path) -> None:
        del directory

    def create(self, path: Path, content: bytes, mode: int) -> None:
        path.touch(mode, exist_ok=False)
        path.write_bytes(content)


def _parse(content: bytes, path: Path) -> NodeRecord:
    try:
        document = msgspec.json.decode(content, type=_RecordDocument)
        report = document.report.report() if document.report else None
    except (*UNREADABLE, InvalidSpiffeId):
        # A node was there; which, the file's name says. It blocks until it reports.
        log.error("a node's record is damaged", file=str(path))
        modified = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
        return NodeRecord(path.name.removesuffix(_SUFFIX), holds_until=modified)
    return NodeRecord(document.node, document.heard_at, report, document.holds_until)
