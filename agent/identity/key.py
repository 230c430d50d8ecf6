"""
Keys: which kinds we take, and a private key that cannot print itself.

Keys live in memory only. A `PrivateKey` travels to a worker process by pickle over
a socket pair; its text never shows up in a log, a traceback or a status document.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from agent.errors import InputError

SigningKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
WorkloadPublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class InvalidKey(InputError):
    """A private key that cannot be read, or of a kind we do not use."""


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """A private key as PKCS #8 PEM. `parse` and `generate` make it."""

    pem: bytes

    def __repr__(self) -> str:
        return "<PrivateKey ...>"

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new P-256 key; a tenth of a millisecond of CPU."""
        return cls.of(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def of(cls, key: SigningKey) -> PrivateKey:
        """Wrap a key of the `cryptography` library."""
        return cls(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    @classmethod
    def parse(cls, pem: bytes) -> PrivateKey:
        """Read PEM without a password. Raises: InvalidKey."""
        return cls.of(cls(pem).load())

    def load(self) -> SigningKey:
        """The key as `cryptography` has it. Raises: InvalidKey."""
        try:
            key = serialization.load_pem_private_key(self.pem, password=None)
        except TypeError as error:
            raise InvalidKey("private key: encrypted; expected no password") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            # The library's own message can quote input, so it stays out of ours.
            raise InvalidKey("private key: expected PKCS #8 or SEC 1 PEM") from error
        if not isinstance(key, SigningKey):
            raise InvalidKey(f"private key: {type(key).__name__} is not a kind we use")
        return key


def workload_key(key: object) -> WorkloadPublicKey:
    """
    `key`, if a workload may have one of its kind: P-256, P-384 or Ed25519.

    Raises: InvalidKey naming the kind.
    """
    match key:
        case ed25519.Ed25519PublicKey():
            return key
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1()):
            return key
        case ec.EllipticCurvePublicKey():
            kind = key.curve.name
        case _:
            kind = type(key).__name__
    raise InvalidKey(f"key of kind {kind}, expected P-256, P-384 or Ed25519")


def signature_hash(key: SigningKey) -> hashes.SHA256 | hashes.SHA384 | None:
    """The digest to sign with; Ed25519 has its own (RFC 8410 section 1)."""
    match key:
        case ed25519.Ed25519PrivateKey():
            return None
        case ec.EllipticCurvePrivateKey(curve=ec.SECP384R1()):
            return hashes.SHA384()
        case _:
            return hashes.SHA256()
