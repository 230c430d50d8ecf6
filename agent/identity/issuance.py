"""
The authority at work: signs, tells everyone whom to trust, hears every node.

The identity service and the embedded authority are two doors to one of these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from typing import Final

import trio
from cryptography import x509

from agent.errors import PodlockError
from agent.identity.audit import AuditLog, entry_of, record_issued, record_refused
from agent.identity.authority import Authority
from agent.identity.clock import Clock, utc_now
from agent.identity.issuer_path import InvalidAuthority
from agent.identity.ledger import Ledger
from agent.identity.report import TrustReport
from agent.identity.signing import (
    Authorized,
    Issued,
    NodeRegistry,
    SigningReason,
    SigningRefused,
    authorize_request,
    sign_request,
)
from agent.identity.token import AdminCaller, Caller, NodeCaller, WorkloadCaller
from agent.identity.trust import Trust
from agent.log import Logger

Spend = Callable[[Caller], Awaitable[None]]

NO_ISSUER: Final = "no issuer is in force; see 'podlock ca rotate-issuer'"


async def spend_nothing(caller: Caller) -> None:
    """For callers without a token."""
    del caller
    await trio.lowlevel.checkpoint()


class Issuance:
    """
    One authority in force; `replace` puts another in its place at any time.

    `counts` has how often each thing happened since the start.
    """

    def __init__(
        self,
        authority: Authority | None,
        trust: Trust,
        registry: NodeRegistry,
        audit: AuditLog,
        ledger: Ledger,
        log: Logger,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self.trust = trust
        self.ledger = ledger
        self.clock = clock
        self.counts: Counter[str] = Counter()
        self.problems: tuple[str, ...] = ()
        self._authority = authority
        self._registry = registry
        self._audit = audit
        self._log = log
        self._changed = trio.Event()

    @property
    def authority(self) -> Authority:
        """What signs now. Raises: InvalidAuthority where nothing does."""
        if self._authority is None:
            raise InvalidAuthority(NO_ISSUER)
        return self._authority

    def replace(self, authority: Authority | None, trust: Trust) -> None:
        """Sign by `authority` and tell `trust` from now on."""
        self._authority, self.trust = authority, trust
        self._changed.set()
        self._changed = trio.Event()

    async def changed(self) -> None:
        """Return after the next `replace`."""
        await self._changed.wait()

    async def sign(
        self, caller: Caller, csr_pem: bytes, spend: Spend = spend_nothing
    ) -> Issued:
        """
        Judge a request and issue what it asks for.

        The certificate is in the audit log, on the disk, before it is returned. Raises:
        SigningRefused with the reason; InvalidAuthority (ours expired or gone);
        AuditUnavailable, LedgerUnavailable (disk full); what `spend` raises.
        """
        try:
            domain = self.trust.bundle.trust_domain
            request = authorize_request(domain, self._registry, caller, csr_pem)
            await spend(caller)
            issued = await self._issue(caller, request)
        except SigningRefused as refused:
            record_refused(self._log, caller, refused)
            self.counts[f"refused:{refused.code}"] += 1
            raise
        except PodlockError as error:
            self.counts[f"failed:{type(error).__name__}"] += 1
            raise
        self.counts["issued"] += 1
        record_issued(self._log, caller, issued)
        return issued

    async def _issue(self, caller: Caller, request: Authorized) -> Issued:
        now = self.clock()
        serial = x509.random_serial_number()
        issued = sign_request(self.authority, request, now=now, serial=serial)
        await self._audit.append(entry_of(caller, issued, now))
        await self.ledger.issued(name_of(caller), issued.svid.not_after)
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
        """
        Keep a node's report.

        Raises: SigningRefused for another node's; LedgerUnavailable.
        """
        own = name_of(caller)
        if report.node != own or isinstance(caller, AdminCaller):
            self.counts["refused:report-of-another-node"] += 1
            message = f"report of node {report.node}: the token is for {own}"
            raise SigningRefused(SigningReason.NOT_THE_CALLER, message)
        await self.ledger.heard(report, self.clock())
        self.counts["acknowledged"] += 1

    def now(self) -> datetime:
        """The wall clock's time."""
        return self.clock()


def name_of(caller: Caller) -> str:
    """A node's name; a machine that is one workload goes by its identity."""
    match caller:
        case NodeCaller(node):
            return node
        case WorkloadCaller(identity):
            return str(identity)
        case AdminCaller():
            return "admin"
