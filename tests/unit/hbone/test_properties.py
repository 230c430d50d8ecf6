"""Any bytes, any pieces, any interleaving: a connection keeps its promises."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.hbone import frames
from agent.hbone.connection import (
    Connection,
    ConnectRequested,
    DataReceived,
    Event,
    ProtocolError,
    Role,
    StreamClosed,
    StreamEnded,
)
from agent.hbone.frames import ErrorCode, FrameType
from agent.hbone.inbound import Inbound
from agent.hbone.reader import FrameReader
from agent.hbone.settings import DEFAULT
from tests.unit.hbone.wire import (
    CLIENT_HELLO,
    CONNECT,
    EMPTY_SETTINGS,
    REQUEST,
    block,
    data,
    exchange,
    headers,
    joined,
    pair,
    setting,
    tunnel,
)

BLOCK = block()
# Bytes that look like frames get further than bytes that do not.
anything = st.binary(max_size=40) | st.builds(
    lambda kind, flags, stream_id, payload: (
        frames.frame_header(len(payload), kind, flags, stream_id) + payload
    ),
    st.integers(0, 11),
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 0x20, 0x2D, 0xFF]),
    st.integers(0, 9),
    st.sampled_from([b"", bytes(4), b"\0\0\0\1", bytes(6), bytes(8), BLOCK, b"\xbe"])
    | st.binary(max_size=40),
)


class TestAnyBytes:
    @settings(max_examples=300)
    @given(st.lists(anything, max_size=30))
    def test_at_a_server(self, parts: list[bytes]) -> None:
        """Nothing but ProtocolError comes out of a server."""
        far = Connection(Role.SERVER)
        far.receive(CLIENT_HELLO)
        survive(far, parts)

    @settings(max_examples=300)
    @given(st.lists(anything, max_size=30))
    def test_at_a_client(self, parts: list[bytes]) -> None:
        """Nothing but ProtocolError comes out of a client."""
        near = Connection(Role.CLIENT)
        near.receive(EMPTY_SETTINGS)
        for _ in range(3):
            near.open_stream(REQUEST)
        survive(near, parts)


def survive(connection: Connection, parts: list[bytes]) -> None:
    """Feed `parts`; consume what comes; the connection works on or fails in order."""
    try:
        for part in parts:
            for event in connection.receive(part):
                if isinstance(event, DataReceived):
                    connection.consumed(event.stream_id, len(event.data))
                elif isinstance(event, ConnectRequested):
                    with suppress(StreamClosed):  # it was reset in the same bytes
                        connection.accept(event.stream_id)
    except ProtocolError as error:
        assert connection.take_output()
        with pytest.raises(ProtocolError, match=error.code.name):
            connection.receive(b"")


VALID = (
    CLIENT_HELLO
    + headers(1)
    + data(1, b"early")
    + frames.frame(FrameType.HEADERS, 0, 3, BLOCK[:2])
    + frames.frame(FrameType.CONTINUATION, frames.END_HEADERS, 3, BLOCK[2:])
    + frames.frame(FrameType.DATA, frames.PADDED, 3, b"\x05padded\0\0\0\0\0")
    + frames.frame_header(7, 0xBE, 0, 9)
    + b"unknown"
    + setting(4, 100)
    + headers(5, [*CONNECT, ("baggage", "a=b")], frames.END_HEADERS | 1)
    + headers(7, [(":method", "GET")])
    + data(7, b"dropped")
    + frames.ping(b"12345678")
    + frames.window_update(1, 9)
    + data(1, b"", end=True)
    + frames.rst_stream(3, ErrorCode.CANCEL)
    + data(3, b"late")
    + frames.goaway(0, ErrorCode.NO_ERROR, "bye")
)


class TestAnyPieces:
    @given(st.lists(st.integers(0, len(VALID)), max_size=40))
    def test_give_the_same_events(self, cuts: list[int]) -> None:
        """Events and answers do not depend on how the bytes were cut."""
        whole, cut = Connection(Role.SERVER), Connection(Role.SERVER)
        expected = joined(whole.receive(VALID))
        told: list[object] = []
        start = 0
        for end in [*sorted(cuts), len(VALID)]:
            # The buffer is reused, as a caller may: what is kept must be a copy.
            buffer = bytearray(VALID[start:end])
            told += [owned(event) for event in cut.receive(memoryview(buffer))]
            buffer[:] = bytes(len(buffer))
            start = end

        assert joined_again(told) == expected
        assert cut.take_output() == whole.take_output()

    def test_byte_by_byte(self) -> None:
        """The finest cut of all."""
        whole, cut = Connection(Role.SERVER), Connection(Role.SERVER)
        told: list[Event] = []
        for byte in VALID:
            told += cut.receive(bytes([byte]))

        assert joined(told) == joined(whole.receive(VALID))


def owned(event: Event) -> Event:
    """The event with its data copied, so that the buffer may be reused."""
    if isinstance(event, DataReceived):
        return DataReceived(event.stream_id, memoryview(bytes(event.data)))
    return event


def joined_again(told: list[object]) -> list[object]:
    return joined(told)  # type: ignore[arg-type]  # they are events


@dataclass
class End:
    """One end of the traffic: what it has to send, and what it has got."""

    codec: Connection
    wire: bytearray = field(default_factory=bytearray)
    got: dict[int, bytearray] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    untaken: list[tuple[int, int]] = field(default_factory=list)

    def send(self, stream_id: int, payload: bytearray) -> bool:
        """Put what fits on the wire; whether that was all."""
        size = min(len(payload), self.codec.sendable(stream_id))
        self.wire += self.codec.take_output()
        if size:
            self.wire += self.codec.data_header(stream_id, size) + payload[:size]
            del payload[:size]
        return not payload

    def hear(self, other: End, size: int) -> None:
        """Take up to `size` bytes off the other's wire."""
        other.wire += other.codec.take_output()
        piece = bytes(other.wire[:size])
        del other.wire[:size]
        for event in self.codec.receive(piece):
            if isinstance(event, DataReceived):
                self.got.setdefault(event.stream_id, bytearray()).extend(event.data)
                self.untaken.append((event.stream_id, len(event.data)))
            elif isinstance(event, StreamEnded):
                self.ended.add(event.stream_id)

    def take(self) -> None:
        """The application takes all that waits."""
        for stream_id, length in self.untaken:
            self.codec.consumed(stream_id, length)
        self.untaken.clear()


