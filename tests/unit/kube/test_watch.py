"""The watch machine tells everything once, in order, and never goes back in time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube import watch
from agent.kube.failure import Failure, FailureKind
from agent.kube.watch import (
    Event,
    Failed,
    Key,
    Listed,
    ListRequest,
    Removed,
    Stored,
    Watch,
    WatchRequest,
)


def meta(name: str, version: object, uid: str = "") -> dict[str, Any]:
    fields = {"name": name, "namespace": "shop", "uid": uid or f"u-{name}"}
    return {"metadata": {**fields, "resourceVersion": str(version)}}


def page(version: object, *items: dict[str, Any], more: str = "") -> bytes:
    metadata = {"resourceVersion": str(version), "continue": more}
    return json.dumps({"metadata": metadata, "items": list(items)}).encode()


def line(kind: str, name: str, version: object, uid: str = "") -> bytes:
    return (
        json.dumps({"type": kind, "object": meta(name, version, uid)}).encode() + b"\n"
    )


def bookmark(version: object) -> bytes:
    told = {"metadata": {"resourceVersion": str(version)}}
    return json.dumps({"type": "BOOKMARK", "object": told}).encode() + b"\n"


def error(code: int, message: str = "gone") -> bytes:
    told = {"kind": "Status", "code": code, "message": message}
    return json.dumps({"type": "ERROR", "object": told}).encode() + b"\n"


GONE = error(410)


def listed(*items: dict[str, Any], version: int = 10) -> Watch:
    """A machine that has its list and is about to watch."""
    machine = Watch()
    machine.next_request(0.0)
    assert isinstance(machine.page(page(version, *items)), Listed)
    machine.next_request(0.0)
    return machine


def query(machine: Watch, jitter: float = 0.0) -> dict[str, str]:
    return dict(machine.next_request(jitter).query)


def told(events: list[Event]) -> list[str]:
    """Events as a person would note them: "+web 11", "-web"."""
    return [_told(event) for event in events]


def _told(event: Event) -> str:
    match event:
        case Stored(item):
            return f"+{item.key.name} {item.version}"
        case Removed(key):
            return f"-{key.name}"
        case Failed(failure):
            return failure.kind.name
        case Listed(items):
            return " ".join(sorted(item.key.name for item in items))


class TestList:
    def test_the_first_comes_from_memory(self) -> None:
        """No limit with it: an older server would go to etcd for that."""
        machine = Watch((("fieldSelector", "spec.nodeName=n1"),))
        assert machine.next_request(0.0) == ListRequest(
            (("fieldSelector", "spec.nodeName=n1"), ("resourceVersion", "0"))
        )

    def test_pages_are_one_list(self) -> None:
        """At the version of the last one, and not before it."""
        machine = Watch()
        machine.next_request(0.0)
        one = machine.page(page(10, meta("a", 1), more="next"))
        assert isinstance(one, Listed)
        assert (told([one]), one.is_first, one.is_last) == (["a"], True, False)
        assert (machine.position, machine.is_listing) == (None, True)
        assert query(machine) == {"limit": "500", "continue": "next"}
        two = machine.page(page(10, meta("b", 2)))
        assert isinstance(two, Listed)
        assert (told([two]), two.is_first, two.is_last) == (["b"], False, True)
        assert (machine.position, machine.is_listing) == (10, False)
        machine.next_request(0.0)
        for name in "ab":  # both are held: a watch from before them tells nothing new
            assert machine.receive(line("ADDED", name, 1)) == []

    def test_a_token_that_expired_begins_anew(self) -> None:
        """410 between two pages: the first again, and no page of the old list stays."""
        machine = Watch()
        machine.next_request(0.0)
        machine.page(page(10, meta("a", 1), more="next"))
        machine.failed(Failure(FailureKind.EXPIRED, "token"))
        assert query(machine) == {"limit": "500"}
        event = machine.page(page(12, meta("b", 2)))
        assert isinstance(event, Listed)
        assert (told([event]), event.is_first) == (["b"], True)

    def test_an_enormous_list_comes_in_pages(self) -> None:
        """And pages that are too large are halved, down to single objects."""
        machine = Watch()
        machine.next_request(0.0)
        limits = []
        for _ in range(11):
            machine.failed(Failure(FailureKind.OVERSIZE, "more than we take"))
            limits.append(query(machine)["limit"])
        assert limits[:3] == ["500", "250", "125"]
        assert limits[-1] == "1"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b"\xff\xfe",
            b"<html>",
            page("x"),
            page(""),
            page("1" * 40),
            page(3, meta("", 1)),
            page(3, meta("a", "one")),
            b'{"metadata": {"resourceVersion": "3"}, "items": [7]}',
            b'{"metadata": {"resourceVersion": "3"}, "items": [{}]}',
            b"[" * 100_000,
        ],
    )
    def test_what_is_no_list(self, body: bytes) -> None:
        """Is told as garbage, changes nothing, and is asked for again."""
        machine = Watch()
        machine.next_request(0.0)
        event = machine.page(body)
        assert isinstance(event, Failed)
        assert event.failure.kind is FailureKind.GARBAGE
        assert machine.position is None
        assert query(machine) == {"resourceVersion": "0"}

    def test_no_items_may_be_null(self) -> None:
        """As Go writes an empty list of some kinds."""
        machine = Watch()
        machine.next_request(0.0)
        event = machine.page(b'{"metadata":{"resourceVersion":"3"},"items":null}')
        assert event == Listed(())

    def test_more_objects_than_there_can_be(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever a server sends has a limit, in a list and in a watch."""
        monkeypatch.setattr(watch, "MAX_OBJECTS", 2)
        machine = Watch()
        machine.next_request(0.0)
        event = machine.page(page(9, *(meta(name, 1) for name in "abc")))
        assert isinstance(event, Failed)
        assert event.failure.kind is FailureKind.REFUSED

        machine = listed(meta("a", 1), meta("b", 2))
        assert told(machine.receive(line("ADDED", "c", 11))) == ["REFUSED"]


