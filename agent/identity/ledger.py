"""What an authority at work knows of each node, in memory and in its directory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from agent.errors import PodlockError
from agent.identity.dependence import NodeRecord
from agent.identity.nodes import MAX_NODES, NodeRecords
from agent.identity.report import TrustReport


class LedgerUnavailable(PodlockError):
    """What a node holds cannot be kept, so it is not acted on."""


class Ledger(Protocol):
    """Keeps what each node reported and was given. Raises: LedgerUnavailable."""

    @property
    def records(self) -> Mapping[str, NodeRecord]:
        """By the node's name."""

    async def heard(self, report: TrustReport, now: datetime) -> None:
        """A node has told."""

    async def issued(self, node: str, not_after: datetime) -> None:
        """A node is about to get a certificate that is valid until then."""


class NodeLedger:
    """A `Ledger` in files. Raises: InvalidKeystore for unreadable ones."""

    def __init__(self, directory: Path) -> None:
        self._files = NodeRecords(directory)
        self._records = self._files.load()
        self._turn = trio.Lock()

    @property
    def records(self) -> Mapping[str, NodeRecord]:
        """By the node's name."""
        return self._records

    async def heard(self, report: TrustReport, now: datetime) -> None:
        """Replace the node's last report."""
        if report.node not in self._records and len(self._records) >= MAX_NODES:
            raise LedgerUnavailable(f"more than {MAX_NODES} nodes")
        await self._keep(partial(self._files.heard, report=report, now=now))

    async def issued(self, node: str, not_after: datetime) -> None:
        """Note it where it is news."""
        held = self._records.get(node)
        if held and held.holds_until and held.holds_until >= not_after:
            return
        await self._keep(partial(self._files.issued, node=node, not_after=not_after))

    async def _keep(self, write: _Write) -> None:
        async with self._turn:
            try:
                record = await trio.to_thread.run_sync(write, self._records)
            except OSError as error:
                message = f"{error.filename}: {error.strerror}"
                raise LedgerUnavailable(message) from error
            self._records[record.node] = record


class _Write(Protocol):
    def __call__(self, known: Mapping[str, NodeRecord], /) -> NodeRecord: ...
