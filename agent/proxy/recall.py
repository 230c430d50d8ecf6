"""
Tunnels whose certificates do not count any more, and how they end.

Revoked: at once, for somebody else may hold the key. Tainted: new streams go
elsewhere at once; those that are under way get a moment, so that what is short
finishes, and until their workload has a clean certificate, so that their applications
can connect again; at the latest until the deadline. Each stream fails with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import trio

from agent.hbone.connection import ErrorCode
from agent.identity.chain import CertificateTainted
from agent.identity.crl import CertificateRevoked
from agent.identity.distrust import Distrust
from agent.identity.spiffe import SpiffeId
from agent.proxy.tunnel import Tunnel

# What is short finishes meanwhile.
PARTING_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.05


class Recall:
    """
    Ends tunnels when distrust grows.

    `tunnels` are those that are open; `has_clean` tells whether an identity has a
    certificate that nothing speaks against; `tell` hears of each that is ended.
    """

    def __init__(
        self,
        tunnels: Callable[[], Iterable[Tunnel]],
        has_clean: Callable[[SpiffeId], bool],
        tell: Callable[[Tunnel, str], None],
        deadline_seconds: float,
    ) -> None:
        self._tunnels = tunnels
        self._has_clean = has_clean
        self._tell = tell
        self._deadline_seconds = deadline_seconds
        self._tainted: dict[Tunnel, tuple[float, str]] = {}
        self._news = trio.Event()

    def judge(self, distrust: Distrust) -> None:
        """End what is revoked; from what is tainted take new streams away."""
        for tunnel in list(self._tunnels()):
            try:
                tunnel.papers.require_good(distrust)
            except CertificateRevoked as error:
                self._end(tunnel, str(error))
            except CertificateTainted as error:
                tunnel.drain()
                noticed = trio.current_time()
                self._tainted.setdefault(tunnel, (noticed, str(error)))
                self._news.set()

    async def run(self) -> None:
        """Forever: end what is tainted when its time has come."""
        while True:
            if not self._tainted:
                self._news = trio.Event()
                await self._news.wait()
            for tunnel, (noticed, reason) in list(self._tainted.items()):
                if tunnel.closed is not None or self._is_over(tunnel, noticed):
                    del self._tainted[tunnel]
                    self._end(tunnel, reason)
            await trio.sleep(LOOK_SECONDS)

    def _is_over(self, tunnel: Tunnel, noticed: float) -> bool:
        since = trio.current_time() - noticed
        if since < PARTING_SECONDS:
            return since >= self._deadline_seconds
        ours = tunnel.papers.ours.svid.spiffe_id
        return self._has_clean(ours) or since >= self._deadline_seconds

    def _end(self, tunnel: Tunnel, reason: str) -> None:
        if tunnel.closed is None:
            self._tell(tunnel, reason)
            tunnel.shut(reason, ErrorCode.INADEQUATE_SECURITY)
