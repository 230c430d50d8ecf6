"""
Tells the authority what this node trusts, presents and relies on.

At once when that changes, so that an operator who asks "may this anchor go?" gets an
answer of now; and once a minute, so that the authority knows who is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

import trio

from agent.errors import PodlockError
from agent.identity.chain import Chain
from agent.identity.clock import Chance, chance
from agent.identity.report import PeerTrust, Presented, TrustReport
from agent.identity.schedule import CertificateStatus
from agent.identity.source import CertificateSource
from agent.identity.spiffe import SpiffeId
from agent.log import logger
from agent.recovery import LIMIT_SECONDS, Recovery

log = logger(part="identity")

Peers = Mapping[tuple[str, str], tuple[int, str]]
"""As `ConnectionLedger.by_authority` has them."""

LOOK: Final = timedelta(seconds=0.25)
REPEAT: Final = timedelta(seconds=60)
DEADLINE: Final = timedelta(seconds=LIMIT_SECONDS)


def trust_report(
    node: str,
    version: int,
    statuses: Iterable[CertificateStatus],
    chains: Mapping[SpiffeId, Chain],
    peers: Peers,
) -> TrustReport:
    """
    A report of what is in force.

    What ends in no anchor of the bundle is left out: nobody accepts it, so it needs
    none.
    """
    identities = [
        Presented(
            spiffe_id=status.identity,
            anchor=chain.anchor,
            issuer=chain.issuer,
            serial=chain.svid.serial,
            not_after=chain.svid.not_after,
            renewed_at=status.renewed,
        )
        for status in statuses
        if (chain := chains.get(status.identity)) and status.renewed
        if chain.anchor and chain.issuer
    ]
    found = [
        PeerTrust(anchor, issuer, count, datetime.fromisoformat(oldest))
        for (anchor, issuer), (count, oldest) in sorted(peers.items())
    ]
    return TrustReport(node, version, tuple(identities), tuple(found))


class TrustReports:
    """
    Sends reports; `run` is its task.

    `describe` gives the report of this moment, None while there is nothing to tell.
    """

    def __init__(
        self,
        source: CertificateSource,
        describe: Callable[[], TrustReport | None],
        random: Chance = chance,
    ) -> None:
        self.acknowledged: int | None = None
        """The version of trust that the authority has heard to be in force here."""
        self.error: str | None = None
        """Why it has not heard the latest."""
        self._source = source
        self._describe = describe
        self._random = random
        self._told: object = None
        self._told_at = -REPEAT.total_seconds()
        self._recovery = Recovery()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            report = self._describe()
            pause = LOOK.total_seconds()
            if report is not None and self._is_news(report):
                pause = await self._send(report)
            await trio.sleep(pause)

    def _is_news(self, report: TrustReport) -> bool:
        again = trio.current_time() - self._told_at >= REPEAT.total_seconds()
        return again or _gist(report) != self._told

    async def _send(self, report: TrustReport) -> float:
        """Seconds to wait before the next look."""
        began = trio.current_time()
        self._recovery.asked(began)
        try:
            with trio.fail_after(DEADLINE.total_seconds()):
                await self._source.acknowledge(report)
        except trio.TooSlowError:
            return self._failed(f"no answer in {DEADLINE}", began)
        except PodlockError as error:
            return self._failed(str(error), began)
        self._told, self._told_at = _gist(report), trio.current_time()
        self.acknowledged, self.error = report.version, None
        self._recovery.answered(trio.current_time())
        return LOOK.total_seconds()

    def _failed(self, error: str, began: float) -> float:
        if error != self.error:
            log.warning("trust report not delivered", error=error)
        self.error = error
        self._recovery.unanswered(began, self._random())
        return self._recovery.wait(trio.current_time())


def _gist(report: TrustReport) -> object:
    """What matters at once; how many connections there are changes all the time."""
    peers = frozenset((each.anchor, each.issuer) for each in report.peers)
    return report.version, report.identities, peers
