"""A credential: the certificate chain and key that let a workload prove who it is."""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import InputError
from agent.identity import pem
from agent.identity.certificate import Svid, inspect, parse
from agent.identity.key import PrivateKey

__all__ = ["Credential", "InvalidCredential", "PrivateKey"]


class InvalidCredential(InputError):
    """A chain and a key that do not make a credential."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a TLS endpoint presents. Can be pickled; prints no key."""

    svid: Svid
    chain_pem: bytes
    """The leaf, then intermediates; the anchor is not in it."""
    key: PrivateKey

    @classmethod
    def assemble(cls, chain_pem: bytes, key: PrivateKey) -> Credential:
        """
        Check that the leaf keeps the profile and has been issued for `key`.

        Raises: InvalidCredential, InvalidPem, InvalidCertificate, InvalidKey.
        """
        chain = pem.parse(chain_pem, pem.CERTIFICATE)
        if not chain:
            raise InvalidCredential("credential: the certificate chain is empty")
        svid = inspect(chain[0])
        for intermediate in chain[1:]:
            parse(intermediate)
        if parse(chain[0]).public_key() != key.load().public_key():
            raise InvalidCredential(
                f"credential: the certificate for {svid.spiffe_id} is for another key"
            )
        return cls(svid, pem.format_blocks(chain, pem.CERTIFICATE), key)

    @property
    def chain_der(self) -> tuple[bytes, ...]:
        """The chain's certificates, leaf first."""
        return pem.parse(self.chain_pem, pem.CERTIFICATE)
