"""Certificates, anchors and revocation lists as the status socket tells them."""

from __future__ import annotations

from typing import Literal

from agent.identity.bundle import Anchor
from agent.identity.chain import Chain
from agent.identity.crl import RevocationList
from agent.identity.schedule import CertificateStatus
from agent.identity.trust import Trust
from agent.status import documents
from agent.status.documents import iso


def certificate(
    status: CertificateStatus, chain: Chain | None
) -> documents.Certificate:
    """One identity: what it presents, on what that stands, what comes next."""
    svid, renewal, renewed = status.svid, status.renew_at, status.renewed
    return {
        "identity": str(status.identity),
        "serial": f"{svid.serial:x}" if svid else None,
        "not_before": iso(svid.not_before.timestamp()) if svid else None,
        "not_after": iso(svid.not_after.timestamp()) if svid else None,
        "renew_at": iso(renewal.timestamp()) if renewal else None,
        "fingerprint": svid.fingerprint if svid else None,
        "state": status.state.value,
        "error": status.last_error,
        "since": iso(status.since.timestamp()),
        "anchor": chain.anchor if chain else None,
        "issuer": chain.issuer if chain else None,
        "renewed_at": iso(renewed.timestamp()) if renewed else None,
    }


def anchor_of_bundle(anchor: Anchor, trust: Trust | None) -> documents.Anchor:
    """One anchor, and whether it is on its way out."""
    state: Literal["trusted", "retiring", "tainted"] = "trusted"
    if trust is not None and anchor.fingerprint in trust.tainted:
        state = "tainted"
    elif trust is not None and anchor.fingerprint in trust.retiring:
        state = "retiring"
    return {
        "fingerprint": anchor.fingerprint,
        "subject": anchor.subject,
        "not_after": iso(anchor.not_after.timestamp()),
        "state": state,
    }


def revocation_list(
    crl: RevocationList, *, outdated: bool
) -> documents.RevocationListState:
    """One list, by its issuer."""
    until = crl.next_update
    return {
        "issuer": crl.issuer,
        "revoked": len(crl.serials),
        "next_update": iso(until.timestamp()) if until else None,
        "outdated": outdated,
    }
