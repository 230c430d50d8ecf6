"""
The authority's directory: anchor, issuer and token key as files.

    anchor.crt  anchor.key   the trust anchor; its key may be kept elsewhere
    issuer.crt  issuer.key   what signs workloads
    ca.crt                   the bundle that everyone trusts
    token.key                the secret that signs join tokens, hex

Keys have mode 0600 and the directory 0700. A key that others can read is refused,
since by then it must count as known to them.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509

from agent.errors import InputError
from agent.identity.authority import (
    WORKLOAD_LIFETIME,
    Authority,
    create_anchor,
    create_issuer,
)
from agent.identity.bundle import Bundle
from agent.identity.key import PrivateKey
from agent.identity.spiffe import TrustDomain
from agent.identity.token import MIN_KEY_BYTES, TokenKey

ANCHOR_CERTIFICATE: Final = "anchor.crt"
ANCHOR_KEY: Final = "anchor.key"
ISSUER_CERTIFICATE: Final = "issuer.crt"
ISSUER_KEY: Final = "issuer.key"
BUNDLE: Final = "ca.crt"
JOIN_KEY: Final = "token.key"
NAMES: Final = (
    ANCHOR_CERTIFICATE,
    ANCHOR_KEY,
    ISSUER_CERTIFICATE,
    ISSUER_KEY,
    BUNDLE,
    JOIN_KEY,
)

_DIRECTORY_MODE: Final = 0o700
_PUBLIC_MODE: Final = 0o644
_SECRET_MODE: Final = 0o600
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MAX_FILE_BYTES: Final = 1024 * 1024

_Part = TypeVar("_Part")


class InvalidKeystore(InputError):
    """A directory that does not hold a usable authority; names the file."""


def create(directory: Path, trust_domain: TrustDomain, *, now: datetime) -> None:
    """
    Make a new authority in `directory`, which may exist without one.

    Raises: InvalidKeystore if any of its files is there already.
    """
    anchor = create_anchor(trust_domain, now=now, serial=x509.random_serial_number())
    issuer = create_issuer(
        trust_domain, anchor, now=now, serial=x509.random_serial_number()
    )
    bundle = Bundle.parse(trust_domain, anchor.certificate_pem)
    token_key = secrets.token_hex(MIN_KEY_BYTES).encode() + b"\n"
    contents = {
        ANCHOR_KEY: anchor.key.pem,
        ANCHOR_CERTIFICATE: anchor.certificate_pem,
        ISSUER_KEY: issuer.key.pem,
        ISSUER_CERTIFICATE: issuer.certificate_pem,
        JOIN_KEY: token_key,
        BUNDLE: bundle.pem,
    }
    try:
        directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        # A directory that was there keeps its contents and loses its readers.
        directory.chmod(_DIRECTORY_MODE)
        _refuse_existing(directory)
        for name, content in contents.items():
            mode = _SECRET_MODE if name.endswith(".key") else _PUBLIC_MODE
            _write_new(directory / name, content, mode)
    except OSError as error:
        raise InvalidKeystore(f"{directory}: {error}") from error


def load(
    directory: Path,
    trust_domain: TrustDomain,
    *,
    now: datetime,
    lifetime: timedelta = WORKLOAD_LIFETIME,
) -> tuple[Authority, TokenKey]:
    """Read the authority and the token key. Raises: InvalidKeystore."""
    authority = load_authority(directory, trust_domain, now=now, lifetime=lifetime)
    return authority, load_token_key(directory)


def load_authority(
    directory: Path,
    trust_domain: TrustDomain,
    *,
    now: datetime,
    lifetime: timedelta = WORKLOAD_LIFETIME,
) -> Authority:
    """
    Read the authority alone, where no join tokens are used.

    The anchor's own key is not needed: it may be kept offline. Raises:
    InvalidKeystore for a missing or unreadable file, a key that others can read, and
    parts that do not fit together.
    """
    if (directory / ANCHOR_KEY).exists():
        _read_secret(directory / ANCHOR_KEY)
    bundle_path = directory / BUNDLE
    bundle = _parsed(
        bundle_path, lambda: Bundle.parse(trust_domain, _read(bundle_path))
    )
    key_path = directory / ISSUER_KEY
    issuer_key = _parsed(key_path, lambda: PrivateKey.parse(_read_secret(key_path)))
    issuer_path = directory / ISSUER_CERTIFICATE
    issuer_pem = _read(issuer_path)
    return _parsed(
        issuer_path,
        lambda: Authority.assemble(
            bundle, issuer_pem, issuer_key, now=now, lifetime=lifetime
        ),
    )


def load_token_key(directory: Path) -> TokenKey:
    """The secret for join tokens alone. Raises: InvalidKeystore."""
    path = directory / JOIN_KEY
    text = _read_secret(path).decode("ascii", "replace")
    try:
        secret = bytes.fromhex(text)
    except ValueError as error:
        # Without `error`: its message and ours must not quote a secret.
        raise InvalidKeystore(f"{path}: expected hexadecimal digits") from error
    return _parsed(path, lambda: TokenKey(secret))


def _parsed(path: Path, parse: Callable[[], _Part]) -> _Part:
    try:
        return parse()
    except InvalidKeystore:
        raise
    except InputError as error:
        raise InvalidKeystore(f"{path}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidKeystore(f"{path}: missing") from error
    except OSError as error:
        raise InvalidKeystore(f"{path}: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise InvalidKeystore(f"{path}: more than {_MAX_FILE_BYTES} bytes")
    return content


def _read_secret(path: Path) -> bytes:
    try:
        # Follows links: a mounted Secret is one.
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError as error:
        raise InvalidKeystore(f"{path}: missing") from error
    except OSError as error:
        raise InvalidKeystore(f"{path}: {error.strerror}") from error
    if mode & _OTHERS:
        raise InvalidKeystore(
            f"{path}: mode {mode:04o} lets others at it, expected 0600 or 0400"
        )
    return _read(path)


def _refuse_existing(directory: Path) -> None:
    present = [name for name in NAMES if os.path.lexists(directory / name)]
    if present:
        raise InvalidKeystore(
            f"{directory}: has {', '.join(present)}; an authority is never overwritten"
        )


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Appear whole or not at all, and never over another file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)  # unlike rename, fails where `path` exists
    finally:
        temporary.unlink()
