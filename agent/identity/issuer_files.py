"""
An issuer as cert-manager and others mount it: tls.crt, tls.key and ca.crt.

A mounted Secret is a directory of links into `..data`, itself a link to the version
in force; the kubelet swaps that one link. Reading through the link once gives three
files that belong together.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.identity import certificate, pem
from agent.identity.key import InvalidKey, PrivateKey
from agent.identity.signer_file import naming, signers_in
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

    path: Path = field(compare=False)
    """That of the certificate, for errors."""
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
    anchors, path, key_path = (place / name for name in (ANCHORS, CERTIFICATE, KEY))
    with signers_in(path) as chain_pem:
        ders = pem.parse(chain_pem, pem.CERTIFICATE)
        if not ders:
            raise InvalidKeystore(f"{path}: no certificate")
        issuer = certificate.parse(ders[0])
        certificate.require_ca(issuer)
    with naming(key_path, b""):
        key = PrivateKey.parse(read_secret(key_path, _STRANGERS))
        if key.load().public_key() != issuer.public_key():
            raise InvalidKey(f"key and certificate ({path}) do not belong together")
    anchors_pem = read_file(anchors) if anchors.exists() else None
    return IssuerFiles(path, chain_pem, key, anchors_pem)


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
