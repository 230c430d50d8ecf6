"""
Whom this node trusts and as whom it speaks: trust, certificates, revocation lists.

The renewer and the files bring news; each change is one synchronous step that tells
the workers. What they say to have in force is what the authority hears.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from cryptography import x509

from agent.app.tracer import Note
from agent.app.trust_reports import Peers, TrustReports, trust_report
from agent.app.workers import Workers
from agent.config import Config
from agent.dependencies import Dependencies
from agent.identity import certificate
from agent.identity.chain import Chain
from agent.identity.clock import Clock, utc_now
from agent.identity.credential import Credential
from agent.identity.crl import RevocationList, Revocations
from agent.identity.crl_files import CrlNews
from agent.identity.renewer import Renewer
from agent.identity.report import TrustReport
from agent.identity.rotation import CertificateState
from agent.identity.source import CertificateSource
from agent.identity.spiffe import SpiffeId
from agent.identity.trust import Trust
from agent.identity.workload_api import WorkloadApi
from agent.proxy import instructions

CRL: Final = "revocation list"


def _nothing(*_: object) -> None:
    """Nothing depends on it."""


class Allegiance:
    """
    The state of it, and the steps that change it.

    `peers` gives the open connections by what the peers' certificates stand on
    (`ConnectionLedger.by_authority`); `note` tells an event.
    """

    def __init__(
        self,
        config: Config,
        source: CertificateSource,
        workers: Workers,
        peers: Callable[[], Peers],
        note: Note,
        clock: Clock = utc_now,
        dependencies: Dependencies | None = None,
    ) -> None:
        self.trust: Trust | None = None
        self.crls = CrlNews()
        self.renewer = Renewer(source, config.trust_domain, self.install, self.adopt)
        self.reports = TrustReports(source, self.report)
        self.renewer.on_taken = self.retract
        if isinstance(source, WorkloadApi):
            source.on_news = self.renewer.heard
        self._config = config
        self._workers = workers
        self._peers = peers
        self._note = note
        self._clock = clock
        self._dependencies = dependencies or Dependencies()
        self._credentials: dict[SpiffeId, Credential] = {}
        self.on_trust: Callable[[], None] = _nothing
        self.on_issued: Callable[[SpiffeId], None] = _nothing
        self._revocations = Revocations()
        self._told_outdated: set[RevocationList] = set()

    def want(self, identities: AbstractSet[SpiffeId]) -> None:
        """These and no others speak from here; the keys of others are forgotten."""
        self.renewer.set_wanted(identities)
        for identity in self._credentials.keys() - identities:
            del self._credentials[identity]
            self._workers.broadcast(instructions.IdentityForgotten(identity))

    def has(self, identity: SpiffeId) -> bool:
        """Whether there is a certificate for it, and its time has not passed."""
        credential = self._credentials.get(identity)
        return credential is not None and self._clock() <= credential.svid.not_after

    def told(self) -> Iterator[instructions.Instruction]:
        """What a new worker must know before any pod."""
        if self.trust is not None:
            yield instructions.TrustUpdated(self.trust)
        if self.crls.lists:
            yield self._revoked()
        for credential in self._credentials.values():
            yield instructions.CredentialIssued(credential)

    # News.

    def adopt(self, trust: Trust) -> None:
        """Peers and ourselves are judged by this from now on."""
        self.trust = trust
        self._workers.broadcast(instructions.TrustUpdated(trust))
        anchors, tainted = len(trust.bundle.anchors), len(trust.tainted)
        text = f"version {trust.version}: {anchors} trust anchors, {tainted} tainted"
        self._note("trust", str(self._config.trust_domain), text)
        self.on_trust()

    def install(self, credential: Credential) -> None:
        """New handshakes present this from now on."""
        identity = credential.svid.spiffe_id
        before = self._credentials.get(identity)
        if (
            before is not None
            and before.svid.fingerprint == credential.svid.fingerprint
        ):
            return  # a SPIFFE agent gives the same one as long as it has no newer
        renewed = before is not None
        self._credentials[identity] = credential
        self._workers.broadcast(instructions.CredentialIssued(credential))
        self._note(
            "renewed" if renewed else "issued",
            str(identity),
            f"certificate {credential.svid.serial:x} "
            f"until {credential.svid.not_after:%Y-%m-%dT%H:%M:%SZ}",
        )
        self.on_issued(identity)

    def retract(self, identity: SpiffeId, reason: str) -> None:
        """This identity's certificate is presented no more; another may come."""
        if self._credentials.pop(identity, None) is not None:
            self._workers.broadcast(instructions.IdentityForgotten(identity))
            self._note("withdrawn", str(identity), reason)

    def adopt_crls(self, news: CrlNews) -> None:
        """The files of revocation lists changed: ours and peers' are judged again."""
        before, self.crls = self.crls, news
        self._report_files(before, news)
        for path, fault in news.faults.items():
            if before.faults.get(path) != fault:
                self._note("problem", path, fault)
        if news.lists != before.lists:
            self._revocations = Revocations(news.lists)
            self.renewer.revoke(self._revocations)
            self._workers.broadcast(self._revoked())
            count = sum(len(each.serials) for each in news.lists)
            text = f"{len(news.lists)} revocation lists name {count} certificates"
            if unsigned := self.unsigned:
                text += f"; {len(unsigned)} of these are of no authority known here"
            self._note("crl", str(self._config.identity.crl), text)
        self.tell_outdated()

    def _report_files(self, before: CrlNews, news: CrlNews) -> None:
        for path in before.faults.keys() - news.faults.keys():
            self._dependencies.forget(CRL, path)
        for path, fault in news.faults.items():
            self._dependencies.of(CRL, path).failed(fault)

    def tell_outdated(self) -> None:
        """Say once of each list that it is past its time; it stays in force."""
        for each in self.outdated:
            if each not in self._told_outdated:
                self._told_outdated.add(each)
                self._note("crl-outdated", each.issuer, what_outdated_means(each))

    # Questions.

    @property
    def unsigned(self) -> list[tuple[RevocationList, str]]:
        """Lists of no authority that we know, and what that means."""
        if self.trust is None or not self.crls.lists:
            return []
        bundles = (self.trust.bundle, *self.trust.federated)
        ders = {anchor.der for bundle in bundles for anchor in bundle.anchors}
        for chain in self.chains.values():
            ders |= set(chain.der[1:])
        issuers = [certificate.parse(der) for der in sorted(ders)]
        return [
            (each, what_unsigned_means(each, issuers))
            for each in self._revocations.unsigned_by(issuers)
        ]

    @property
    def not_renewed(self) -> Iterator[tuple[SpiffeId, str]]:
        """Identities whose certificate ends, and that get no other, with the reason."""
        for status in self.renewer.report():
            if status.state is CertificateState.DUE and status.last_error:
                assert status.svid is not None
                ends = f"{status.svid.not_after:%Y-%m-%dT%H:%M:%SZ}"
                text = f"its certificate ends at {ends} and is not renewed"
                yield status.identity, f"{text}: {status.last_error}"

    @property
    def outdated(self) -> list[RevocationList]:
        """Lists whose issuer has promised a newer one by now."""
        now = self._clock()
        return [each for each in self.crls.lists if each.is_outdated(now)]

    @property
    def chains(self) -> dict[SpiffeId, Chain]:
        """What each identity presents, up to the anchor that it stands on."""
        if self.trust is None:
            return {}
        bundle = self.trust.bundle
        return {
            identity: Chain.of_credential(credential, bundle)
            for identity, credential in self._credentials.items()
        }

    def report(self) -> TrustReport | None:
        """None before there is any trust that every worker has in force."""
        version = self._workers.trust_version
        if not version:
            return None
        statuses, node = self.renewer.report(), self._config.node
        return trust_report(node, version, statuses, self.chains, self._peers())

    def _revoked(self) -> instructions.RevocationsUpdated:
        ders = (each.der for each in self.crls.lists)
        return instructions.RevocationsUpdated(tuple(ders))


def what_unsigned_means(
    crl: RevocationList, issuers: Sequence[x509.Certificate]
) -> str:
    """Why a list names no certificate here, and what an operator can do."""
    names = {each.subject.rfc4514_string() for each in issuers}
    if crl.issuer in names:
        why = "its signature is not that of the authority of this name"
    else:
        known = ", ".join(sorted(names))
        why = (
            f"no authority of this name is known here, but {known}; it counts where a "
            "peer's chain has one"
        )
    count = len(crl.serials)
    return f"its revocation list names {count} certificates, none of ours: {why}"


def what_outdated_means(crl: RevocationList) -> str:
    """What an operator should know of a list that is past its time."""
    return (
        f"revocation list: nextUpdate was {crl.next_update}; expected a newer one. "
        "What it names is refused, what was revoked since is not known"
    )
