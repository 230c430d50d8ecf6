"""What an operator does is one change, and refuses what would break something."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.identity import operations
from agent.identity.authority import CaPair, create_issuer
from agent.identity.bundle import Bundle
from agent.identity.certificate import fingerprint
from agent.identity.dependence import Why
from agent.identity.issuer_files import IssuerFiles
from agent.identity.issuer_path import InvalidAuthority
from agent.identity.key import PrivateKey
from agent.identity.nodes import NodeRecords
from agent.identity.operations import FEDERATED_WAIT, StillNeeded
from agent.identity.pem import CERTIFICATE, format_blocks
from agent.identity.report import PeerTrust, Presented, TrustReport
from agent.identity.spiffe import TrustDomain
from agent.identity.state import AuthorityRefused
from agent.identity.store import Store
from tests.unit.identity.parts import (
    API,
    NOW,
    TD,
    anchor_at,
    authority_under,
    ders,
    make_authority,
    signed_elsewhere,
)

DAY = timedelta(days=1)
OFFLINE = anchor_at()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "ca")
    operations.initialize(made, TD, NOW)
    return made


def report(store: Store, node: str = "n1", at: datetime = NOW, **facts: Any) -> None:
    """A node tells that it has the version in force, or what `facts` say."""
    told = {"version": store.load().version, **facts}
    records = NodeRecords(store.directory)
    records.heard(records.load(), TrustReport(node, **told), at)


def signing(store: Store) -> str:
    anchor = store.load().signing_anchor
    assert anchor is not None
    return anchor.fingerprint


def issuer(store: Store) -> str:
    return fingerprint(store.load().issuer or b"")


class TestRotation:
    def test_an_anchor_is_replaced_step_by_step(self, store: Store) -> None:
        """Each step waits until the nodes have taken over the one before."""
        old = signing(store)
        report(store, version=2)
        new = operations.add_anchor(store, None, NOW).fingerprint
        with pytest.raises(StillNeeded, match="n1: has version 2 of the trust, not 3"):
            operations.promote_anchor(store, new, NOW, DAY)
        assert signing(store) == old

        report(store)
        operations.promote_anchor(store, new, NOW, DAY)
        assert signing(store) == new

        held = Presented(API, old, "b" * 64, 1, NOW + DAY, NOW)
        peer = PeerTrust(old, "b" * 64, 3, NOW)
        report(store, identities=(held,), peers=(peer,))
        with pytest.raises(StillNeeded) as caught:
            operations.retire_anchor(store, old, NOW, DAY)
        assert [need.why for need in caught.value.needs] == [Why.PRESENTED]
        assert str(API) in str(caught.value)

        report(store, peers=(peer,))
        assert operations.retire_anchor(store, old, NOW, DAY)[1] == ()
        assert [a.fingerprint for a in store.load().bundle.anchors] == [new]

    def test_foreign_domains_are_waited_for(self, store: Store) -> None:
        """Who reads our bundle by its refresh hint has the anchor before it signs."""
        domain = TrustDomain("partner.example")
        operations.federate(store, (make_authority(td=domain).bundle,), NOW)
        new = operations.add_anchor(store, None, NOW).fingerprint
        report(store)
        soon, later = NOW + FEDERATED_WAIT / 2, NOW + FEDERATED_WAIT
        with pytest.raises(StillNeeded, match=r"partner\.example: may not have") as no:
            operations.promote_anchor(store, new, soon, DAY)
        assert [need.why for need in no.value.needs] == [Why.NOT_FETCHED]
        operations.promote_anchor(store, new, later, DAY)
        assert signing(store) == new

    def test_foreign_domains_are_not_waited_for_by_force(self, store: Store) -> None:
        domain = TrustDomain("partner.example")
        operations.federate(store, (make_authority(td=domain).bundle,), NOW)
        new = operations.add_anchor(store, None, NOW).fingerprint
        report(store)
        operations.promote_anchor(store, new, NOW, DAY, force=True)
        assert signing(store) == new

    def test_force_tells_what_it_breaks(self, store: Store) -> None:
        """The same list, afterwards."""
        old = signing(store)
        new = operations.add_anchor(store, None, NOW).fingerprint
        report(store, version=1)
        operations.promote_anchor(store, new, NOW, DAY, force=True)
        _, broke = operations.retire_anchor(store, old, NOW, DAY, force=True)
        assert [need.why for need in broke] == [Why.NOT_ACKNOWLEDGED]

    def test_keys_that_nothing_needs_are_removed(self, store: Store) -> None:
        """An old issuer's key is worth nothing to us and much to a thief."""
        operations.rotate_issuer(store, NOW)
        operations.rotate_issuer(store, NOW)
        assert len(list((store.directory / "keys").iterdir())) == 2