class TestWatch:
    def test_asks_from_where_the_list_ended(self) -> None:
        """With bookmarks, and for a time that is spread."""
        machine = Watch()
        machine.next_request(0.0)
        machine.page(page(10))
        request = machine.next_request(0.5)
        assert isinstance(request, WatchRequest)
        assert request.seconds == 290 + 145
        assert dict(request.query) == {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": "10",
            "timeoutSeconds": "435",
        }

    def test_events_in_order(self) -> None:
        """Each is told, and moves the position."""
        machine = listed(meta("web", 3))
        stream = line("ADDED", "api", 11) + line("MODIFIED", "web", 12)
        stream += line("DELETED", "api", 13)
        assert told(machine.receive(stream)) == ["+api 11", "+web 12", "-api"]
        assert machine.position == 13

    @given(st.lists(st.integers(1, 40), max_size=12))
    def test_cut_anywhere(self, cuts: list[int]) -> None:
        """TCP keeps no boundaries; the events are the same."""
        stream = line("ADDED", "api", 11) + bookmark(12) + line("DELETED", "web", 13)
        machine = listed(meta("web", 3))
        events: list[Event] = []
        for cut in cuts:
            events += machine.receive(stream[:cut])
            stream = stream[cut:]
        events += machine.receive(stream)
        assert told(events) == ["+api 11", "-web"]

    def test_a_connection_that_breaks_in_a_line(self) -> None:
        """Half an event is none; the next watch begins before it."""
        machine = listed(meta("web", 3))
        whole = line("ADDED", "api", 11)
        assert told(machine.receive(whole + line("ADDED", "db", 12)[:40])) == [
            "+api 11"
        ]
        machine.ended()
        assert query(machine)["resourceVersion"] == "11"
        assert told(machine.receive(line("ADDED", "db", 12))) == ["+db 12"]

    def test_a_bookmark_moves_the_position_and_tells_nothing(self) -> None:
        """So that a quiet resource does not fall out of the server's memory."""
        machine = listed(meta("web", 3))
        assert machine.receive(bookmark(500)) == []
        assert query(machine)["resourceVersion"] == "500"

    def test_duplicates_are_told_once(self) -> None:
        """The same event twice, and one that the list had already."""
        machine = listed(meta("web", 3))
        assert machine.receive(line("ADDED", "web", 3)) == []
        event = line("MODIFIED", "web", 11)
        assert told(machine.receive(event + event)) == ["+web 11"]
        gone = line("DELETED", "web", 12)
        assert told(machine.receive(gone + gone)) == ["-web"]

    def test_an_older_state_after_a_newer_one(self) -> None:
        """Out of order about an object that is held: the newer one stays."""
        machine = listed(meta("web", 3))
        stream = line("MODIFIED", "web", 12) + line("MODIFIED", "web", 11)
        assert told(machine.receive(stream)) == ["+web 12"]

    def test_what_was_deleted_does_not_come_back(self) -> None:
        """Out of order about an object that is not held: a list must tell."""
        machine = listed(meta("web", 3))
        machine.receive(line("DELETED", "web", 12))
        assert told(machine.receive(line("MODIFIED", "web", 11))) == ["GARBAGE"]
        assert query(machine) == {
            "resourceVersion": "12",
            "resourceVersionMatch": "NotOlderThan",
        }

    def test_the_end_of_an_earlier_object_of_that_name(self) -> None:
        """A pod that was made anew under its name is not the one that went."""
        machine = listed(meta("web-0", 3, "u1"))
        machine.receive(line("ADDED", "web-0", 12, "u2"))
        assert machine.receive(line("DELETED", "web-0", 11, "u1")) == []
        assert told(machine.receive(line("DELETED", "web-0", 13, "u2"))) == ["-web-0"]

    def test_an_object_that_is_no_longer_selected(self) -> None:
        """Comes as DELETED, at the version of the change."""
        machine = listed(meta("web", 3))
        assert told(machine.receive(line("DELETED", "web", 11))) == ["-web"]
        assert told(machine.receive(line("ADDED", "web", 12))) == ["+web 12"]


