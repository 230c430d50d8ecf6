"""The authority inside this process: one machine, no identity service to reach."""

from __future__ import annotations

import trio
from cryptography import x509

from agent.identity.audit import record_issued, record_refused
from agent.identity.authority import Authority, InvalidAuthority
from agent.identity.clock import Clock, utc_now
from agent.identity.pem import CERTIFICATE_REQUEST, format_blocks
from agent.identity.signing import NodeRegistry, SigningRefused, sign_request
from agent.identity.source import IdentityRefused, IdentityUnavailable, Signed
from agent.identity.token import NodeCaller
from agent.log import logger


class EmbeddedIdentity:
    """A `CertificateSource` that asks the same questions as the service would."""

    def __init__(
        self,
        authority: Authority,
        registry: NodeRegistry,
        node: str,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self.authority = authority
        self._registry = registry
        self._caller = NodeCaller(node, token_id="embedded")  # noqa: S106 - a name
        self._clock = clock
        self._log = logger(part="identity", mode="embedded")

    async def sign(self, csr_der: bytes) -> Signed:
        """Raises: IdentityRefused, IdentityUnavailable (our own issuer expired)."""
        await trio.lowlevel.checkpoint()
        try:
            issued = sign_request(
                self.authority,
                self._registry,
                self._caller,
                format_blocks([csr_der], CERTIFICATE_REQUEST),
                now=self._clock(),
                serial=x509.random_serial_number(),
            )
        except SigningRefused as refused:
            record_refused(self._log, self._caller, refused)
            raise IdentityRefused(refused.reason.value, str(refused)) from refused
        except InvalidAuthority as error:
            raise IdentityUnavailable(str(error)) from error
        record_issued(self._log, self._caller, issued)
        return Signed(issued.chain_pem, issued.bundle_pem)

    async def bundle(self) -> bytes:
        """The trust anchors as PEM."""
        await trio.lowlevel.checkpoint()
        return self.authority.bundle.pem
