"""
Tunnels whose certificates do not count any more, and how they end.

Revoked: at once, for somebody else may hold the key. Tainted: new streams go
elsewhere at once; those that are there end when their workload has a clean
certificate, so that their applications can connect again. Who had not been there for
long may be a request, and finish by itself. At the deadline all of it ends. Each
stream fails with the reason.
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

# Who was younger when the news came may be a request.
SHORT_SECONDS: Final = 7.0
LOOK_SECONDS: Final = 0.05


class Recall:
    """
    Ends tunnels when distrust grows.

    `tunnels` are those that are open; `has_clean` tells whether an identity has a
    certificate that nothing speaks against; `tell` hears of each that has to go.
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
                self._tell(tunnel, str(error))
                tunnel.shut(str(error), ErrorCode.INADEQUATE_SECURITY)
            except CertificateTainted as error:
                self._take_leave(tunnel, str(error))

    def _take_leave(self, tunnel: Tunnel, reason: str) -> None:
        if tunnel not in self._tainted:
            self._tell(tunnel, reason)
            self._tainted[tunnel] = trio.current_time(), reason
            tunnel.drain()
            self._news.set()

    async def run(self) -> None:
        """Forever: end what is tainted when its time has come."""
        while True:
            if not self._tainted:
                self._news = trio.Event()
                await self._news.wait()
            for tunnel, (noticed, reason) in list(self._tainted.items()):
                if tunnel.closed is not None:
                    del self._tainted[tunnel]
                elif trio.current_time() - noticed >= self._deadline_seconds:
                    tunnel.shut(reason, ErrorCode.INADEQUATE_SECURITY)
                elif self._has_clean(tunnel.papers.ours.svid.spiffe_id):
                    tunnel.end_streams(noticed - SHORT_SECONDS, reason)
            await trio.sleep(LOOK_SECONDS)
