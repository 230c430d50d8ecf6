"""
Streams: the states of one, and all of a connection (RFC 9113 section 5.1).

A stream is one tunnelled TCP connection. Push does not exist here, so two states of
the standard (reserved) do not; idle streams have no object.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from agent.errors import PeerError, Refused
from agent.hbone.flow import ReceiveWindow, SendWindow
from agent.hbone.settings import Role

# How many ended streams we can name. A frame may be late by a round trip; in that
# time no peer that keeps to 200 streams gets through a thousand.
MAX_REMEMBERED: Final = 1_000


class TooManyStreams(Refused):
    """The connection carries all the streams that it may; use another one."""


class ConnectionDraining(Refused):
    """The connection takes no new streams; those it has go on."""


class StreamClosed(PeerError):
    """The stream is not there any more, or our half of it is closed."""


class State(Enum):
    """Which halves still carry data."""

    OPEN = "open"
    HALF_CLOSED_LOCAL = "half-closed (local)"
    HALF_CLOSED_REMOTE = "half-closed (remote)"
    CLOSED = "closed"


class Cause(Enum):
    """What moves a stream from state to state."""

    SENT_END = "we sent END_STREAM"
    RECEIVED_END = "the peer sent END_STREAM"
    RESET = "RST_STREAM, either way"


TRANSITIONS: Final = {
    (State.OPEN, Cause.SENT_END): State.HALF_CLOSED_LOCAL,
    (State.OPEN, Cause.RECEIVED_END): State.HALF_CLOSED_REMOTE,
    (State.OPEN, Cause.RESET): State.CLOSED,
    (State.HALF_CLOSED_LOCAL, Cause.RECEIVED_END): State.CLOSED,
    (State.HALF_CLOSED_LOCAL, Cause.RESET): State.CLOSED,
    (State.HALF_CLOSED_REMOTE, Cause.SENT_END): State.CLOSED,
    (State.HALF_CLOSED_REMOTE, Cause.RESET): State.CLOSED,
}


class Phase(Enum):
    """How far the CONNECT on a stream has come."""

    ASKED = "no answer yet"
    MALFORMED = "a bad request: its data is dropped, an answer is due"
    CONNECTED = "200: bytes flow"
    REFUSED = "another final answer: no bytes of ours flow"


class Ending(Enum):
    """Who ended a stream, which decides what its late frames mean."""

    RESET_BY_US = "frames under way are no fault of the peer"
    RESET_BY_PEER = "a frame more is a stream error"
    IN_ORDER = "both halves are closed: a frame more is a connection error"


class Stream:
    """One live stream."""

    __slots__ = ("id", "phase", "receive", "receives", "send", "sends", "state")

    def __init__(self, stream_id: int, send: int, receive: int) -> None:
        self.id = stream_id
        self.state = State.OPEN
        self.sends = True
        """Our half is open."""
        self.receives = True
        """The peer's half is open."""
        self.phase = Phase.ASKED
        self.send = SendWindow(send)
        self.receive = ReceiveWindow(receive)

    def move(self, cause: Cause) -> None:
        """Raises: ValueError for a pair that is not in `TRANSITIONS`."""
        try:
            self.state = TRANSITIONS[self.state, cause]
        except KeyError:
            raise ValueError(
                f"stream {self.id} is {self.state.value}: not possible: {cause.value}"
            ) from None
        self.sends = self.state in (State.OPEN, State.HALF_CLOSED_REMOTE)
        self.receives = self.state in (State.OPEN, State.HALF_CLOSED_LOCAL)


class Streams:
    """All streams of a connection: live, lately ended, and never used."""

    def __init__(self, role: Role) -> None:
        self.live: dict[int, Stream] = {}
        self.highest = 0
        """The highest client-initiated stream seen (server) or used (client)."""
        self.highest_processed = 0
        """The highest one not refused at sight: what our GOAWAY names (server)."""
        self.settling: dict[int, int] = {}
        """Ended in order, yet the application holds this many of its bytes."""
        self._endings: dict[int, Ending] = {}
        self._role = role

    def next_id(self) -> int:
        return self.highest + 2 if self.highest else 1

    def open(self, stream: Stream) -> None:
        self.live[stream.id] = stream
        self.highest = max(self.highest, stream.id)
        if self._role is Role.SERVER:
            self.highest_processed = max(self.highest_processed, stream.id)

    def close(self, stream: Stream, ending: Ending) -> None:
        del self.live[stream.id]
        self.remember(stream.id, ending)

    def remember(self, stream_id: int, ending: Ending) -> None:
        self._endings[stream_id] = ending
        if len(self._endings) > MAX_REMEMBERED:
            del self._endings[next(iter(self._endings))]

    def ending(self, stream_id: int) -> Ending | None:
        """How a stream ended, or None if it never was or is forgotten."""
        return self._endings.get(stream_id)

    def is_idle(self, stream_id: int) -> bool:
        """Never used; even numbers are the server's, for push, and always idle."""
        return stream_id % 2 == 0 or stream_id > self.highest