class TestOffline:
    """The anchor's key never comes here."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        made = Store(tmp_path / "ca")
        operations.initialize_under(made, TD, OFFLINE.certificate_pem)
        return made

    def test_an_issuer_is_signed_elsewhere(self, store: Store) -> None:
        """Request out, certificate in; the key was made here and stays."""
        with pytest.raises(AuthorityRefused, match=r"key is not here.*--csr"):
            operations.rotate_issuer(store, NOW)
        request = operations.request_new_issuer(store)
        assert operations.request_new_issuer(store) == request
        operations.install_issuer(store, signed_elsewhere(request, OFFLINE), NOW, DAY)
        state = store.load()
        assert (state.issuer is not None, state.request_pem) == (True, None)
        assert store.key_for(state.issuer or b"") is not None

    def test_another_certificate_is_not_installed(self, store: Store) -> None:
        """One whose key is not here could sign nothing."""
        operations.request_new_issuer(store)
        other = authority_under(OFFLINE).chain_pem
        with pytest.raises(AuthorityRefused, match="its key is not here"):
            operations.install_issuer(store, other, NOW, DAY)

    def test_an_offline_anchor_is_promoted_by_its_issuer(self, store: Store) -> None:
        """As with keys: not before every node trusts it."""
        request = operations.request_new_issuer(store)
        operations.install_issuer(store, signed_elsewhere(request, OFFLINE), NOW, DAY)
        report(store)
        second = anchor_at(serial=0xA2)
        operations.add_anchor(store, second.certificate_pem, NOW)
        request = operations.request_new_issuer(store)
        chain = signed_elsewhere(request, second)
        with pytest.raises(StillNeeded, match="not trusted everywhere yet"):
            operations.install_issuer(store, chain, NOW, DAY)
        report(store)
        operations.install_issuer(store, chain, NOW, DAY)
        assert signing(store) == fingerprint(ders(second.certificate_pem)[0])


class TestTaint:
    def test_a_leaked_issuer_is_replaced_in_the_same_step(self, store: Store) -> None:
        """Nobody hears of the taint without what comes instead."""
        leaked, version = issuer(store), store.load().version
        operations.taint(store, leaked[:10], NOW)
        state = store.load()
        assert state.trust.tainted == {leaked}
        assert issuer(store) != leaked
        assert state.version > version

    def test_a_leaked_anchor_gives_way_to_another(self, store: Store) -> None:
        """Whose key is here; without one it is refused, with what to do."""
        leaked = signing(store)
        with pytest.raises(AuthorityRefused, match="add an anchor first"):
            operations.taint(store, leaked, NOW)
        assert store.load().trust.tainted == frozenset()
        other = operations.add_anchor(store, None, NOW).fingerprint
        operations.taint(store, leaked, NOW)
        assert signing(store) == other
        assert len(list((store.directory / "keys").iterdir())) == 2

    def test_force_leaves_nothing_that_signs(self, store: Store) -> None:
        """Closed: until an issuer is installed no certificate is made."""
        operations.taint(store, signing(store), NOW, force=True)
        assert store.load().issuer_pem is None

    def test_an_old_issuer_is_tainted_by_its_certificate(self, store: Store) -> None:
        """It is in no list of ours any more; a leaf cannot be tainted."""
        old = authority_under(OFFLINE).chain_pem
        mark = operations.taint_certificate(store, old, NOW)
        assert store.load().trust.tainted == {mark.fingerprint}
        current = store.load().issuer_pem or b""
        with pytest.raises(AuthorityRefused, match="by its fingerprint"):
            operations.taint_certificate(store, current, NOW)


def test_mounted_files_must_fit(store: Store) -> None:
    """A key of another certificate is refused; the right one is not copied."""
    anchor = store.load().roots[0].anchor
    key = store.key_for(anchor.der)
    assert key is not None
    pair = CaPair(format_blocks([anchor.der], CERTIFICATE), key)
    made = create_issuer(TD, pair, now=NOW, serial=99)
    wrong = IssuerFiles(
        Path("tls.crt"), made.certificate_pem, PrivateKey.generate(), None
    )
    before = store.load()
    with pytest.raises(InvalidAuthority, match="do not belong together"):
        operations.adopt_issuer(store, wrong, NOW, DAY)
    assert store.load() == before
    right = IssuerFiles(Path("tls.crt"), made.certificate_pem, made.key, None)
    state = operations.adopt_issuer(store, right, NOW, DAY)
    assert operations.adopt_issuer(store, right, NOW, DAY) == state
    assert store.key_for(state.issuer or b"") is None


class TestFederation:
    def test_a_change_is_one_version(self, store: Store) -> None:
        """It survives the file; the same again is no change."""
        partner = TrustDomain("partner.example")
        bundle = Bundle.parse(partner, anchor_at(td=partner).certificate_pem)
        before = store.load()
        operations.federate(store, (bundle,), NOW)
        operations.federate(store, (bundle,), NOW)

        assert store.load().trust.federated == (bundle,)
        assert store.load().version == before.version + 1
        operations.federate(store, (), NOW)
        assert store.load().trust.federated == ()
