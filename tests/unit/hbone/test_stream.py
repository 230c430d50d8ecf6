"""Streams move as RFC 9113 section 5.1 draws it, and only so."""

from __future__ import annotations

import pytest

from agent.hbone.settings import Role
from agent.hbone.stream import (
    MAX_REMEMBERED,
    TRANSITIONS,
    Cause,
    Ending,
    State,
    Stream,
    Streams,
)


def stream(stream_id: int = 1) -> Stream:
    return Stream(stream_id, 65_535, 65_535)


class TestStates:
    @pytest.mark.parametrize(
        "causes",
        [
            [Cause.SENT_END, Cause.RECEIVED_END],
            [Cause.RECEIVED_END, Cause.SENT_END],
            [Cause.RESET],
            [Cause.SENT_END, Cause.RESET],
            [Cause.RECEIVED_END, Cause.RESET],
        ],
    )
    def test_the_ways_to_the_end(self, causes: list[Cause]) -> None:
        """Both halves in either order, or a reset at any time."""
        one = stream()
        for cause in causes:
            one.move(cause)

        assert one.state is State.CLOSED
        assert not one.sends
        assert not one.receives

    @pytest.mark.parametrize(
        ("state", "cause"),
        [
            (state, cause)
            for state in State
            for cause in Cause
            if (state, cause) not in TRANSITIONS
        ],
    )
    def test_no_other_way(self, state: State, cause: Cause) -> None:
        """A pair that is not in the table is an error."""
        one = stream()
        one.state = state

        with pytest.raises(ValueError, match="not possible"):
            one.move(cause)

    def test_half_closed(self) -> None:
        """One half goes on when the other has ended."""
        ours, theirs = stream(), stream()
        ours.move(Cause.SENT_END)
        theirs.move(Cause.RECEIVED_END)

        assert (ours.sends, ours.receives) == (False, True)
        assert (theirs.sends, theirs.receives) == (True, False)


class TestStreams:
    def test_numbers_are_odd_and_grow(self) -> None:
        """A client's streams are 1, 3, 5 (section 5.1.1)."""
        streams = Streams(Role.CLIENT)
        numbers = []
        for _ in range(3):
            numbers.append(streams.next_id())
            streams.open(stream(numbers[-1]))

        assert numbers == [1, 3, 5]

    def test_idle(self) -> None:
        """Above the highest, and every even number, for nobody pushes."""
        streams = Streams(Role.SERVER)
        streams.open(stream(5))

        assert [n for n in range(8) if streams.is_idle(n)] == [0, 2, 4, 6, 7]

    def test_remembers_so_many_endings_and_no_more(self) -> None:
        """A peer cannot make the memory grow."""
        streams = Streams(Role.SERVER)
        for number in range(MAX_REMEMBERED + 1):
            streams.remember(number, Ending.RESET_BY_US)

        assert streams.ending(0) is None
        assert streams.ending(1) is Ending.RESET_BY_US
