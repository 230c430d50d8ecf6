"""
An authority at work on its directory, as the identity service or inside control.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from agent.config import Config
from agent.identity.audit import AuditFile
from agent.identity.clock import utc_now
from agent.identity.following import Source, Tell, follow
from agent.identity.issuance import Issuance
from agent.identity.ledger import NodeLedger
from agent.identity.nodes import NodeRecords
from agent.identity.operations import initialize
from agent.identity.overview import StateView, view
from agent.identity.signing import NodeRegistry
from agent.identity.store import AUDIT_LOG, Store
from agent.log import logger

log = logger()


@dataclass(frozen=True, slots=True)
class RunningAuthority:
    """What the doors to an authority need; `follow` is its task."""

    source: Source
    issuance: Issuance

    async def follow(self, tell: Tell) -> None:
        """Take over what changes in the directory, until cancelled."""
        await follow(self.source, self.issuance, tell)

    def view(self) -> StateView:
        """The state as a document. Blocks."""
        return state_view(self.source.store, self.source.lifetime, self.issuance)


def open_authority(
    config: Config, registry: NodeRegistry, mode: str, *, create: bool = False
) -> RunningAuthority:
    """
    The authority of `config`, made first where `create` allows it. Blocks.

    Raises: PodlockError for a directory that cannot be used.
    """
    settings = config.authority
    store = Store(settings.directory)
    if create and not store.exists:
        initialize(store, config.trust_domain, utc_now())
        log.info("authority created", directory=str(settings.directory))
    lifetime = timedelta(hours=config.identity.certificate_lifetime_hours)
    shared = settings.config_map is not None
    source = Source(store, lifetime, settings.issuer, shared)
    source.open()
    source.require_trust_domain(config.trust_domain)
    issuance = Issuance(
        source.authority,
        source.state.trust,
        registry,
        AuditFile(settings.audit_log or settings.directory / AUDIT_LOG),
        NodeLedger(settings.directory),
        logger(part="identity", mode=mode),
    )
    return RunningAuthority(source, issuance)


def state_view(
    store: Store, silence: timedelta, issuance: Issuance | None = None
) -> StateView:
    """An authority's state as a document, of its files alone or with counters."""
    return view(
        store.load(),
        NodeRecords(store.directory).load(),
        utc_now(),
        has_key=lambda der: store.key_for(der) is not None,
        counters=issuance.counts if issuance else None,
        problems=issuance.problems if issuance else (),
        silence=silence,
    )
