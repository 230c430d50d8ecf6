"""
A revocation list of our own: for one leaked workload key, before its day is over.

The issuer that signs now signs the list; it names only what that issuer signed. Agents
read it from files (`crl`). For an issuer that signs no more there is none: tainting it
revokes all that it signed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from agent.identity import atomic, certificate
from agent.identity.audit import read_entries
from agent.identity.authority import BACKDATE
from agent.identity.certificate import fingerprint
from agent.identity.key import PrivateKey, signature_hash
from agent.identity.state import AuthorityRefused
from agent.identity.store import InvalidKeystore, Store

DIRECTORY: Final = "crl"
# A list that has run out still revokes what it names; nobody has to renew it in time.
LIFETIME: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Revoked:
    """One certificate, as the audit log knows it."""

    serial: int
    identity: str
    not_after: datetime


def revoke(
    store: Store, audit_log: Path, serial: str, now: datetime
) -> tuple[Revoked, Path]:
    """
    Add a certificate to the issuer's list, by its serial number in hex.

    Returns: what was revoked, and the file for the agents. Raises: AuthorityRefused
    for one that is unknown, has expired or is of another issuer; InvalidKeystore.
    """
    with store.changing() as change:
        issuer = change.state.issuer
        key = store.key_for(issuer) if issuer is not None else None
        if issuer is None or key is None:
            raise AuthorityRefused("revocation: the issuer's key is not here")
        found = _find(audit_log, serial, certificate.parse(issuer), now)
        path = store.directory / DIRECTORY / f"{fingerprint(issuer)[:16]}.pem"
        numbers = {*_listed(path), found.serial}
        content = _sign(certificate.parse(issuer), key, numbers, now)
        try:
            path.parent.mkdir(mode=0o755, exist_ok=True)
            atomic.write(path, content, 0o644, store.disk)
        except OSError as error:
            raise InvalidKeystore(f"{path}: {error.strerror}") from error
        return found, path


def _find(
    audit_log: Path, serial: str, issuer: x509.Certificate, now: datetime
) -> Revoked:
    wanted = serial.lower().removeprefix("0x").lstrip("0")
    try:
        every, damaged = read_entries(audit_log)
    except OSError as error:
        raise InvalidKeystore(f"{audit_log}: {error.strerror}") from error
    entries = [entry for entry in every if entry.get("serial") == wanted]
    if not entries:
        text = f"certificate {serial}: not in {audit_log}"
        lost = f", of which {damaged} lines cannot be read" if damaged else ""
        raise AuthorityRefused(text + lost)
    entry = entries[-1]
    not_after = datetime.fromisoformat(entry["not_after"])
    if not_after < now:
        raise AuthorityRefused(f"certificate {serial}: has expired, {not_after}")
    if entry["issuer"] != issuer.subject.rfc4514_string():
        raise AuthorityRefused(
            f"certificate {serial}: issued by {entry['issuer']}, which signs no more; "
            "taint that issuer"
        )
    return Revoked(int(wanted, 16), entry["identity"], not_after)


def _listed(path: Path) -> Iterable[int]:
    if not path.exists():
        return
    for each in x509.load_pem_x509_crl(path.read_bytes()):
        yield each.serial_number


def _sign(
    issuer: x509.Certificate, key: PrivateKey, serials: Iterable[int], now: datetime
) -> bytes:
    now = now.replace(microsecond=0)
    signing_key = key.load()
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - BACKDATE)
        .next_update(now + LIFETIME)
        # RFC 5280 section 5.2.3: it only has to grow.
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        .add_extension(authority(signing_key.public_key()), critical=False)
    )
    for serial in sorted(serials):
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(entry.revocation_date(now).build())
    signed = builder.sign(signing_key, signature_hash(signing_key))
    return signed.public_bytes(serialization.Encoding.PEM)
