"""
What a SPIFFE agent hands out, as our own values.

Source: SPIFFE Workload API section 5. Certificates are DER; a chain is leaf first and
holds no anchor. One SVID that we cannot use does not take the others with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from agent.errors import InputError
from agent.identity import pem
from agent.identity.bundle import Bundle, InvalidBundle
from agent.identity.credential import Credential
from agent.identity.key import PrivateKey
from agent.identity.spiffe import SpiffeId, TrustDomain


@dataclass(frozen=True, slots=True)
class RawSvid:
    """One SVID with its key, as it came."""

    spiffe_id: str
    chain_der: tuple[bytes, ...]
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class Handed:
    """All that the SPIFFE agent gives this process now."""

    credentials: Mapping[SpiffeId, Credential]
    bundle: Bundle
    federated: tuple[Bundle, ...]
    faults: tuple[str, ...] = ()
    """What of it we cannot use, and why."""

    @classmethod
    def read(
        cls,
        trust_domain: TrustDomain,
        svids: Iterable[RawSvid],
        bundles: Mapping[str, Iterable[bytes]],
    ) -> Self:
        """
        Args: bundles are DER anchors by the name of their trust domain.

        Raises: InvalidBundle where that of our own domain is missing or bad.
        """
        faults: list[str] = []
        credentials: dict[SpiffeId, Credential] = {}
        for svid in svids:
            try:
                credential = _credential(svid)
            except InputError as error:
                faults.append(f"{svid.spiffe_id}: {error}")
            else:
                # The first of several for one identity is the default (section 5.2.1).
                credentials.setdefault(credential.svid.spiffe_id, credential)
        known: dict[str, Bundle] = {}
        for name, anchors in bundles.items():
            try:
                known[name] = Bundle.of(TrustDomain(name), anchors)
            except InputError as error:
                faults.append(str(error))
        own = known.pop(str(trust_domain), None)
        if own is None:
            others = ", ".join(sorted(known)) or "none"
            text = f"no bundle of {trust_domain}; of other trust domains: {others}"
            raise InvalidBundle("; ".join([text, *faults]))
        federated = tuple(known[name] for name in sorted(known))
        return cls(credentials, own, federated, tuple(faults))


def _credential(svid: RawSvid) -> Credential:
    chain = pem.format_blocks(svid.chain_der, pem.CERTIFICATE)
    return Credential.assemble(chain, svid.key)
