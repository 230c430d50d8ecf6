"""
Certificates from a SPIFFE agent (SPIRE's, say) on this machine.

Theory of operation. The Workload API knows its caller by the kernel's word (the peer
of the Unix socket) and hands it the SVIDs that are registered for it, with their keys,
and hands out new ones long before the old ones end. It signs no requests. So the
SPIFFE agent must know this process: each identity that pods here shall have is
registered for it, by its user and its program. That suits a virtual machine or a node
with few workloads; for a node of a cluster, SPIRE's Delegated Identity API asks for
others' identities by their own attestation, and is not built yet (DECISIONS.md, 42).

`spiffe` speaks gRPC in threads of its own. They hand everything over to trio and touch
nothing of ours; the package is imported where this source is used and nowhere else.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import trio
from cryptography.hazmat.primitives.serialization import Encoding

from agent.dependencies import Dependency
from agent.errors import InputError
from agent.identity.chain import Chain
from agent.identity.clock import Clock, utc_now
from agent.identity.csr import check_csr
from agent.identity.handed import Handed, RawSvid
from agent.identity.key import InvalidKey, PrivateKey, SigningKey
from agent.identity.report import TrustReport
from agent.identity.rotation import renew_at
from agent.identity.source import IdentityRefused, IdentityUnavailable, Signed
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.trust import Trust
from agent.log import logger

if TYPE_CHECKING:
    from spiffe import WorkloadApiClient, X509Svid
    from spiffe.workloadapi.x509_context import X509Context

    News = X509Context | Exception

SCHEME: Final = "unix://"
# An SVID that is due is asked for again so often, until there is a newer one.
PATIENCE: Final = timedelta(seconds=60)
# One a day or so goes, and what was under it is replaced within minutes.
MAX_RETIRING: Final = 16


class NoSpiffePackage(InputError):
    """The optional package that speaks to a SPIFFE agent is not installed."""


def require_package() -> None:
    """Pass where `spiffe` can be imported. Raises: NoSpiffePackage."""
    try:
        import spiffe  # noqa: F401
    except ImportError as error:
        raise NoSpiffePackage(
            f"identity.workload_api: pip install 'podlock[spire]' ({error})"
        ) from error


class WorkloadApi:
    """
    A `CertificateSource` that takes what a SPIFFE agent hands out.

    Somebody must `watch`: what comes there is what `sign` answers with.
    """

    def __init__(
        self,
        address: str,
        trust_domain: TrustDomain,
        *,
        clock: Clock = utc_now,
        contact: Dependency | None = None,
    ) -> None:
        """
        Args: address is `unix:///path`; contact hears of each answer and failure.
        """
        self._address = address
        self._contact = contact or Dependency("SPIFFE agent", address)
        self._trust_domain = trust_domain
        self._clock = clock
        self._handed: Handed | None = None
        self.on_news: Callable[[Mapping[SpiffeId, int]], None] = lambda _: None
        """Hears which SVIDs there are now: serial numbers by identity."""
        self._trust: Trust | None = None
        self._authorities: list[str] = []
        self._given: dict[tuple[SpiffeId, int], datetime] = {}
        self._news = trio.Event()
        self._log = logger(part="identity", mode="workload-api")

    async def sign(self, csr_der: bytes) -> Signed:
        """
        The SVID of the identity that the request names; its key comes along.

        Raises: IdentityRefused where this process has no such SVID, or where a newer
        one than the last is due and has not come; InvalidCsr.
        """
        identity = check_csr(csr_der).spiffe_id
        while self._handed is None or self._trust is None:
            await self._news.wait()
        await trio.lowlevel.checkpoint()
        credential = self._handed.credentials.get(identity)
        if credential is None:
            raise IdentityRefused("no_svid", self._why_none(identity, self._handed))
        svid = credential.svid
        self._require_news(identity, svid.serial, svid.not_before, svid.not_after)
        return Signed(credential.chain_pem, self._trust, credential.key)

    async def watch(self) -> AsyncGenerator[Trust, None]:
        """The trust in force, then each change. Raises: IdentityUnavailable."""
        try:
            async with aclosing(self._changes()) as changes:
                async for trust in changes:
                    yield trust
        except IdentityUnavailable as error:
            self._contact.failed(str(error))
            raise

    async def _changes(self) -> AsyncGenerator[Trust, None]:
        token = trio.lowlevel.current_trio_token()
        send, receive = trio.open_memory_channel["News"](math.inf)

        def tell(news: News) -> None:  # in a thread of the package's
            with contextlib.suppress(trio.RunFinishedError):  # nobody to tell any more
                token.run_sync_soon(send.send_nowait, news)

        client = await trio.to_thread.run_sync(self._connect)
        stream = client.stream_x509_contexts(tell, tell, retry_connect=False)
        told: Trust | None = None
        try:
            async for news in receive:
                if isinstance(news, Exception):
                    text = f"SPIFFE agent at {self._address}: {news}"
                    raise IdentityUnavailable(text) from news
                self._contact.heard()
                trust = self._adopt(news)
                if trust != told:
                    told = trust
                    yield trust
        finally:
            stream.cancel()
            client.close()

    async def acknowledge(self, report: TrustReport) -> None:
        """A SPIFFE agent asks for no reports; nothing happens."""
        del report
        await trio.lowlevel.checkpoint()

    def _connect(self) -> WorkloadApiClient:
        from spiffe import WorkloadApiClient
        from spiffe.errors import PySpiffeError

        try:
            return WorkloadApiClient(self._address)
        except PySpiffeError as error:
            text = f"SPIFFE agent at {self._address}: {error}"
            raise IdentityUnavailable(text) from error

    def _adopt(self, context: X509Context) -> Trust:
        """Take a whole answer; a bad one leaves the last good one in force."""
        try:
            handed = Handed.read(
                self._trust_domain,
                map(_raw, context.x509_svids),
                {
                    bundle.trust_domain.name: [
                        each.public_bytes(Encoding.DER)
                        for each in bundle.x509_authorities
                    ]
                    for bundle in context.x509_bundle_set.bundles
                },
            )
        except InputError as error:
            if self._trust is None:
                text = f"SPIFFE agent at {self._address}: {error}"
                raise IdentityUnavailable(text) from error
            self._log.warning("answer of the SPIFFE agent not used", error=str(error))
            return self._trust
        for fault in handed.faults:
            self._log.warning("part of the SPIFFE agent's answer not used", error=fault)
        self._handed = handed
        self._trust = self._next_trust(handed)
        current = {(who, c.svid.serial) for who, c in handed.credentials.items()}
        self.on_news(
            {who: each.svid.serial for who, each in handed.credentials.items()}
        )
        self._given = {key: at for key, at in self._given.items() if key in current}
        self._news.set()
        self._news = trio.Event()
        return self._trust

    def _next_trust(self, handed: Handed) -> Trust:
        last = self._trust
        trust = Trust(
            version=last.version if last else 1,
            bundle=handed.bundle,
            federated=handed.federated,
            retiring=self._retiring(handed),
        )
        if last is None or trust == last:
            return trust
        return replace(trust, version=last.version + 1)

    def _retiring(self, handed: Handed) -> frozenset[str]:
        """
        The authorities that our SVIDs were under and are under no more.

        The SPIFFE agent does not say that an authority signs no longer, or may not be
        relied on; new SVIDs under another are how one learns of it.
        """
        now = {
            name
            for credential in handed.credentials.values()
            for name in Chain.of_credential(credential, handed.bundle).authorities
        }
        before = [name for name in self._authorities if name not in now]
        self._authorities = [*before[-MAX_RETIRING:], *sorted(now)]
        return frozenset(before[-MAX_RETIRING:])

    def _why_none(self, identity: SpiffeId, handed: Handed) -> str:
        held = ", ".join(sorted(map(str, handed.credentials))) or "none"
        text = f"{identity}: the SPIFFE agent gives this process only {held}"
        return "; ".join([text, *handed.faults])

    def _require_news(
        self, identity: SpiffeId, serial: int, starts: datetime, ends: datetime
    ) -> None:
        """One that is due is given once a while, lest it be asked for without end."""
        now, last = self._clock(), self._given.get((identity, serial))
        is_due = now >= renew_at(starts, ends, jitter=0)
        if is_due and last is not None and now < last + PATIENCE:
            text = f"{identity}: the SPIFFE agent has no newer SVID than {serial:x}"
            raise IdentityRefused("no_newer_svid", text)
        self._given[identity, serial] = now


def _raw(svid: X509Svid) -> RawSvid:
    key = svid.private_key
    if not isinstance(key, SigningKey):
        raise InvalidKey(f"{svid.spiffe_id}: a key of kind {type(key).__name__}")
    chain = tuple(each.public_bytes(Encoding.DER) for each in svid.cert_chain)
    return RawSvid(str(svid.spiffe_id), chain, PrivateKey.of(key))
