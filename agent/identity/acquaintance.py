"""
How an agent knows the identity service: by the anchors it was configured with, then by
what the service itself told last.

So the service may move to another anchor, and an agent that restarts after the old one
is gone still knows it. A file that a person replaces counts again from then on.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.errors import InputError
from agent.identity import atomic
from agent.identity.pem import CERTIFICATE, format_blocks
from agent.identity.trust import UNREADABLE, InvalidTrust, Trust, TrustDocument


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

    def __post_init__(self) -> None:
        context_for(self.configured_pem)
        if self.memory is not None:
            self.trust = _recall(self.memory, self.configured_pem)

    @property
    def anchors_pem(self) -> bytes:
        """Tainted ones are not among them."""
        if self.trust is None:
            return self.configured_pem
        anchors = self.trust.bundle.anchors
        clean = [a.der for a in anchors if a.fingerprint not in self.trust.tainted]
        return format_blocks(clean, CERTIFICATE) or self.configured_pem

    def configure(self, anchors_pem: bytes) -> bool:
        """
        What the configured file holds now; whether that is news.

        Raises: InvalidAnchors, and then what was in force stays so.
        """
        if anchors_pem == self.configured_pem:
            return False
        context_for(anchors_pem)
        self.configured_pem, self.trust = anchors_pem, None
        return True

    def learn(self, trust: Trust) -> bool:
        """What the service told; whether it is known by other anchors now. Blocks."""
        before, self.trust = self.anchors_pem, trust
        if self.memory is not None:
            remembered = _Remembered(
                _digest(self.configured_pem), TrustDocument.of(trust)
            )
            content = msgspec.json.encode(remembered)
            atomic.write(self.memory, content, 0o644, atomic.Disk())
        return self.anchors_pem != before


def context_for(anchors_pem: bytes) -> ssl.SSLContext:
    """A client's context that takes these anchors. Raises: InvalidAnchors."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cadata=anchors_pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        message = f"trust anchors for the identity service: {error}"
        raise InvalidAnchors(message) from error
    return context


def _recall(memory: Path, configured_pem: bytes) -> Trust | None:
    """None where nothing is remembered, or of another file, or what is unreadable."""
    try:
        remembered = msgspec.json.decode(memory.read_bytes(), type=_Remembered)
        if remembered.configured != _digest(configured_pem):
            return None
        return remembered.trust.trust()
    except (OSError, *UNREADABLE, InvalidTrust):
        return None  # it was only ever a shortcut; what is configured stands


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
