"""
`podlock identity serve`: the certificate authority for a cluster, over HTTPS.

The server authenticates by a certificate that it signs for itself: clients know the
anchors and the name `identity.podlock.internal`. Callers authenticate by token. What
is served is in `endpoints`.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import cast

import hypercorn.trio
import trio
from cryptography import x509
from hypercorn.config import Config
from hypercorn.typing import Framework

from agent.addresses import SocketAddress
from agent.errors import PodlockError
from agent.identity.chain import Chain
from agent.identity.clock import Chance, chance, sleep_until
from agent.identity.context import load_credential
from agent.identity.credential import Credential
from agent.identity.endpoints import MAX_BODY_BYTES, IdentityService, Limits
from agent.identity.issuance import Issuance
from agent.identity.overview import StateView
from agent.identity.reviewing import TokenReviewer
from agent.identity.rotation import renew_at, retry_after
from agent.log import logger
from agent.recovery import interval


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the service listens, and how patient it is."""

    bind: SocketAddress
    """Port 0 takes a free one; `serve` reports which."""
    request_deadline: timedelta = timedelta(seconds=10)
    handshake_deadline: timedelta = timedelta(seconds=10)
    limits: Limits = field(default_factory=Limits)


async def serve(
    settings: Settings,
    issuance: Issuance,
    reviewer: TokenReviewer,
    *,
    state: Callable[[], StateView] | None = None,
    random: Chance = chance,
    task_status: trio.TaskStatus[SocketAddress] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve until cancelled; reports the bound address once it answers.

    Raises: OSError where the address cannot be bound, InvalidAuthority.
    """
    service = IdentityService(
        issuance,
        reviewer,
        limits=settings.limits,
        state=state,
        request_deadline=settings.request_deadline,
    )
    keeper = ServerCertificate(issuance, random)
    first_renewal = keeper.renew()
    config = _TlsConfig(settings, keeper.context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, first_renewal)
        start = partial(
            hypercorn.trio.serve, cast("Framework", service), config, mode="asgi"
        )
        (url,) = await nursery.start(start)
        address = SocketAddress.parse(url.removeprefix("https://"))
        logger(part="identity").info("identity service ready", address=str(address))
        task_status.started(address)


@dataclass(slots=True)
class ServerCertificate:
    """Keeps the server's own certificate current inside one SSL context."""

    issuance: Issuance
    random: Chance
    context: ssl.SSLContext = field(init=False)
    _credential: Credential | None = None

    def __post_init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.set_alpn_protocols(["http/1.1"])

    def renew(self) -> timedelta:
        """Load a new certificate; returns how long until the next one is due."""
        credential = self.issuance.authority.issue_server(
            now=self.issuance.clock(), serial=x509.random_serial_number()
        )
        load_credential(self.context, credential)
        self._credential = credential
        svid = credential.svid
        due = renew_at(svid.not_before, svid.not_after, self.random())
        return max(due - self.issuance.clock(), retry_after(0, self.random()))

    async def run(self, pause: timedelta) -> None:
        """
        Renew after `pause`, then in time, for ever; new handshakes see it.

        Also at once when its anchor has left or its issuer is tainted. Not when another
        anchor signs from now on: who does not know that one yet, a foreign trust domain
        that reads our bundle here, could never learn of it.
        """
        failures = 0
        while True:
            await self._wait(pause)
            try:
                pause, failures = self.renew(), 0
            except PodlockError as error:
                pause = timedelta(seconds=interval(failures, self.random()))
                failures += 1
                logger(part="identity").error(
                    "server certificate not renewed", error=str(error)
                )

    async def _wait(self, pause: timedelta) -> None:
        clock = self.issuance.clock
        async with trio.open_nursery() as nursery:

            async def until_useless() -> None:
                await self.issuance.changed()
                while self._is_good():
                    await self.issuance.changed()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_useless)
            await sleep_until(clock() + pause, clock)
            nursery.cancel_scope.cancel()

    def _is_good(self) -> bool:
        """Whether what we present stands on an anchor that counts, and no taint."""
        trust = self.issuance.trust
        if self._credential is None:
            return True  # none could be made; the pause is for that
        chain = Chain.of_credential(self._credential, trust.bundle)
        return chain.anchor is not None and trust.tainted.isdisjoint(chain.authorities)


class _TlsConfig(Config):
    """Hypercorn's settings, with our SSL context in place of its files."""

    def __init__(self, settings: Settings, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context
        self.bind = [str(settings.bind)]
        self.errorlog = None  # the application logs by itself
        self.include_server_header = False
        self.ssl_handshake_timeout = settings.handshake_deadline.total_seconds()
        self.h11_max_incomplete_size = MAX_BODY_BYTES

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        return self._context
