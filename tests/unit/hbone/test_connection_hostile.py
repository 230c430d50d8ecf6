"""What a hostile or late peer sends ends as the standard says, or at a limit."""

from __future__ import annotations

import struct

import pytest

from agent.hbone import frames
from agent.hbone.connection import (
    MAX_CLIENT_STREAMS,
    Connection,
    ConnectionDraining,
    ConnectRequested,
    GoAwayReceived,
    PongReceived,
    Role,
    StreamReset,
    TooManyStreams,
)
from agent.hbone.frames import ErrorCode, FrameType
from agent.hbone.limits import MAX_ABANDONED_STREAMS, MAX_IDLE_FRAMES
from agent.hbone.link import FAREWELL
from agent.hbone.settings import Settings
from tests.unit.hbone.wire import (
    EMPTY_SETTINGS,
    REQUEST,
    RST,
    accepted,
    client,
    data,
    exchange,
    fails,
    goaways,
    headers,
    joined,
    pair,
    resets,
    server,
    setting,
    tunnel,
)


class TestLateFrames:
    """RFC 9113 section 5.1: what arrives for a stream that has ended."""

    def test_after_our_reset(self) -> None:
        """It was under way: ignored."""
        far = accepted(server())
        far.reset(1, ErrorCode.CANCEL)
        far.take_output()
        late = data(1, b"x") + headers(1) + frames.window_update(1, 1)

        assert far.receive(late + RST(1, ErrorCode.CANCEL)) == []
        assert far.take_output() == b""

    def test_after_their_reset(self) -> None:
        """A stream error, told once."""
        far = accepted(server())
        far.receive(RST(1, ErrorCode.CANCEL))

        assert far.receive(data(1, b"x") * 2) == []
        assert resets(far.take_output()) == [(1, ErrorCode.STREAM_CLOSED)]

    def test_after_their_end(self) -> None:
        """Half-closed (remote): a stream error."""
        far = accepted(server())
        far.receive(data(1, b"", end=True))

        assert far.receive(data(1, b"x")) == [StreamReset(1, ErrorCode.STREAM_CLOSED)]
        assert resets(far.take_output()) == [(1, ErrorCode.STREAM_CLOSED)]

    def test_after_both_ends(self) -> None:
        """Closed in order: a connection error."""
        for late in (data(1, b"x"), headers(1)):
            far = accepted(server())
            far.receive(data(1, b"", end=True))
            far.end_stream(1)
            fails(far, late, ErrorCode.STREAM_CLOSED)

    def test_that_need_no_answer(self) -> None:
        """WINDOW_UPDATE, RST_STREAM and PRIORITY may cross with the end."""
        far = accepted(server())
        far.receive(data(1, b"", end=True))
        far.end_stream(1)
        far.take_output()
        priority = frames.frame(FrameType.PRIORITY, 0, 1, bytes(5))

        assert far.receive(frames.window_update(1, 1) + RST(1, ErrorCode.CANCEL)) == []
        assert far.receive(priority) == []
        assert far.take_output() == b""

    @pytest.mark.parametrize(
        "frame",
        [
            data(1, b"x"),
            data(0, b"x"),
            RST(1, ErrorCode.CANCEL),
            RST(0, ErrorCode.CANCEL),
        ],
    )
    def test_before_the_stream(self, frame: bytes) -> None:
        """Idle: a connection error."""
        fails(server(), frame, ErrorCode.PROTOCOL_ERROR)


