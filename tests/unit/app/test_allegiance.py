"""What a node does with trust and revocation lists, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from agent.app.allegiance import what_unsigned_means
from agent.app.control import Control
from agent.app.outbox import Outbox
from agent.app.reporter import ControlReporter
from agent.identity.authority import Authority, create_issuer
from agent.identity.bundle import Bundle
from agent.identity.crl import RevocationList
from agent.identity.crl_files import CrlNews
from agent.identity.rotation import CertificateState
from agent.identity.schedule import CertificateStatus
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.trust import Trust
from agent.kube.manifests import Change
from agent.kube.offline import read_documents
from agent.proxy import instructions
from agent.workload.connection import TrustInstalled
from tests.unit.app.test_control import TD, Bench, pod
from tests.unit.authz.samples import policy, shop
from tests.unit.identity.crls import crl
from tests.unit.identity.parts import anchor_at, credential_for

NOW = datetime.now(UTC)
ANCHOR = anchor_at(NOW)
ISSUER = create_issuer(TD, ANCHOR, now=NOW, serial=0xB)
BUNDLE = Bundle.parse(TD, ANCHOR.certificate_pem)
AUTHORITY = Authority.assemble(BUNDLE, ISSUER.certificate_pem, ISSUER.key)
WEB = SpiffeId.for_workload(TD, "shop", "web")
STRANGER = anchor_at(td=TrustDomain("stranger.example"))
CURRENT = RevocationList.parse(crl(ISSUER, 1, 2, now=NOW))
LATE = RevocationList.parse(
    crl(ISSUER, 3, now=NOW - timedelta(days=9), lifetime=timedelta(days=1))
)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.enrolment.close()


def events(control: Control) -> list[tuple[str, str]]:
    told = control.events.document()["events"]
    return [(each["kind"], each["message"]) for each in told]


def installed(control: Control, *versions: int | None) -> None:
    """Each worker runs, and has said what it has in force."""
    for slot, version in zip(control.workers.slots, versions, strict=True):
        slot.outbox = Outbox()
        if version is not None:
            control._hear(slot, TrustInstalled(version=version))


class TestLists:
    def test_reach_every_worker(self, bench: Bench) -> None:
        """Those that run, and those that start later, before any pod."""
        bench.adopt(pod("web", "10.0.0.1"))
        bench.control.allegiance.adopt_crls(CrlNews((CURRENT,)))
        expected = instructions.RevocationsUpdated((CURRENT.der,))
        assert bench.told[-1] == expected
        state = [message for message, _ in bench.control._state()]
        assert state[0] == expected
        assert ("crl", "1 revocation lists name 2 certificates") in events(
            bench.control
        )

    def test_a_fault_is_told_once(self, bench: Bench) -> None:
        """And stands in the status for as long as it lasts; no worker hears of it."""
        news = CrlNews((), {"/etc/crl": "cannot be read"})
        bench.control.allegiance.adopt_crls(news)
        bench.control.allegiance.adopt_crls(news)
        assert events(bench.control) == [("problem", "cannot be read")]
        assert bench.told == []
        (problem,) = ControlReporter(bench.control)._problems()
        assert (problem["object"], problem["message"]) == ("/etc/crl", "cannot be read")

    def test_an_outdated_one_is_told_once(self, bench: Bench) -> None:
        """It stays in force, and the status says what that means."""
        bench.control.allegiance.adopt_crls(CrlNews((LATE, CURRENT)))
        bench.control.allegiance.tell_outdated()
        told = [text for kind, text in events(bench.control) if kind == "crl-outdated"]
        assert len(told) == 1
        assert "expected a newer one" in told[0]
        (problem,) = ControlReporter(bench.control)._problems()
        assert (problem["object"], problem["field"]) == (LATE.issuer, "nextUpdate")
        lists = ControlReporter(bench.control)._certificates()["revocation_lists"]
        assert [each["outdated"] for each in lists] == [True, False]


class TestListsOfUnknownAuthorities:
    def test_are_reported_as_having_no_effect(self, bench: Bench) -> None:
        """Counted apart, and named with what is known instead."""
        control = bench.control
        control.allegiance.adopt(Trust(5, BUNDLE))
        stranger = RevocationList.parse(crl(STRANGER, 1, 2, now=NOW))
        forged = RevocationList.parse(crl(ISSUER, 3, now=NOW, key=STRANGER.key.load()))
        bench.adopt(pod("web", "10.0.0.1"))
        control.allegiance.install(credential_for(AUTHORITY, WEB, NOW))
        control.allegiance.adopt_crls(CrlNews((CURRENT, stranger, forged)))
        said = {each["message"] for each in ControlReporter(control)._problems()}
        assert len(said) == 2
        assert any("names 2 certificates, none of ours" in each for each in said)
        assert any("names 1 certificates, none of ours" in each for each in said)
        assert all("not that of the authority of this name" in each for each in said)
        unknown = what_unsigned_means(stranger, [])
        assert "no authority of this name is known here" in unknown
        (text,) = [text for kind, text in events(control) if kind == "crl"]
        assert text.endswith("; 2 of these are of no authority known here")


class TestCertificates:
    def test_the_same_one_again_is_no_news(self, bench: Bench) -> None:
        bench.adopt(pod("web", "10.0.0.1"))
        one = credential_for(AUTHORITY, WEB, NOW)
        bench.control.allegiance.install(one)
        bench.told.clear()
        bench.control.allegiance.install(one)
        assert bench.told == []
        bench.control.allegiance.install(credential_for(AUTHORITY, WEB, NOW))
        kinds = [kind for kind, _ in events(bench.control)]
        assert (kinds.count("issued"), kinds.count("renewed")) == (1, 1)

    def test_one_that_ends_and_is_not_renewed_is_a_problem(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        svid = credential_for(AUTHORITY, WEB, NOW).svid
        due = CertificateStatus(
            WEB, CertificateState.DUE, svid, NOW, "connection refused", NOW, NOW
        )
        renewer = bench.control.allegiance.renewer
        monkeypatch.setattr(type(renewer), "report", lambda _self: [due])
        (problem,) = ControlReporter(bench.control)._problems()
        assert (problem["object"], problem["field"]) == (str(WEB), "certificate")
        assert "is not renewed: connection refused" in problem["message"]


class TestTrust:
    def test_is_in_force_when_every_worker_says_so(self, bench: Bench) -> None:
        """The slowest one counts; one that has just started has none."""
        control = bench.control
        assert control.workers.trust_version == 0
        control.allegiance.adopt(Trust(5, BUNDLE))
        installed(control, 5, 4)
        assert control.workers.trust_version == 4
        installed(control, 5, 5)
        assert control.workers.trust_version == 5
        control.workers.slots[1].trust_version = None
        assert control.workers.trust_version == 0

    def test_no_report_before_that(self, bench: Bench) -> None:
        """The authority must not take a node for further than it is."""
        control = bench.control
        control.allegiance.adopt(Trust(5, BUNDLE))
        assert control.allegiance.report() is None
        installed(control, 5, None)
        assert control.allegiance.report() is None
        installed(control, 5, 5)
        report = control.allegiance.report()
        assert report is not None
        assert (report.node, report.version) == ("n1", 5)

    def test_the_status_says_how_far_it_has_got(self, bench: Bench) -> None:
        """Version here, at each worker and at the authority; what is on its way out."""
        control = bench.control
        (anchor,) = BUNDLE.anchors
        names = frozenset({anchor.fingerprint})
        control.allegiance.adopt(Trust(5, BUNDLE, retiring=names))
        control.allegiance.install(credential_for(AUTHORITY, WEB, NOW))
        installed(control, 5, 4)
        control.allegiance.reports.acknowledged = 3
        told = ControlReporter(control)._certificates()
        assert told["trust"] == {
            "version": 5,
            "workers": [{"worker": 0, "version": 5}, {"worker": 1, "version": 4}],
            "acknowledged": 3,
            "error": None,
            "retiring": [anchor.fingerprint],
            "tainted": [],
        }
        assert told["bundle"][0]["state"] == "retiring"
        assert control.allegiance.chains[WEB].anchor == anchor.fingerprint
        control.allegiance.adopt(Trust(6, BUNDLE, tainted=names, retiring=names))
        told = ControlReporter(control)._certificates()
        assert told["bundle"][0]["state"] == "tainted"


class TestFederatedDomains:
    """Of the identity service: names of theirs are names that a client can have."""

    PARTNER = TrustDomain("partner.example")
    THEIRS = Bundle.parse(PARTNER, anchor_at(NOW, td=PARTNER).certificate_pem)

    def adopt(self, bench: Bench) -> None:
        documents = [
            *shop(),
            policy(
                "MeshTLSAuthentication",
                "shop/partner",
                identities=["spiffe://partner.example/ns/shop/sa/web"],
            ),
            {
                "apiVersion": "security.istio.io/v1",
                "kind": "AuthorizationPolicy",
                "metadata": {"name": "partner", "namespace": "shop"},
                "spec": {
                    "rules": [
                        {"from": [{"source": {"principals": ["partner.example/vm/1"]}}]}
                    ]
                },
            },
        ]
        objects = read_documents(("test", document) for document in documents)
        bench.control.adopt(Change(objects, (), True))

    def test_warnings_go_and_come(self, bench: Bench) -> None:
        """In the status and in what is written into policies, with the trust."""
        self.adopt(bench)
        control = bench.control
        titles = {problem.object for problem in bench.announced.policies}
        assert titles == {
            "MeshTLSAuthentication shop/partner",
            "Istio AuthorizationPolicy shop/partner",
        }
        assert titles <= {problem.object for problem in control.problems}

        control.allegiance.adopt(Trust(5, BUNDLE, federated=(self.THEIRS,)))
        assert bench.announced.policies == []
        assert not titles & {problem.object for problem in control.problems}
        self.adopt(bench)
        assert bench.announced.policies == []

        control.allegiance.adopt(Trust(6, BUNDLE))
        assert len(bench.announced.policies) == 2

    def test_before_any_object(self, bench: Bench) -> None:
        """The trust may come first."""
        bench.control.allegiance.adopt(Trust(5, BUNDLE, federated=(self.THEIRS,)))
        self.adopt(bench)
        assert bench.announced.policies == []

    async def test_commands_know_them(self, bench: Bench) -> None:
        """`authz` warns by the domains that the agent knows."""
        bench.control.allegiance.adopt(Trust(5, BUNDLE, federated=(self.THEIRS,)))
        told = await ControlReporter(bench.control).document("objects")
        assert told["setting"]["federated"] == ["partner.example"]
        assert told["setting"]["only_pods"] is True