class TestAnyInterleaving:
    @settings(max_examples=25, deadline=None)
    @given(
        st.tuples(st.integers(0, 3_000_000), st.integers(0, 3_000_000)),
        st.integers(1, 4),
        st.integers(0, 2**32),
    )
    def test_traffic_arrives_intact(
        self, sizes: tuple[int, int], count: int, seed: int
    ) -> None:
        """Both ways on several streams, in random steps, to the last byte."""
        random = Random(seed)
        near, far = pair()
        ids = [tunnel(near, far) for _ in range(count)]
        ends = End(near), End(far)
        todo = [
            {n: bytearray(random.randbytes(sizes[side] // count)) for n in ids}
            for side in (0, 1)
        ]
        sent = [{n: bytes(p) for n, p in side.items()} for side in todo]
        for _ in range(100_000):
            side = random.randrange(2)
            here, there = ends[side], ends[1 - side]
            if todo[side]:
                stream_id = random.choice(sorted(todo[side]))
                if here.send(stream_id, todo[side][stream_id]):
                    here.codec.end_stream(stream_id)
                    del todo[side][stream_id]
            there.hear(here, random.randrange(1, 400_000))
            if random.random() < 0.3:
                there.take()
            if all(len(end.ended) == count for end in ends):
                break

        for side in (0, 1):
            got = {n: bytes(ends[1 - side].got.get(n, b"")) for n in ids}
            assert got == sent[side]
        for end in ends:
            end.take()
        exchange(near, far)
        assert near.open_streams == far.open_streams == 0


def shape(stream_id: int, flags: int, length: int, pad: int) -> bytes:
    """A DATA frame; `pad` may claim more padding than there is."""
    payload = bytes([stream_id]) * length
    if flags & frames.PADDED:
        payload = bytes([pad]) + payload
    return frames.frame(FrameType.DATA, flags, stream_id, payload)


# Mostly whole DATA, in runs, on streams that are open, ended, asked for, or none at
# all; large enough to overrun a window; and now and then a frame of another kind.
data_frames = st.builds(
    shape,
    st.sampled_from([1, 1, 1, 3, 3, 5, 7, 99, 0]),
    st.sampled_from([0, 0, 0, 0, 0, 0xF6, frames.END_STREAM, frames.PADDED, 9]),
    st.sampled_from([0, 1, 5, 100, 100, 16_000, frames.MIN_MAX_FRAME_BYTES, 16_385]),
    st.sampled_from([0, 1, 3, 200]),
)
others = st.sampled_from(
    [
        headers(7),
        headers(9, flags=frames.END_HEADERS | frames.END_STREAM),
        frames.frame(FrameType.HEADERS, 0, 11, BLOCK[:2]),  # its rest is missing
        frames.rst_stream(3, ErrorCode.CANCEL),
        frames.window_update(1, 5),
        frames.window_update(3, 0),
        frames.ping(b"12345678"),
        frames.frame_header(7, 0xBE, 0, 9) + b"unknown",
        EMPTY_SETTINGS,
        b"\0\0",
    ]
)
traffic = st.lists(data_frames | data_frames | data_frames | others, max_size=14)
HELLOS = [CLIENT_HELLO, CLIENT_HELLO, CLIENT_HELLO, frames.PREFACE]


class TestTheShortWay:
    """Whole DATA frames pass by the reader; nobody can tell that from outside."""

    @settings(max_examples=200, deadline=None)
    @given(
        traffic, st.lists(st.integers(0, 40_000), max_size=8), st.sampled_from(HELLOS)
    )
    def test_is_not_seen(
        self, parts: list[bytes], cuts: list[int], hello: bytes
    ) -> None:
        """The same events, answers and errors, whatever stands together."""
        wire = b"".join(parts)
        by_byte = told(hello, [piece for part in parts for piece in crumbs(part)])
        in_frames = told(hello, parts)
        ends = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
        in_pieces = told(hello, [wire[a:b] for a, b in pairwise(ends)])
        at_once = told(hello, [wire])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Inbound, "_whole_data", lambda *_: (0, 0))
            long_way = told(hello, [wire])

        assert at_once == long_way
        assert at_once.said == in_pieces.said == in_frames.said == by_byte.said
        # An error takes the events of its own call with it.
        assert in_frames.events == by_byte.events
        if at_once.failure is None:
            assert at_once.events == in_pieces.events == by_byte.events

    def test_is_taken(self) -> None:
        """Or the property above would say nothing."""
        with pytest.MonkeyPatch.context() as patch:
            far = ready_server(CLIENT_HELLO)
            patch.setattr(FrameReader, "read", lambda *_: iter(()))
            events = far.receive(data(1, b"abc") + data(3, b"de", end=True))
        assert joined(events) == [(1, b"abc"), (3, b"de"), StreamEnded(3)]


@dataclass
class Told:
    """What a connection made of its peer's bytes."""

    events: list[object]
    said: bytes
    failure: str | None


def ready_server(hello: bytes) -> Connection:
    """
    A server with streams 1 and 3 accepted and 5 asked for, and a window that a few
    frames fill; or, if `hello` lacks the SETTINGS, one that waits for them.
    """
    far = Connection(Role.SERVER, replace(DEFAULT, initial_window_size=65_535))
    far.receive(hello)
    if hello == CLIENT_HELLO:
        far.receive(headers(1) + headers(3) + headers(5))
        far.accept(1)
        far.accept(3)
    far.take_output()
    return far


def crumbs(part: bytes) -> list[bytes]:
    """A frame byte by byte, but for the middle of a long payload."""
    ends = len(part) - 5
    middle = [part[12:ends]] if ends > 12 else []
    after = max(12, ends)
    begins = [part[i : i + 1] for i in range(min(12, len(part)))]
    return begins + middle + [part[i : i + 1] for i in range(after, len(part))]


def told(hello: bytes, parts: list[bytes]) -> Told:
    far = ready_server(hello)
    events: list[Event] = []
    failure = None
    for part in parts:
        try:
            events += far.receive(part)
        except ProtocolError as error:
            failure = str(error)
            break
    return Told(joined(events), far.take_output(), failure)