class TestConnectionFrames:
    def test_ping(self) -> None:
        """Theirs is echoed, ours is reported, a made-up answer is not."""
        near, far = pair()
        near.ping(b"12345678")

        assert exchange(near, far)[0] == [PongReceived(b"12345678")]
        assert near.receive(frames.ping(b"87654321", ack=True)) == []

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            (frames.frame(FrameType.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
            (frames.frame(FrameType.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
            (frames.frame(FrameType.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
            (
                frames.frame(FrameType.PRIORITY, 0, 0, bytes(5)),
                ErrorCode.PROTOCOL_ERROR,
            ),
            (
                frames.frame(FrameType.SETTINGS, frames.ACK, 0, bytes(6)),
                ErrorCode.FRAME_SIZE_ERROR,
            ),
            (
                frames.frame(FrameType.SETTINGS, frames.ACK, 0) * 2,
                ErrorCode.PROTOCOL_ERROR,
            ),
            (frames.frame(FrameType.SETTINGS, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
            (frames.frame_header(2**20 + 1, 0, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
            (frames.frame_header(2**16, 1, 0, 1), ErrorCode.ENHANCE_YOUR_CALM),
        ],
    )
    def test_a_wrong_stream_or_length(self, frame: bytes, code: ErrorCode) -> None:
        """Section 6 names the error of each."""
        fails(server(), frame, code)

    def test_unknown_types_are_ignored(self) -> None:
        """Section 5.5: whatever they carry."""
        far = server()
        strange = frames.frame_header(2**16, 0xBE, 0xFF, 7) + bytes(2**16)

        assert far.receive(strange + headers(1)) == [ConnectRequested(1, REQUEST)]

    def test_a_smaller_header_table(self) -> None:
        """What we send next follows the peer's SETTINGS_HEADER_TABLE_SIZE."""
        near, far = (
            Connection(Role.CLIENT),
            Connection(Role.SERVER, Settings(header_table_size=0)),
        )
        exchange(near, far)
        for _ in range(2):
            assert tunnel(near, far)


class TestLimits:
    def test_the_client_opens_so_many(self) -> None:
        """100 as ztunnel's pool, or fewer if the peer says so."""
        near = client()
        assert near.available_streams == MAX_CLIENT_STREAMS
        near.receive(setting(3, 2))
        near.open_stream(REQUEST)
        near.open_stream(REQUEST)

        assert near.available_streams == 0
        with pytest.raises(TooManyStreams):
            near.open_stream(REQUEST)
        near.reset(1, ErrorCode.CANCEL)
        assert near.open_stream(REQUEST) == 5

    @pytest.mark.parametrize(
        "flood",
        [
            frames.ping(bytes(8)),
            EMPTY_SETTINGS,
            setting(1, 0) + setting(1, 4096),
            frames.frame(FrameType.PRIORITY, 0, 1, bytes(5)),
            frames.frame_header(0, 0xBE, 0, 0),
            data(1, b""),
            frames.frame(FrameType.DATA, frames.PADDED, 1, bytes(1)),
            frames.window_update(1, 1),
            frames.window_update(0, 1),
            frames.frame(FrameType.GOAWAY, 0, 0, bytes(8)),
        ],
        ids=[
            "PING",
            "SETTINGS",
            "header table sizes",
            "PRIORITY",
            "unknown type",
            "empty DATA",
            "DATA of padding",
            "stream credit",
            "connection credit",
            "GOAWAY",
        ],
    )
    def test_floods_end(self, flood: bytes) -> None:
        """CVE-2019-9512, -9515, -9518 and their kin."""
        far = accepted(server())
        far.receive(flood * (MAX_IDLE_FRAMES // 3))

        fails(far, flood * MAX_IDLE_FRAMES, ErrorCode.ENHANCE_YOUR_CALM)

    def test_rapid_reset_ends(self) -> None:
        """CVE-2023-44487: streams opened and reset before any answer."""
        far = server()
        attack = b"".join(
            headers(2 * n + 1) + RST(2 * n + 1, ErrorCode.CANCEL)
            for n in range(MAX_ABANDONED_STREAMS + 1)
        )

        fails(far, attack, ErrorCode.ENHANCE_YOUR_CALM)

    def test_made_you_reset_ends(self) -> None:
        """CVE-2025-8671: streams that the peer provokes us to reset."""
        far = server()
        attack = b"".join(
            headers(2 * n + 1) + frames.window_update(2 * n + 1, 0)
            for n in range(MAX_ABANDONED_STREAMS + 1)
        )

        fails(far, attack, ErrorCode.ENHANCE_YOUR_CALM)

    def test_an_answered_ping_renews_them(self) -> None:
        """A connection may live for ever, if it lives."""
        far = server()
        for number in range(4):
            payload = struct.pack(">Q", number)
            far.ping(payload)
            far.receive(frames.ping(bytes(8)) * (MAX_IDLE_FRAMES // 2))
            assert far.receive(frames.ping(payload, ack=True)) == [
                PongReceived(payload)
            ]


class TestGoAway:
    def test_a_server_leaves_in_peace(self) -> None:
        """Streams under way are served; what comes after the second word is not."""
        far = accepted(server())
        far.goaway()
        assert far.draining
        assert goaways(far.take_output()) == [(2**31 - 1, ErrorCode.NO_ERROR)]

        crossed = far.receive(headers(3))
        assert crossed == [ConnectRequested(3, REQUEST)]
        assert far.receive(frames.ping(FAREWELL, ack=True)) == []
        assert goaways(far.take_output()) == [(3, ErrorCode.NO_ERROR)]
        assert far.receive(headers(5)) == []
        assert resets(far.take_output()) == [(5, ErrorCode.REFUSED_STREAM)]
        assert joined(far.receive(data(1, b"on"))) == [(1, b"on")]

    def test_a_second_call_does_not_wait(self) -> None:
        """The owner's deadline has come; a third call says nothing new."""
        far = accepted(server())
        far.goaway()
        far.goaway()
        far.goaway()

        assert goaways(far.take_output()) == [
            (2**31 - 1, ErrorCode.NO_ERROR),
            (1, ErrorCode.NO_ERROR),
        ]
        assert far.receive(frames.ping(FAREWELL, ack=True)) == []
        assert far.take_output() == b""

    def test_in_anger_it_is_said_once(self) -> None:
        """With an error code there is nothing to wait for."""
        far = accepted(server())
        far.goaway(ErrorCode.INTERNAL_ERROR)

        assert goaways(far.take_output()) == [(1, ErrorCode.INTERNAL_ERROR)]

    def test_at_the_client(self) -> None:
        """Streams above the last one are given back, the others go on."""
        near, far = pair()
        first = tunnel(near, far)
        second = near.open_stream(REQUEST)
        told = near.receive(frames.goaway(first, ErrorCode.NO_ERROR, "bye"))

        assert told == [
            GoAwayReceived(first, ErrorCode.NO_ERROR, b"bye"),
            StreamReset(second, ErrorCode.REFUSED_STREAM),
        ]
        assert near.draining
        assert near.available_streams == 0
        with pytest.raises(ConnectionDraining):
            near.open_stream(REQUEST)
        assert near.sendable(first)

    def test_both_ends_together(self) -> None:
        """A drain from end to end: no stream is lost."""
        near, far = pair()
        first = tunnel(near, far)
        second = near.open_stream(REQUEST)
        far.goaway()
        told_near, told_far = exchange(near, far)

        assert told_far == [ConnectRequested(second, REQUEST)]
        assert [e.last_stream_id for e in told_near if isinstance(e, GoAwayReceived)]
        assert near.open_streams == 2
        near.goaway()
        assert exchange(near, far)[1] == [GoAwayReceived(0, ErrorCode.NO_ERROR, b"")]
        assert near.sendable(first)

    def test_cannot_be_taken_back(self) -> None:
        """Section 6.8: the last stream MUST NOT grow."""
        near = client()
        near.receive(frames.goaway(1, ErrorCode.NO_ERROR))

        fails(near, frames.goaway(3, ErrorCode.NO_ERROR), ErrorCode.PROTOCOL_ERROR)

    def test_a_dead_connection_says_no_more(self) -> None:
        """After the GOAWAY of a failure nothing else is queued."""
        far = accepted(server())
        fails(far, headers(2), ErrorCode.PROTOCOL_ERROR)
        far.goaway()
        far.ping(b"12345678")
        far.reset(1, ErrorCode.CANCEL)
        far.consumed(1, 5)

        assert far.take_output() == b""
