"""
How an agent knows the identity service: by the anchors it was configured with, then by
what the service itself told last.

So the service may move to another anchor, and an agent that restarts after the old one
is gone still knows it. A file that a person replaces counts again from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from agent.errors import InputError, innermost
from agent.identity import atomic
from agent.identity.anchored import context_for
from agent.identity.signer_file import signers_in
from agent.identity.trust import UNREADABLE, InvalidTrust, Trust, TrustDocument

DAMAGED: Final = ".damaged"
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
# OpenSSL reads text around the blocks; a block may lack its end.
_BLOCK: Final = re.compile(_BEGIN + rb"(?:(?!" + _BEGIN + rb").)*", re.DOTALL)


class InvalidAnchors(InputError):
    """PEM that holds no trust anchors."""


class _Remembered(msgspec.Struct, frozen=True):
    configured: str
    """SHA-256 of the file that was configured then."""
    trust: TrustDocument


@dataclass(slots=True)
class Acquaintance:
    """
    The anchors that the service's certificate must chain to.

    `memory` is a file of ours that need not exist; without one a restart begins with
    what is configured. Raises: InvalidAnchors.
    """

    configured_pem: bytes
    memory: Path | None = None
    trust: Trust | None = None
    damage: str | None = None
    """Why what was remembered is lost; None again once the service has answered."""

    def __post_init__(self) -> None:
        _check(self.configured_pem)
        if self.memory is not None:
            try:
                self.trust = _recall(self.memory, self.configured_pem)
            except (OSError, *UNREADABLE, InvalidTrust) as error:
                self.damage = _set_aside(self.memory, error)

    def configure(self, anchors_pem: bytes) -> bool:
        """
        What the configured file holds now; whether that is news.

        Raises: InvalidAnchors, and then what was in force stays so.
        """
        if anchors_pem == self.configured_pem:
            return False
        _check(anchors_pem)
        self.configured_pem, self.trust = anchors_pem, None
        return True

    def learn(self, trust: Trust) -> None:
        """What the service told. Blocks. Raises: OSError where it cannot be kept."""
        if trust == self.trust:
            return
        self.trust, self.damage = trust, None
        if self.memory is not None:
            document = TrustDocument.of(trust)
            remembered = _Remembered(_digest(self.configured_pem), document)
            content = msgspec.json.encode(remembered)
            self.memory.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(self.memory, content, 0o644, atomic.Disk())


def read_anchors(path: Path) -> bytes:
    """The anchors in a file, as PEM. Raises: InvalidKeystore, naming it."""
    with signers_in(path) as anchors_pem:
        _check(anchors_pem)
        return anchors_pem


def _check(anchors_pem: bytes) -> None:
    fault = _fault(anchors_pem)
    if fault is None:
        return
    found = enumerate(_BLOCK.findall(anchors_pem), 1)
    where = next((f"certificate {n}: " for n, block in found if _fault(block)), "")
    message = f"trust anchors for the identity service: {where}{fault}"
    raise InvalidAnchors(message) from fault


def _fault(anchors_pem: bytes) -> Exception | None:
    try:
        context_for(anchors_pem)
    except (ssl.SSLError, ValueError) as error:
        return error
    return None


def _recall(memory: Path, configured_pem: bytes) -> Trust | None:
    """
    None where nothing is remembered, or of another file.

    Raises: OSError, InvalidTrust and what msgspec raises, for what cannot be read.
    """
    if not memory.exists():
        return None
    remembered = msgspec.json.decode(memory.read_bytes(), type=_Remembered)
    if remembered.configured != _digest(configured_pem):
        return None
    return remembered.trust.trust()


def _set_aside(memory: Path, error: Exception) -> str:
    """Keep a damaged file under another name; what that means, for people."""
    with contextlib.suppress(OSError):
        memory.rename(memory.with_name(f"{memory.name}{DAMAGED}"))
    reason = innermost(error) if isinstance(error, OSError) else str(error)
    return (
        f"damaged ({reason}), kept as {memory.name}{DAMAGED}: until the identity "
        "service answers it is judged by identity.anchors alone, and which of these "
        "are tainted is not known"
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
