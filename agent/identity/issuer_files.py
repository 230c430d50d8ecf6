"""
An issuer as cert-manager and others mount it: tls.crt, tls.key and ca.crt.

A mounted Secret is a directory of links into `..data`, itself a link to the version
in force; the kubelet swaps that one link. Reading through the link once gives three
files that belong together.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.identity import pem
from agent.identity.certificate import InvalidCertificate
from agent.identity.key import InvalidKey, PrivateKey
from agent.identity.pem import InvalidPem
from agent.identity.store import InvalidKeystore, read_file, read_secret

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
ANCHORS: Final = "ca.crt"
_DATA: Final = "..data"

# The kubelet gives a Secret's files to a group of the pod's own, where it has one.
_STRANGERS: Final = stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class IssuerFiles:
    """What lies in the directory; nothing is checked yet but that it can be read."""

    chain_pem: bytes
    key: PrivateKey
    anchors_pem: bytes | None
    """cert-manager's ca.crt: a hint which anchor to add, never trusted by itself."""

    @property
    def der(self) -> bytes:
        """The issuer's certificate."""
        return pem.parse(self.chain_pem, pem.CERTIFICATE)[0]


def read_issuer_files(directory: Path) -> IssuerFiles:
    """Raises: InvalidKeystore naming the file."""
    data = directory / _DATA
    place = data.resolve() if data.is_symlink() else directory
    anchors = place / ANCHORS
    path = place / CERTIFICATE
    chain_pem = read_file(path)
    try:
        if not pem.parse(chain_pem, pem.CERTIFICATE):
            raise InvalidKeystore(f"{path}: no certificate")
        path = place / KEY
        key = PrivateKey.parse(read_secret(path, _STRANGERS))
    except (InvalidPem, InvalidCertificate, InvalidKey) as error:
        raise InvalidKeystore(f"{path}: {error}") from error
    return IssuerFiles(chain_pem, key, read_file(anchors) if anchors.exists() else None)


def stamp(directory: Path) -> object:
    """Something that differs once the files may have changed; cheap."""
    found: list[tuple[int, int, int, int] | None] = []
    for name in (_DATA, CERTIFICATE, KEY):
        try:
            info = (directory / name).stat()
        except OSError:
            found.append(None)
        else:
            found.append((info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns))
    return tuple(found)
