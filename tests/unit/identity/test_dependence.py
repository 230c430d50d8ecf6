"""Whether an anchor may go: what nodes said, and how long they have been silent."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agent.identity.bundle import Anchor
from agent.identity.dependence import NodeRecord, Why, lacking, present, relying
from agent.identity.report import PeerTrust, Presented, TrustReport
from agent.identity.state import AuthorityState, Root
from tests.unit.identity.parts import (
    API,
    NOW,
    TD,
    anchor_at,
    authority_under,
    certificate,
    ders,
    key_usage,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
OLD_PAIR = anchor_at()
OLD = Anchor.parse(ders(OLD_PAIR.certificate_pem)[0])
NEW_PAIR = anchor_at(serial=0xA2)
NEW = Anchor.parse(ders(NEW_PAIR.certificate_pem)[0])
STATE = AuthorityState(
    TD, 5, (Root(OLD, 1), Root(NEW, 3)), authority_under(NEW_PAIR).chain_pem
)


def record(
    version: int = 5,
    identities: tuple[Presented, ...] = (),
    peers: tuple[PeerTrust, ...] = (),
    node: str = "n1",
) -> NodeRecord:
    return NodeRecord(node, NOW, TrustReport(node, version, identities, peers))


def presented(anchor: Anchor) -> Presented:
    return Presented(API, anchor.fingerprint, "b" * 64, 1, NOW + HOUR, NOW)


def why(*records: NodeRecord, anchor: Anchor = OLD) -> list[Why]:
    return [need.why for need in relying(STATE, records, anchor, NOW)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (record(), []),
        (record(version=4), [Why.NOT_ACKNOWLEDGED]),
        (record(identities=(presented(OLD),)), [Why.PRESENTED]),
        (record(identities=(presented(NEW),)), []),
        (
            record(peers=(PeerTrust(OLD.fingerprint, "b" * 64, 2, NOW),)),
            [],
        ),
        (NodeRecord("n1", holds_until=NOW + HOUR), [Why.NEVER_REPORTED]),
    ],
)
def test_what_needs_an_anchor(given: NodeRecord, expected: list[Why]) -> None:
    """Certificates, and nodes of which we cannot know; open connections go on."""
    assert why(given) == expected


def test_an_expired_certificate_needs_nothing() -> None:
    """Its node's word is older than it."""
    late = NOW + 2 * HOUR
    needs = relying(STATE, [record(identities=(presented(OLD),))], OLD, late)
    assert needs == ()


def test_what_signs_is_needed() -> None:
    """Without a single node."""
    assert why(anchor=NEW) == [Why.SIGNING]


def test_a_silent_node_is_gone() -> None:
    """After a certificate's lifetime, as long as another one is heard."""
    silent = NodeRecord("n2", NOW - 2 * DAY, TrustReport("n2", 1))
    assert why(record(), silent) == []
    holding = NodeRecord("n2", NOW - 2 * DAY, TrustReport("n2", 1), NOW + HOUR)
    assert why(record(), holding) == [Why.NOT_ACKNOWLEDGED]


def test_a_clock_that_jumped_makes_nobody_gone() -> None:
    """When all are silent at once, it is not they who went."""
    all_of_them = [record(version=4), record(version=4, node="n2")]
    assert list(present(all_of_them, NOW + 3 * DAY, DAY)) == all_of_them
    needs = relying(STATE, all_of_them, OLD, NOW + 3 * DAY)
    assert len(needs) == 2
    # Backwards: what was heard in the future was heard.
    assert list(present(all_of_them, NOW - 3 * DAY, DAY)) == all_of_them


def test_who_does_not_know_a_new_anchor() -> None:
    """It would refuse what is signed under it."""
    root = STATE.roots[1]
    records = [record(version=2), record(version=3, node="n2")]
    assert [need.subject for need in lacking(records, root, NOW)] == ["n1"]


def test_a_renewed_anchor_stands_in_for_the_old_one() -> None:
    """One key, two certificates: what chains to the old one chains to the new."""
    key = OLD_PAIR.key.load()
    twice = [
        certificate(
            [],
            key=key,
            ca=True,
            usage=key_usage(cert_sign=True),
            roles=None,
            common_name="root",
        )
        for _ in range(2)
    ]
    one, two = map(Anchor.parse, twice)
    state = AuthorityState(TD, 5, (Root(one, 1), Root(two, 2)))
    held = record(identities=(presented(one),))
    assert relying(state, [held], one, NOW) == ()