class TestForgotten:
    @pytest.mark.parametrize("as_event", [True, False])
    def test_410_asks_for_a_list_that_is_no_older(self, as_event: bool) -> None:
        """As a status and as an event; never from memory of any age."""
        machine = listed(meta("web", 3), version=10)
        machine.receive(bookmark(20))
        if as_event:
            assert told(machine.receive(GONE)) == ["EXPIRED"]
        else:
            machine.failed(Failure(FailureKind.EXPIRED, "too old"))
        assert machine.is_listing
        assert query(machine) == {
            "resourceVersion": "20",
            "resourceVersionMatch": "NotOlderThan",
        }

    def test_a_list_that_is_forgotten_too_is_the_latest(self) -> None:
        """Then etcd itself is asked, in pages."""
        machine = listed(meta("web", 3))
        machine.receive(GONE)
        machine.next_request(0.0)
        machine.failed(Failure(FailureKind.EXPIRED, "too old"))
        assert query(machine) == {"limit": "500"}

    def test_the_list_tells_what_is_gone(self) -> None:
        """Whatever was missed in between is in it, and what it lacks is gone."""
        machine = listed(meta("web", 3), meta("api", 4))
        machine.receive(GONE)
        machine.next_request(0.0)
        assert told([machine.page(page(30, meta("web", 25)))]) == ["web"]
        machine.next_request(0.0)
        assert machine.receive(line("DELETED", "api", 31)) == []

    def test_nothing_is_read_after_it(self) -> None:
        """Events behind an error belong to nobody."""
        machine = listed(meta("web", 3))
        assert told(machine.receive(GONE + line("ADDED", "api", 11))) == ["EXPIRED"]
        assert machine.receive(line("ADDED", "api", 11)) == []

    def test_a_server_that_is_behind_us(self) -> None:
        """A replica may lag; one that stays behind was restored from a backup."""
        machine = listed(meta("web", 3), version=90)
        behind = Failure(FailureKind.AHEAD, "Too large resource version")
        for _ in range(2):
            machine.failed(behind)
            assert query(machine)["resourceVersion"] == "90"
        machine.failed(behind)
        assert query(machine) == {"limit": "500"}
        assert isinstance(machine.page(page(40, meta("web", 30))), Listed)
        assert query(machine)["resourceVersion"] == "40"


