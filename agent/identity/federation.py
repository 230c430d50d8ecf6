"""Keeping the bundles of foreign trust domains current; `run` is the task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import trio

from agent.dependencies import Dependencies, Dependency
from agent.errors import PodlockError
from agent.identity.bundle import Bundle
from agent.identity.bundle_endpoint import fetch, read_file
from agent.identity.clock import Chance, Clock, chance, sleep_until, utc_now
from agent.identity.federated import FederatedDomain
from agent.identity.signer_file import naming
from agent.identity.spiffe import TrustDomain
from agent.identity.standing import Standing, read_bundle
from agent.log import logger
from agent.recovery import Recovery

Tell = Callable[[str, str, str], None]
Read = Callable[[FederatedDomain], Awaitable[bytes]]
Fetch = Callable[[FederatedDomain, Bundle | None], Awaitable[bytes]]


def say_nothing(kind: str, subject: str, text: str) -> None:
    """For whoever has no events; the log has it all."""
    del kind, subject, text


class Federation:
    """
    The bundles of other domains, each from its own place.

    `publish` gets all of them at every change, in the trio thread, and must not
    raise. A domain without a good bundle yet is not among them: its peers are refused
    by name.
    """

    def __init__(
        self,
        domains: Iterable[FederatedDomain],
        publish: Callable[[tuple[Bundle, ...]], None],
        *,
        known: Iterable[Bundle] = (),
        tell: Tell = say_nothing,
        read: Read = read_file,
        fetch: Fetch = fetch,
        clock: Clock = utc_now,
        random: Chance = chance,
        dependencies: Dependencies | None = None,
    ) -> None:
        """
        Args: known are bundles of an earlier run, in force until newer ones come; tell
        hears what an operator wants to know: kind, trust domain, sentence.
        """
        self._standings = {each.trust_domain: Standing(each) for each in domains}
        self._earlier = {bundle.trust_domain: bundle for bundle in known}
        self._publish, self._tell_operator = publish, tell
        self._read, self._fetch = read, fetch
        self._clock = clock
        self._random = random
        self._dependencies = dependencies or Dependencies()
        self._told: tuple[Bundle, ...] | None = None
        self._log = logger(part="federation")

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """One for each domain that we know, in the order of their names."""
        found = (self._bundle(domain) for domain in sorted(self._standings))
        return tuple(bundle for bundle in found if bundle is not None)

    def report(self) -> list[Standing]:
        """Where every federated domain stands."""
        return list(self._standings.values())

    async def look(self) -> None:
        """Once at every domain, in its place; `report` has the outcome."""
        for domain in self._standings:
            await self._look(domain)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """
        Look again and again until cancelled.

        Started when every file has been read once: what is on the disk needs no
        waiting for.
        """
        for domain, standing in self._standings.items():
            if standing.domain.url is None:
                await self._look(domain)
        self._tell()
        async with trio.open_nursery() as nursery:
            for domain in self._standings:
                nursery.start_soon(self._keep, domain)
            task_status.started()

    async def _keep(self, domain: TrustDomain) -> None:
        recovery = Recovery()
        pause = timedelta(0)
        if self._standings[domain].domain.url is None:
            pause = self._standings[domain].refresh  # `run` has just read the file
        while True:
            await sleep_until(self._clock() + pause, self._clock)
            pause = await self._look_in(domain, recovery)

    async def _look_in(self, domain: TrustDomain, recovery: Recovery) -> timedelta:
        """Look once; returns how long to wait before the next look."""
        began = trio.current_time()
        recovery.asked(began)
        await self._look(domain)
        now, standing = trio.current_time(), self._standings[domain]
        if not standing.failures or standing.domain.url is None:
            recovery.answered(now)
            return standing.refresh
        recovery.unanswered(began, self._random())
        return timedelta(seconds=recovery.wait(now))

    async def _look(self, domain: TrustDomain) -> None:
        standing = self._standings[domain]
        try:
            content = await self._content(standing.domain)
            with naming(standing.domain.place, content):
                told = read_bundle(domain, content)
            self._standings[domain] = standing.learned(told, self._clock())
        except PodlockError as error:
            self._contact(standing.domain).failed(str(error))
            self._failed(standing, str(error))
        else:
            self._contact(standing.domain).heard()
            if standing.problem is not None:
                self._log.info("federated bundle again current", domain=str(domain))
                self._tell_operator("federation", str(domain), "is current again")
            self._tell()

    def _contact(self, domain: FederatedDomain) -> Dependency:
        kind = f"bundle of {domain.trust_domain}"
        return self._dependencies.of(kind, domain.place)

    async def _content(self, domain: FederatedDomain) -> bytes:
        if domain.url is None:
            return await self._read(domain)
        return await self._fetch(domain, await self._endpoint_bundle(domain))

    async def _endpoint_bundle(self, domain: FederatedDomain) -> Bundle | None:
        """The latest anchors of whoever serves the bundle (section 5.2.2.4)."""
        if domain.endpoint_id is None:
            return None
        owner = domain.endpoint_id.trust_domain
        known = self._bundle(owner)
        if known is None and domain.file is not None:
            content = await self._read(domain)
            with naming(str(domain.file), content):
                return read_bundle(owner, content).bundle
        return known

    def _bundle(self, domain: TrustDomain) -> Bundle | None:
        standing = self._standings.get(domain)
        if standing is None:
            return None
        if standing.known is None:
            return self._earlier.get(domain)
        return standing.known.bundle

    def _failed(self, standing: Standing, problem: str) -> None:
        domain = standing.domain.trust_domain
        self._standings[domain] = standing.failed(problem, self._clock())
        if standing.problem != problem:  # said once, not at every look
            in_force = self._bundle(domain)
            count = len(in_force.anchors) if in_force else 0
            self._log.warning(
                "federated bundle not current",
                domain=str(domain),
                problem=problem,
                anchors_in_force=count,
            )
            text = f"{problem}; {count} anchors that were good stay in force"
            self._tell_operator("federation-failed", str(domain), text)

    def _tell(self) -> None:
        bundles = self.bundles
        if bundles == self._told:
            return
        self._told = bundles
        for bundle in bundles:
            self._log.info(
                "federated bundle",
                domain=str(bundle.trust_domain),
                anchors=[anchor.fingerprint for anchor in bundle.anchors],
            )
        self._publish(bundles)
