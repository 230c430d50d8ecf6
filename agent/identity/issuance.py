"""
The authority at work: signs, tells everyone whom to trust, hears every node.

The identity service and the embedded authority are two doors to one of these.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime

import trio
from cryptography import x509

from agent.identity.audit import record_issued, record_refused
from agent.identity.authority import Authority
from agent.identity.clock import Clock, utc_now
from agent.identity.report import TrustReport
from agent.identity.signing import (
    Issued,
    NodeRegistry,
    SigningReason,
    SigningRefused,
    sign_request,
)
from agent.identity.token import Caller, NodeCaller, WorkloadCaller
from agent.identity.trust import Trust
from agent.log import Logger


@dataclass(frozen=True, slots=True)
class Heard:
    """A node's last report, and when it came."""

    report: TrustReport
    at: datetime


class Issuance:
    """One authority in force; `replace` puts another in its place at any time."""

    def __init__(
        self,
        authority: Authority,
        registry: NodeRegistry,
        log: Logger,
        *,
        trust: Trust | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.authority = authority
        self.trust = trust or Trust(1, authority.bundle)
        self.heard: dict[str, Heard] = {}
        self.clock = clock
        self._registry = registry
        self._log = log
        self._changed = trio.Event()

    def replace(self, authority: Authority, trust: Trust) -> None:
        """Sign by `authority` and tell `trust` from now on."""
        self.authority, self.trust = authority, trust
        self._changed.set()
        self._changed = trio.Event()

    async def sign(self, caller: Caller, csr_pem: bytes) -> Issued:
        """Raises: SigningRefused with the reason; InvalidAuthority (ours expired)."""
        await trio.lowlevel.checkpoint()
        try:
            issued = sign_request(
                self.authority,
                self._registry,
                caller,
                csr_pem,
                now=self.clock(),
                serial=x509.random_serial_number(),
            )
        except SigningRefused as refused:
            record_refused(self._log, caller, refused)
            raise
        record_issued(self._log, caller, issued)
        return issued

    async def watch(self) -> AsyncGenerator[Trust, None]:
        """The trust in force, then each change; what nobody waited for is skipped."""
        told: Trust | None = None
        while True:
            changed = self._changed
            if told != self.trust:
                told = self.trust
                yield told
            else:
                await changed.wait()

    async def acknowledge(self, caller: Caller, report: TrustReport) -> None:
        """Keep a node's report. Raises: SigningRefused for another node's."""
        await trio.lowlevel.checkpoint()
        own = _name(caller)
        if report.node != own:
            message = f"report of node {report.node}: the token is for {own}"
            raise SigningRefused(SigningReason.NOT_THE_CALLER, message)
        self.heard[own] = Heard(report, self.clock())


def _name(caller: Caller) -> str:
    """A node's name; a machine that is one workload goes by its identity."""
    match caller:
        case NodeCaller(node):
            return node
        case WorkloadCaller(identity):
            return str(identity)