class TestGarbage:
    @pytest.mark.parametrize(
        "garbage",
        [
            b"{\n",
            b"\xff\xfe\n",
            b"null\n",
            b'{"type": "ADDED"}\n',
            b'{"type": "ADDED", "object": 3}\n',
            b'{"type": "ADDED", "object": {"metadata": {}}}\n',
            b'{"type": "NEWS", "object": {"metadata": {"name": "a", '
            b'"resourceVersion": "11"}}}\n',
            b'{"type": "BOOKMARK", "object": {"metadata": {}}}\n',
            b'{"type": "ERROR", "object": "why"}\n',
            line("ADDED", "a", "-1"),
            line("ADDED", "a", ""),
            b"[" * 50_000 + b"\n",
        ],
    )
    def test_costs_the_connection_and_no_event(self, garbage: bytes) -> None:
        """What came before it is told, and the watch goes on from there."""
        machine = listed(meta("web", 3))
        good = line("ADDED", "api", 11)
        events = told(machine.receive(good + garbage + line("ADDED", "db", 12)))
        assert events == ["+api 11", "GARBAGE"]
        assert query(machine)["resourceVersion"] == "11"
        assert told(machine.receive(line("ADDED", "db", 12))) == ["+db 12"]

    def test_twice_at_one_place_asks_for_a_list(self) -> None:
        """The next watch would meet it again."""
        machine = listed(meta("web", 3))
        machine.receive(b"{\n")
        machine.next_request(0.0)
        machine.receive(b"{\n")
        assert machine.is_listing
        assert query(machine)["resourceVersionMatch"] == "NotOlderThan"

    def test_a_line_without_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is kept of it has a limit."""
        monkeypatch.setattr(watch, "MAX_LINE_BYTES", 1000)
        machine = listed(meta("web", 3))
        assert machine.receive(b"x" * 1000) == []
        assert told(machine.receive(b"x")) == ["GARBAGE"]

    def test_empty_lines_are_nothing(self) -> None:
        """Some proxies send them to keep a connection alive."""
        machine = listed(meta("web", 3))
        assert machine.receive(b"\n\r\n \n") == []

    def test_an_error_of_another_kind(self) -> None:
        """Is told as what it is, and the watch goes on after it."""
        machine = listed(meta("web", 3))
        assert told(machine.receive(error(500, "etcd"))) == ["AWAY"]
        assert query(machine)["resourceVersion"] == "10"

    @given(st.lists(st.binary(max_size=60), max_size=20))
    def test_any_bytes(self, chunks: list[bytes]) -> None:
        """Nothing that a server sends raises or moves the position."""
        machine = listed(meta("web", 3))
        for chunk in chunks:
            machine.receive(chunk)
        assert machine.position == 10


class TestMany:
    @given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=30))
    def test_ends_where_the_server_is(self, changes: list[tuple[str, bool]]) -> None:
        """Whatever is put and deleted, with each event sent twice."""
        machine, there, held = listed(version=0), set[str](), set[str]()
        for version, (name, puts) in enumerate(changes, start=1):
            if not puts and name not in there:
                continue
            kind = "DELETED" if not puts else "MODIFIED" if name in there else "ADDED"
            there = there | {name} if puts else there - {name}
            for event in machine.receive(2 * line(kind, name, version)):
                match event:
                    case Stored(item):
                        held.add(item.key.name)
                    case Removed(Key(name=gone)):
                        held.discard(gone)
                    case _:
                        raise AssertionError(event)
        assert held == there
