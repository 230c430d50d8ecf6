"""
A verified chain: a workload's certificate and those that it stands on.

What a status names, what `taint` names and what a revocation list names are parts of
it. Fingerprints are SHA-256 of DER in lower-case hex.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

from agent.errors import PeerError
from agent.identity.bundle import Bundle
from agent.identity.certificate import Svid, fingerprint, inspect
from agent.identity.credential import Credential


class CertificateTainted(PeerError):
    """A certificate stands on an issuer or anchor under which nothing counts."""


@dataclass(frozen=True, slots=True)
class Chain:
    """`authorities` are the fingerprints above the leaf, its issuer first."""

    svid: Svid
    authorities: tuple[str, ...]
    anchor: str | None
    """The last of them; None where no anchor that we trust is at the end."""
    der: tuple[bytes, ...] = field(compare=False, repr=False)
    """Leaf first, anchor last."""

    @classmethod
    def of(cls, chain_der: Sequence[bytes]) -> Chain:
        """
        A chain that was verified, its anchor at the end.

        Raises: InvalidCertificate for a leaf outside the profile.
        """
        leaf, *above = chain_der
        authorities = tuple(map(fingerprint, above))
        anchor = authorities[-1] if authorities else None
        return cls(inspect(leaf), authorities, anchor, tuple(chain_der))

    @classmethod
    def of_credential(cls, credential: Credential, bundle: Bundle) -> Chain:
        """What a credential presents, with the anchor that `bundle` has for it."""
        return _presented(credential.chain_der, bundle)

    @property
    def issuer(self) -> str | None:
        """What signed the leaf."""
        return self.authorities[0] if self.authorities else None

    def require_untainted(self, tainted: AbstractSet[str]) -> None:
        """Pass a chain with none of these in it. Raises: CertificateTainted."""
        for name in self.authorities:
            if name in tainted:
                kind = "anchor" if name == self.anchor else "issuer"
                raise CertificateTainted(
                    f"certificate {self.svid.serial:x} of {self.svid.spiffe_id} "
                    f"is under the tainted {kind} {name}"
                )


# Asked again at every change of trust, for all identities of a node.
@lru_cache(maxsize=4096)
def _presented(chain_der: tuple[bytes, ...], bundle: Bundle) -> Chain:
    anchor = bundle.anchor_of(chain_der)
    if anchor is not None:
        return Chain.of((*chain_der, anchor.der))
    authorities = tuple(map(fingerprint, chain_der[1:]))
    return Chain(inspect(chain_der[0]), authorities, None, chain_der)
