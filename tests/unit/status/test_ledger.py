"""The ledger knows what is open and how the rest ended, within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from agent.status.documents import iso
from agent.status.ledger import ConnectionLedger, ConnectionMessage
from agent.workload.connection import ConnectionChanged, TrafficCounted

from .samples import ANCHOR, ISSUER, NOW, closed, opened, refused


class TestUnknown:
    def test_messages_about_a_stranger_are_counted(self) -> None:
        """What cannot be matched is neither lost from sight nor fatal."""
        ledger = ConnectionLedger()

        ledger.apply(closed("9"))
        ledger.apply(TrafficCounted(id="9", sent_bytes=1, received_bytes=1))
        ledger.apply(ConnectionChanged(id="9", state="draining"))

        assert ledger.counts()["unmatched"] == 3
        assert ledger.document()["recent"] == []

    def test_an_id_that_opens_twice(self) -> None:
        """The later connection is the one that is open; the oddity is counted."""
        ledger = ConnectionLedger()

        ledger.apply(opened(worker=0))
        ledger.apply(opened(worker=1))

        assert ledger.counts()["open"] == 1
        assert ledger.counts()["unmatched"] == 1
        assert ledger.document()["open"][0]["worker"] == 1


class TestLife:
    def test_open_count_close(self) -> None:
        """A connection's traffic and state are current while it lives."""
        ledger = ConnectionLedger()
        ledger.apply(opened())
        ledger.apply(TrafficCounted(id="0-1", sent_bytes=5, received_bytes=6))
        ledger.apply(ConnectionChanged(id="0-1", state="half-closed"))

        (live,) = ledger.document()["open"]
        assert (live["sent_bytes"], live["received_bytes"]) == (5, 6)
        assert (live["state"], live["outcome"]) == ("half-closed", "open")

        ledger.apply(ConnectionChanged(id="0-1", rule="Server a/b", audit="Server a/b"))
        (live,) = ledger.document()["open"]
        assert (live["rule"], live["audit"]) == ("Server a/b", "Server a/b")
        assert live["state"] == "half-closed"

        ledger.apply(closed())
        (ended,) = ledger.document()["recent"]
        assert ledger.document()["open"] == []
        assert (ended["outcome"], ended["received_bytes"]) == ("closed", 2048)
        assert ended["closed"] == "2026-01-02T03:04:05.678Z"

    def test_a_refusal_keeps_its_reason(self) -> None:
        """One message is a whole record: who, where to, why not, which rule."""
        ledger = ConnectionLedger()
        ledger.apply(refused())

        (record,) = ledger.document()["recent"]
        assert (record["outcome"], record["reason"]) == ("refused", "no identity")
        assert record["rule"] == "Server shop/api"
        assert record["opened"] is None

    def test_a_lost_worker_takes_only_its_own(self) -> None:
        """The connections of a dead worker have failed, the others are open."""
        ledger = ConnectionLedger()
        ledger.apply(opened("0-1", worker=0))
        ledger.apply(opened("1-1", worker=1))

        assert ledger.worker_lost(0, NOW) == 1

        assert (ledger.open_count(0), ledger.open_count(1)) == (0, 1)
        assert ledger.open_count() == 1
        assert ledger.document()["recent"][0]["reason"] == "proxy worker 0 ended"

    def test_a_document_is_a_copy(self) -> None:
        """What was handed out does not change under its reader."""
        ledger = ConnectionLedger()
        ledger.apply(opened())
        document = ledger.document()

        ledger.apply(TrafficCounted(id="0-1", sent_bytes=5, received_bytes=6))

        assert document["open"][0]["sent_bytes"] == 0


class TestBounds:
    def test_recent_is_bounded(self) -> None:
        """The oldest make room, and the counts remember them."""
        ledger = ConnectionLedger(recent_limit=2)
        for number in range(5):
            ledger.apply(refused(str(number)))

        assert [each["id"] for each in ledger.document()["recent"]] == ["3", "4"]
        assert ledger.counts()["refused"] == 5
        assert ledger.counts()["dropped"] == 3

    @given(
        st.lists(
            st.sampled_from("abc").flatmap(
                lambda id: st.sampled_from([opened(id), closed(id), refused(id)])
            )
        )
    )
    def test_the_counts_add_up(self, messages: list[ConnectionMessage]) -> None:
        """Whatever the order, each message is in exactly one place."""
        ledger = ConnectionLedger(recent_limit=3)
        for message in messages:
            ledger.apply(message)

        counts = ledger.counts()
        ended = counts["closed"] + counts["refused"] + counts["failed"]
        kept = len(ledger.document()["recent"])
        assert ended == kept + counts["dropped"]
        # A close ends what an open began, so it is no place of its own.
        begun = len(messages) - counts["closed"]
        assert counts["open"] + ended + counts["unmatched"] == begun
        assert kept <= 3


class TestAuthorities:
    def test_counts_open_connections_by_what_the_peer_stands_on(self) -> None:
        """How many, and since when; those that ended or have no peer do not count."""
        ledger = ConnectionLedger()
        for name, seconds in (("1", 30), ("2", 60), ("3", 90)):
            ledger.apply(structs.replace(opened(name), opened=NOW - seconds))
        ledger.apply(structs.replace(opened("4"), peer=None))
        ledger.apply(closed("3"))

        assert ledger.by_authority() == {(ANCHOR, ISSUER): (2, iso(NOW - 60))}
