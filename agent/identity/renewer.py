"""
The renewer: one current certificate for every identity that this node speaks for.

Keys are made here, live in memory and leave only inside a published credential. A
certificate that is still valid stays in use while its renewal fails. One that is
tainted or revoked is replaced at once, one whose issuer or anchor goes within seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

import trio

from agent.errors import PodlockError
from agent.identity.certificate import require_identity
from agent.identity.chain import CertificateTainted, Chain
from agent.identity.clock import Chance, Clock, chance, utc_now
from agent.identity.credential import Credential, InvalidCredential
from agent.identity.crl import CertificateRevoked, Revocations
from agent.identity.csr import make_csr
from agent.identity.distrust import Distrust
from agent.identity.key import PrivateKey
from agent.identity.schedule import CertificateStatus, Schedule
from agent.identity.source import CertificateSource, IdentityUnavailable
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.trust import Trust, require_trust_of
from agent.log import logger
from agent.recovery import LIMIT_SECONDS, Recovery


@dataclass(frozen=True, slots=True)
class Settings:
    """How patient the renewer is."""

    request_deadline: timedelta = timedelta(seconds=LIMIT_SECONDS)
    clock_check: timedelta = timedelta(seconds=5)
    """How soon a jump of the wall clock is noticed, which no sleep is told of."""


async def generate_key() -> PrivateKey:
    """A new key, made in a thread: elliptic curves would hold up the loop."""
    return await trio.to_thread.run_sync(PrivateKey.generate)


class Renewer:
    """
    Keeps certificates current; `run` is its task.

    `publish` gets every new credential, `publish_trust` every changed trust, and the
    trust first. Both are called in the trio thread and must not raise.
    """

    def __init__(
        self,
        source: CertificateSource,
        trust_domain: TrustDomain,
        publish: Callable[[Credential], None],
        publish_trust: Callable[[Trust], None],
        *,
        settings: Settings | None = None,
        clock: Clock = utc_now,
        random: Chance = chance,
        new_key: Callable[[], Awaitable[PrivateKey]] = generate_key,
    ) -> None:
        self._source = source
        self._trust_domain = trust_domain
        self._publish = publish
        self._publish_trust = publish_trust
        self._settings = settings or Settings()
        self._clock = clock
        self._random = random
        self._new_key = new_key
        self._schedule = Schedule()
        self.on_taken: Callable[[SpiffeId, str], None] = lambda _who, _why: None
        """Hears of a certificate that must not be presented any more."""
        self._trust: Trust | None = None
        self._revocations = Revocations()
        self._changed = trio.Event()
        self._log = logger(part="identity")

    def set_wanted(self, identities: Iterable[SpiffeId]) -> None:
        """Replace the identities to keep; new ones are asked for at once."""
        self._schedule.set_wanted(identities, self._clock())
        self._changed.set()

    def revoke(self, revocations: Revocations) -> None:
        """These lists are in force from now on; what they name is replaced at once."""
        self._revocations = revocations
        self._reassess()

    def heard(self, given: Mapping[SpiffeId, int]) -> None:
        """
        What a source that hands certificates out has now: serial numbers by identity.

        What is new is asked for at once. What it took back is used no more (SPIFFE
        Workload API section 5.2.1).
        """
        now, held = self._clock(), self._schedule.credentials()
        self._schedule.resume(now)
        for identity in held.keys() - given.keys():
            reason = "its source took the certificate back"
            if self._schedule.take_away(identity, reason, now):
                self._log.warning("certificate taken back", identity=str(identity))
                self.on_taken(identity, reason)
        for identity, serial in given.items():
            before = held.get(identity)
            if before is None or before.svid.serial != serial:
                self._schedule.hurry(identity, now)
        self._changed.set()

    def report(self) -> list[CertificateStatus]:
        """Where every wanted identity stands now."""
        return self._schedule.report(self._clock())

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep certificates current until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_trust)
            task_status.started()
            while True:
                self._changed = trio.Event()
                self._tell_expired()
                for identity in self._schedule.start(self._clock()):
                    nursery.start_soon(self._renew, identity)
                await self._wait_for_change()

    async def _wait_for_change(self) -> None:
        now = self._clock()
        event = self._schedule.next_event(now)
        longest = self._settings.clock_check
        pause = longest if event is None else min(event - now, longest)
        with trio.move_on_after(max(0.0, pause.total_seconds())):
            await self._changed.wait()

    def _tell_expired(self) -> None:
        for svid in self._schedule.newly_expired(self._clock()):
            self._log.error(
                "certificate expired",
                identity=str(svid.spiffe_id),
                not_after=svid.not_after.isoformat(),
            )

    async def _renew(self, identity: SpiffeId) -> None:
        try:
            with trio.fail_after(self._settings.request_deadline.total_seconds()):
                credential, trust = await self._obtain(identity)
        except trio.TooSlowError:
            text = f"no answer in {self._settings.request_deadline}"
            self._failed(identity, text, answered=False)
        except IdentityUnavailable as error:
            self._failed(identity, str(error), answered=False)
        except PodlockError as error:
            self._failed(identity, str(error))
        else:
            # An answer may have waited while the stream told of something newer.
            if self._trust is None or trust.version > self._trust.version:
                self._accept_trust(trust)
            self._obtained(identity, credential, trust)
        finally:
            self._changed.set()  # a slot is free

    async def _obtain(self, identity: SpiffeId) -> tuple[Credential, Trust]:
        key = await self._new_key()
        signed = await self._source.sign(make_csr(identity, key))
        credential = Credential.assemble(signed.chain_pem, signed.key or key)
        require_identity(credential.svid, identity)
        require_trust_of(signed.trust, self._trust_domain)
        if signed.trust.bundle.anchor_of(credential.chain_der) is None:
            raise InvalidCredential(
                f"{identity}: the chain ends in no anchor of the bundle it came with"
            )
        return credential, signed.trust

    def _obtained(
        self, identity: SpiffeId, credential: Credential, came_with: Trust
    ) -> None:
        """Judge it by what holds now: it may have been signed before that."""
        assert self._trust is not None
        chain = Chain.of_credential(credential, came_with.bundle)
        try:
            Distrust(self._trust.tainted, self._revocations).require_good(chain)
        except (CertificateTainted, CertificateRevoked) as error:
            self._failed(identity, f"what came is of no use: {error}")
            return
        if not self._succeeded(identity, credential):
            return
        # An answer that is older than a retirement; newer ones would loop.
        is_late = came_with.version < self._trust.version
        if is_late and not self._trust.retiring.isdisjoint(chain.authorities):
            self._replace_soon(identity)

    def _succeeded(self, identity: SpiffeId, credential: Credential) -> bool:
        """False if nobody wants it any more."""
        now = self._clock()
        if not self._schedule.succeeded(identity, credential, now, self._random()):
            return False
        self._log.info(
            "certificate obtained",
            identity=str(identity),
            serial=f"{credential.svid.serial:x}",
            not_after=credential.svid.not_after.isoformat(),
        )
        self._publish(credential)
        return True

    def _failed(self, identity: SpiffeId, error: str, *, answered: bool = True) -> None:
        now, jitter = self._clock(), self._random()
        again = self._schedule.failed(identity, error, now, jitter, answered=answered)
        self._log.warning(
            "certificate not obtained",
            identity=str(identity),
            error=error,
            next_try=again.isoformat() if again else None,
        )

    async def _follow_trust(self) -> None:
        recovery = Recovery()
        while True:
            recovery.asked(trio.current_time())
            try:
                async with aclosing(self._source.watch()) as changes:
                    with trio.fail_after(
                        self._settings.request_deadline.total_seconds()
                    ):
                        self._hear_trust(await anext(changes), recovery)
                    async for trust in changes:
                        self._hear_trust(trust, recovery)
            except StopAsyncIteration:
                pass
            except trio.TooSlowError:
                text = f"no answer in {self._settings.request_deadline}"
                self._log.warning("trust not followed", error=text)
            except PodlockError as error:
                self._log.warning("trust not followed", error=str(error))
            now = trio.current_time()
            recovery.unanswered(now, self._random())
            await trio.sleep(recovery.wait(now))

    def _hear_trust(self, trust: Trust, recovery: Recovery) -> None:
        require_trust_of(trust, self._trust_domain)
        recovery.answered(trio.current_time())
        self._schedule.resume(self._clock())
        self._accept_trust(trust)
        self._changed.set()

    def _accept_trust(self, trust: Trust) -> None:
        if trust == self._trust:
            return
        self._trust = trust
        self._log.info(
            "trust changed",
            version=trust.version,
            anchors=[anchor.fingerprint for anchor in trust.bundle.anchors],
            tainted=sorted(trust.tainted),
        )
        self._publish_trust(trust)
        self._reassess()

    def _reassess(self) -> None:
        """Replace what does not count any more, and what soon will not."""
        if self._trust is None:
            return
        distrust = Distrust(self._trust.tainted, self._revocations)
        for identity, credential in self._schedule.credentials().items():
            chain = Chain.of_credential(credential, self._trust.bundle)
            try:
                distrust.require_good(chain)
            except (CertificateTainted, CertificateRevoked) as error:
                self._withdraw(identity, str(error))
                continue
            if chain.anchor is None:
                self._withdraw(identity, "its anchor has left the bundle")
            elif not self._trust.retiring.isdisjoint(chain.authorities):
                self._replace_soon(identity)
        self._changed.set()

    def _withdraw(self, identity: SpiffeId, reason: str) -> None:
        self._schedule.withdraw(identity, reason, self._clock(), self._random())
        self._log.warning(
            "certificate withdrawn", identity=str(identity), reason=reason
        )

    def _replace_soon(self, identity: SpiffeId) -> None:
        self._schedule.replace(identity, self._clock(), self._random())
