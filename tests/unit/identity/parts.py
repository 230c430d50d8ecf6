"""What the identity tests are made of: a realm, its authority, requests, a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.identity import pem
from agent.identity.audit import AuditLog, AuditUnavailable
from agent.identity.authority import Authority, CaPair, create_anchor, create_issuer
from agent.identity.bundle import Bundle
from agent.identity.clock import Clock
from agent.identity.credential import Credential
from agent.identity.csr import make_csr
from agent.identity.dependence import NodeRecord
from agent.identity.issuance import Issuance
from agent.identity.key import PrivateKey, SigningKey, signature_hash
from agent.identity.report import TrustReport
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.trust import Trust
from agent.log import logger

NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TD: Final = TrustDomain("cluster.local")
API: Final = SpiffeId.for_workload(TD, "shop", "api")
BATCH: Final = SpiffeId.for_workload(TD, "shop", "batch")


def anchor_at(now: datetime = NOW, serial: int = 0xA, td: TrustDomain = TD) -> CaPair:
    return create_anchor(td, now=now, serial=serial)


def authority_under(
    anchor: CaPair, now: datetime = NOW, td: TrustDomain = TD
) -> Authority:
    issuer = create_issuer(td, anchor, now=now, serial=0xB)
    bundle = Bundle.parse(td, anchor.certificate_pem)
    return Authority.assemble(bundle, issuer.certificate_pem, issuer.key, now=now)


def make_authority(now: datetime = NOW, td: TrustDomain = TD) -> Authority:
    return authority_under(anchor_at(now, td=td), now, td)


def credential_for(
    authority: Authority, identity: SpiffeId, now: datetime = NOW, serial: int = 1
) -> Credential:
    key = PrivateKey.generate()
    csr = make_csr(identity, key)
    chain = authority.issue(csr, identity, now=now, serial=serial)
    return Credential.assemble(chain, key)


def ders(chain_pem: bytes) -> tuple[bytes, ...]:
    return pem.parse(chain_pem, pem.CERTIFICATE)


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def key_usage(
    signature: bool = True, cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        signature, False, False, False, False, cert_sign, crl_sign, False, False
    )


def certificate(
    names: Iterable[x509.GeneralName] | None = None,
    *,
    key: SigningKey | None = None,
    ca: bool | None = False,
    usage: x509.KeyUsage | None = None,
    roles: Iterable[x509.ObjectIdentifier] | None = (
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    ),
    common_name: str = "",
    changed: Callable[[x509.CertificateBuilder], x509.CertificateBuilder] | None = None,
) -> bytes:
    """A self-signed certificate (DER) that keeps the profile but for the arguments."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]
        if common_name
        else []
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(hours=1))
        .add_extension(usage or key_usage(), critical=True)
    )
    names = [uri(str(API))] if names is None else list(names)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), True)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), True)
    if roles is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(roles), False)
    if changed is not None:
        builder = changed(builder)
    signed = builder.sign(key, signature_hash(key))
    return signed.public_bytes(serialization.Encoding.DER)


def csr(
    names: Iterable[x509.GeneralName],
    *extensions: x509.ExtensionType,
    key: SigningKey | None = None,
) -> bytes:
    """A signing request (DER) with any names and extensions."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), True)
    for extension in extensions:
        builder = builder.add_extension(extension, False)
    signed = builder.sign(key, signature_hash(key) or hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def signed_elsewhere(request_pem: bytes, anchor: CaPair, now: datetime = NOW) -> bytes:
    """What somebody at the anchor's key makes of a request, with every extension."""
    request = x509.load_pem_x509_csr(request_pem)
    assert request.is_signature_valid
    upper = x509.load_pem_x509_certificate(anchor.certificate_pem)
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(upper.subject)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=90))
    )
    for extension in request.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signed = builder.sign(anchor.key.load(), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


class Registry:
    """A `NodeRegistry`: pairs of node and identity."""

    def __init__(self, *pairs: tuple[str, SpiffeId]) -> None:
        self.pairs = set(pairs)

    @property
    def pods(self) -> int:
        return 3

    def runs_on(self, node: str, identity: SpiffeId) -> bool:
        return (node, identity) in self.pairs


class MemoryAudit:
    """An `AuditLog` that keeps entries, until its disk is full."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.full = False

    async def append(self, entry: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if self.full:
            raise AuditUnavailable("audit log: No space left on device")
        self.entries.append(entry)


class MemoryLedger:
    """A `Ledger` without files."""

    def __init__(self) -> None:
        self.records: dict[str, NodeRecord] = {}

    async def heard(self, report: TrustReport, now: datetime) -> None:
        await trio.lowlevel.checkpoint()
        self.records[report.node] = NodeRecord(report.node, now, report)

    async def issued(self, node: str, not_after: datetime) -> None:
        await trio.lowlevel.checkpoint()
        record = self.records.get(node) or NodeRecord(node)
        self.records[node] = replace(record, holds_until=not_after)


def at_work(
    authority: Authority,
    *pairs: tuple[str, SpiffeId],
    clock: Clock = lambda: NOW,
    audit: AuditLog | None = None,
) -> Issuance:
    """An authority at work, for these pairs of node and identity."""
    return Issuance(
        authority,
        Trust(1, authority.bundle),
        Registry(*pairs),
        audit or MemoryAudit(),
        MemoryLedger(),
        logger(),
        clock=clock,
    )


class VirtualClock:
    """A wall clock that moves with trio's (the `autojump_clock` fixture)."""

    def __init__(self, start: datetime = NOW) -> None:
        self._start = start
        self._origin = trio.current_time()

    def __call__(self) -> datetime:
        return self._start + timedelta(seconds=trio.current_time() - self._origin)

    def jump(self, by: timedelta) -> None:
        """As NTP or a hand may set it; no sleep notices."""
        self._start += by


async def until(fact: Callable[[], bool]) -> None:
    """Return once it is so, by a virtual clock, to a twentieth of a second."""
    for _ in range(20 * 600):
        if fact():
            return
        await trio.sleep(0.05)
    raise AssertionError("it did not happen within ten minutes")
