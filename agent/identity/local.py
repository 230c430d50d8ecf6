"""The authority inside this process: one machine, no identity service to reach."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from agent.identity.issuance import Issuance
from agent.identity.issuer_path import InvalidAuthority
from agent.identity.pem import CERTIFICATE_REQUEST, format_blocks
from agent.identity.report import TrustReport
from agent.identity.signing import SigningRefused
from agent.identity.source import IdentityRefused, IdentityUnavailable, Signed
from agent.identity.token import NodeCaller
from agent.identity.trust import Trust


class EmbeddedIdentity:
    """A `CertificateSource` that asks the same questions as the service would."""

    def __init__(self, issuance: Issuance, node: str) -> None:
        self._issuance = issuance
        self._caller = NodeCaller(node, token_id="embedded")  # noqa: S106 - a name

    async def sign(self, csr_der: bytes) -> Signed:
        """Raises: IdentityRefused, IdentityUnavailable (our own issuer expired)."""
        csr_pem = format_blocks([csr_der], CERTIFICATE_REQUEST)
        try:
            issued = await self._issuance.sign(self._caller, csr_pem)
        except SigningRefused as refused:
            raise IdentityRefused(refused.code, str(refused)) from refused
        except InvalidAuthority as error:
            raise IdentityUnavailable(str(error)) from error
        return Signed(issued.chain_pem, self._issuance.trust)

    def watch(self) -> AsyncGenerator[Trust, None]:
        """The trust in force, then each change."""
        return self._issuance.watch()

    async def acknowledge(self, report: TrustReport) -> None:
        """Raises: IdentityRefused for another node's report."""
        try:
            await self._issuance.acknowledge(self._caller, report)
        except SigningRefused as refused:
            raise IdentityRefused(refused.code, str(refused)) from refused
