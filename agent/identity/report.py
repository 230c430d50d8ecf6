"""
What a node tells the authority about trust: what it knows, presents and relies on.

The authority answers from these reports whether an anchor may go. Certificates are
named by fingerprint, SHA-256 of the DER in lower-case hex.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

import msgspec

from agent.errors import InputError
from agent.identity.spiffe import InvalidSpiffeId, SpiffeId
from agent.identity.trust import UNREADABLE, Fingerprint

MAX_REPORT_BYTES: Final = 4 * 1024 * 1024
MAX_IDENTITIES: Final = 8192
MAX_PEERS: Final = 1024


class InvalidReport(InputError):
    """Bytes that are not a trust report."""


@dataclass(frozen=True, slots=True)
class Presented:
    """The certificate that one identity presents in new handshakes."""

    spiffe_id: SpiffeId
    anchor: str
    issuer: str
    serial: int
    not_after: datetime
    renewed_at: datetime


@dataclass(frozen=True, slots=True)
class PeerTrust:
    """Live connections authenticated by peers' certificates under one issuer."""

    anchor: str
    issuer: str
    connections: int
    oldest: datetime
    """When the oldest of them was made."""


@dataclass(frozen=True, slots=True)
class TrustReport:
    """One node's word. `version` is that of the trust which is in force there."""

    node: str
    version: int
    identities: tuple[Presented, ...] = ()
    peers: tuple[PeerTrust, ...] = ()

    @classmethod
    def parse(cls, document: bytes) -> TrustReport:
        """Read a report. Raises: InvalidReport."""
        if len(document) > MAX_REPORT_BYTES:
            raise InvalidReport(f"report: more than {MAX_REPORT_BYTES} bytes")
        try:
            return msgspec.json.decode(document, type=ReportDocument).report()
        except (*UNREADABLE, InvalidSpiffeId) as error:
            raise InvalidReport(f"report: {error}") from error

    def format(self) -> bytes:
        """The report as JSON."""
        return msgspec.json.encode(ReportDocument.of(self))


Moment = Annotated[datetime, msgspec.Meta(tz=True)]
# RFC 5280 section 4.1.2.2: at most 20 octets. In hex, since JSON numbers are floats
# to many.
_Serial = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{1,40}$")]


class PresentedDocument(msgspec.Struct, frozen=True):
    """`Presented` in JSON."""

    spiffe_id: str
    anchor: Fingerprint
    issuer: Fingerprint
    serial: _Serial
    not_after: Moment
    renewed_at: Moment

    @classmethod
    def of(cls, each: Presented) -> PresentedDocument:
        """The document of one presented certificate."""
        return cls(
            spiffe_id=str(each.spiffe_id),
            anchor=each.anchor,
            issuer=each.issuer,
            serial=f"{each.serial:x}",
            not_after=each.not_after,
            renewed_at=each.renewed_at,
        )

    def presented(self) -> Presented:
        """Raises: InvalidSpiffeId."""
        return Presented(
            spiffe_id=SpiffeId.parse(self.spiffe_id),
            anchor=self.anchor,
            issuer=self.issuer,
            serial=int(self.serial, 16),
            not_after=self.not_after,
            renewed_at=self.renewed_at,
        )


class PeerDocument(msgspec.Struct, frozen=True):
    """`PeerTrust` in JSON."""

    anchor: Fingerprint
    issuer: Fingerprint
    connections: Annotated[int, msgspec.Meta(ge=0)]
    oldest: Moment


class ReportDocument(msgspec.Struct, frozen=True):
    """`TrustReport` in JSON: the body of POST /v1/acknowledgements."""

    node: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    version: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    identities: Annotated[
        list[PresentedDocument], msgspec.Meta(max_length=MAX_IDENTITIES)
    ] = []
    peers: Annotated[list[PeerDocument], msgspec.Meta(max_length=MAX_PEERS)] = []

    @classmethod
    def of(cls, report: TrustReport) -> ReportDocument:
        """The document of a report."""
        return cls(
            node=report.node,
            version=report.version,
            identities=[PresentedDocument.of(each) for each in report.identities],
            peers=[
                PeerDocument(each.anchor, each.issuer, each.connections, each.oldest)
                for each in report.peers
            ],
        )

    def report(self) -> TrustReport:
        """Raises: InvalidSpiffeId."""
        return TrustReport(
            node=self.node,
            version=self.version,
            identities=tuple(each.presented() for each in self.identities),
            peers=tuple(
                PeerTrust(each.anchor, each.issuer, each.connections, each.oldest)
                for each in self.peers
            ),
        )
