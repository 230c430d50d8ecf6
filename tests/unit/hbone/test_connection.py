"""Connections do what their two owners want, whatever a hostile peer sends."""

from __future__ import annotations

import struct

import pytest

from agent.hbone import frames
from agent.hbone.compression import MAX_BLOCK_FRAMES
from agent.hbone.connection import (
    MAX_CLIENT_STREAMS,
    Answered,
    Connection,
    ConnectionDraining,
    ConnectRequest,
    ConnectRequested,
    DataReceived,
    GoAwayReceived,
    InvalidHeader,
    MalformedRequest,
    PongReceived,
    ProtocolError,
    Role,
    SettingsReceived,
    StreamClosed,
    StreamEnded,
    StreamReset,
    TooManyStreams,
    WindowOpened,
)
from agent.hbone.frames import ErrorCode, FrameType
from agent.hbone.limits import MAX_ABANDONED_STREAMS, MAX_IDLE_FRAMES
from agent.hbone.link import FAREWELL
from agent.hbone.settings import CONNECTION_WINDOW_BYTES, DEFAULT, Settings
from tests.unit.hbone.wire import (
    CLIENT_HELLO,
    CONNECT,
    EMPTY_SETTINGS,
    REQUEST,
    accepted,
    block,
    client,
    credits,
    data,
    exchange,
    goaways,
    headers,
    joined,
    pair,
    parsed,
    resets,
    server,
    setting,
    tunnel,
)

WINDOW = DEFAULT.initial_window_size
RST = frames.rst_stream
STATUS_200 = [(":status", "200")]


def fails(connection: Connection, data: bytes, code: ErrorCode) -> None:
    """`data` is a connection error with `code`, said in a GOAWAY, and final."""
    with pytest.raises(ProtocolError) as error:
        connection.receive(data)
    assert error.value.code is code
    assert goaways(connection.take_output())[-1][1] is code
    with pytest.raises(ProtocolError):
        connection.receive(b"")
    assert connection.open_streams == 0
    assert connection.draining


class TestStart:
    def test_the_client_says_hello(self) -> None:
        """Preface, SETTINGS and 4 MiB for the connection, in this order."""
        output = Connection(Role.CLIENT).take_output()

        assert output.startswith(frames.PREFACE)
        (first, second) = parsed(output[len(frames.PREFACE) :])
        assert (first[0], first[1]) == (FrameType.SETTINGS, 0)
        assert second[0] is FrameType.WINDOW_UPDATE
        assert frames.parse_u31(second[3]) + 65_535 == CONNECTION_WINDOW_BYTES

    def test_settings_are_acknowledged(self) -> None:
        """At once, and the owner hears of them."""
        far = Connection(Role.SERVER)
        far.take_output()

        assert far.receive(CLIENT_HELLO) == [SettingsReceived()]
        assert parsed(far.take_output()) == [(FrameType.SETTINGS, frames.ACK, 0, b"")]

    def test_settings_that_we_cannot_live_up_to(self) -> None:
        """A window below the standard's could be overrun by an honest peer."""
        with pytest.raises(ValueError, match="out of range"):
            Connection(Role.SERVER, Settings(initial_window_size=1))

    @pytest.mark.parametrize("hello", [b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.1"])
    def test_another_protocol(self, hello: bytes) -> None:
        """Known by its first wrong byte, not after 24."""
        fails(Connection(Role.SERVER), hello, ErrorCode.PROTOCOL_ERROR)

    @pytest.mark.parametrize(
        "first",
        [
            frames.ping(bytes(8)),
            frames.frame(FrameType.SETTINGS, frames.ACK, 0),
            headers(1),
            data(1, b"a"),
            frames.frame_header(0, 0xBE, 0, 0),
        ],
    )
    def test_settings_come_first(self, first: bytes) -> None:
        """RFC 9113 section 3.4."""
        fails(Connection(Role.SERVER), frames.PREFACE + first, ErrorCode.PROTOCOL_ERROR)


class TestTunnel:
    def test_opens(self) -> None:
        """The request arrives whole, the answer comes back, bytes may flow."""
        near, far = pair()
        request = ConnectRequest("[::1]:80", 'for="10.0.0.9:1"', "a=b", None)
        stream_id = near.open_stream(request)

        assert exchange(near, far)[1] == [ConnectRequested(stream_id, request)]
        assert (near.sendable(stream_id), far.sendable(stream_id)) == (0, 0)
        far.accept(stream_id, [("baggage", "c=d")])
        assert far.sendable(stream_id) == WINDOW
        assert exchange(near, far)[0] == [
            Answered(stream_id, 200, (("baggage", "c=d"),))
        ]
        assert near.sendable(stream_id) == WINDOW

    def test_carries_bytes(self) -> None:
        """A header of nine bytes, then the payload as it is."""
        near, far = pair()
        stream_id = tunnel(near, far)

        frame = near.data_header(stream_id, 5) + b"hello"
        assert joined(far.receive(frame)) == [(stream_id, b"hello")]

    @pytest.mark.parametrize("with_data", [True, False])
    def test_half_closes(self, with_data: bool) -> None:
        """One direction ends, the other goes on; then both, and the stream is gone."""
        near, far = pair()
        stream_id = tunnel(near, far)
        if with_data:
            told = far.receive(near.data_header(stream_id, 1, end=True) + b"x")
            assert joined(told) == [(stream_id, b"x"), StreamEnded(stream_id)]
            far.consumed(stream_id, 1)
        else:
            near.end_stream(stream_id)
            assert exchange(near, far)[1] == [StreamEnded(stream_id)]

        assert near.sendable(stream_id) == 0
        told = near.receive(far.data_header(stream_id, 2) + b"yz")
        assert joined(told) == [(stream_id, b"yz")]
        far.end_stream(stream_id)
        assert exchange(near, far)[0] == [StreamEnded(stream_id)]
        assert near.open_streams == far.open_streams == 0

    def test_is_reset(self) -> None:
        """Both ends forget it; a second reset is nothing."""
        near, far = pair()
        stream_id = tunnel(near, far)
        near.reset(stream_id, ErrorCode.CONNECT_ERROR)
        near.reset(stream_id, ErrorCode.CANCEL)

        assert exchange(near, far)[1] == [
            StreamReset(stream_id, ErrorCode.CONNECT_ERROR)
        ]
        assert near.open_streams == far.open_streams == 0

    def test_is_refused(self) -> None:
        """Status, reason, end, and the rest of the request is not wanted."""
        near, far = pair()
        stream_id = near.open_stream(REQUEST)
        exchange(near, far)
        far.refuse(stream_id, 401, "no rule\nfor ä")

        assert exchange(near, far)[0] == [
            Answered(stream_id, 401, (("reason", "no rule?for ?"),)),
            StreamEnded(stream_id),
            StreamReset(stream_id, ErrorCode.NO_ERROR),
        ]
        assert near.open_streams == far.open_streams == 0

    def test_is_refused_after_the_client_ended(self) -> None:
        """Then there is nothing to reset."""
        far = server()
        far.receive(headers(1, flags=frames.END_HEADERS | frames.END_STREAM))
        far.refuse(1, 503)

        assert resets(far.take_output()) == []
        assert far.open_streams == 0

    def test_early_data_waits_with_the_owner(self) -> None:
        """A client may send before its answer; the window bounds it."""
        far = server()

        assert [type(e) for e in far.receive(headers(1) + data(1, b"early"))] == [
            ConnectRequested,
            DataReceived,
        ]


class TestMisuse:
    def test_more_than_sendable(self) -> None:
        """A header for data that the peer did not allow is never made."""
        near, far = pair()
        stream_id = tunnel(near, far)
        for length in (-1, 0, WINDOW + 1):
            with pytest.raises(ValueError, match="sendable"):
                near.data_header(stream_id, length)

    def test_streams_that_are_gone(self) -> None:
        """What needs the stream says so; ending it twice does nothing."""
        far = server()
        far.receive(headers(1) + RST(1, ErrorCode.CANCEL))

        with pytest.raises(StreamClosed):
            far.accept(1)
        with pytest.raises(StreamClosed):
            far.data_header(1, 0, end=True)
        with pytest.raises(StreamClosed):
            far.end_stream(1)
        far.take_output()
        far.refuse(1, 503)
        far.reset(1, ErrorCode.CANCEL)
        far.consumed(1, 10)
        assert far.take_output() == b""

    def test_answers_in_the_wrong_order(self) -> None:
        """Nothing precedes the answer and no answer is given twice."""
        far = server()
        far.receive(headers(1))
        with pytest.raises(ValueError, match="first"):
            far.end_stream(1)
        with pytest.raises(ValueError, match="refuses nothing"):
            far.refuse(1, 200)
        far.accept(1)
        with pytest.raises(ValueError, match="has its answer"):
            far.refuse(1, 503)

    def test_a_ping_of_our_own(self) -> None:
        """The payload of the graceful end is not for others."""
        with pytest.raises(ValueError, match="our own"):
            client().ping(FAREWELL)

    def test_a_request_too_large_for_the_peer(self) -> None:
        """It would cost all streams of the connection."""
        near, _ = pair()
        with pytest.raises(InvalidHeader, match="the peer takes"):
            near.open_stream(ConnectRequest("10.0.0.1:80", baggage="a" * 17_000))
        assert near.open_streams == 0


class TestRequests:
    @pytest.mark.parametrize(
        "fields",
        [
            [(":method", "GET"), (":scheme", "https"), (":path", "/")],
            [(":method", "CONNECT")],
            [*CONNECT, ("Upper", "x")],
            [(":method", "CONNECT"), (":authority", "10.0.0.1")],
        ],
    )
    def test_a_malformed_one_gets_an_answer(
        self, fields: list[tuple[str, str]]
    ) -> None:
        """The server edge says 400; until then data is dropped with its credit."""
        far = server()
        (event,) = far.receive(headers(1, fields) + data(1, bytes(1000)))
        assert isinstance(event, MalformedRequest)
        with pytest.raises(ValueError, match="malformed"):
            far.accept(1)
        far.refuse(1, 400, event.reason)

        assert resets(far.take_output()) == [(1, ErrorCode.NO_ERROR)]
        assert far.receive(headers(3))

    def test_too_many(self) -> None:
        """REFUSED_STREAM: the client may try elsewhere (section 8.7)."""
        far = server()
        limit = DEFAULT.max_concurrent_streams or 0
        for number in range(limit):
            far.receive(headers(2 * number + 1))

        assert far.receive(headers(2 * limit + 1)) == []
        assert resets(far.take_output()) == [(2 * limit + 1, ErrorCode.REFUSED_STREAM)]
        assert far.receive(data(2 * limit + 1, b"under way")) == []
        far.reset(1, ErrorCode.CANCEL)
        assert len(far.receive(headers(2 * limit + 3))) == 1

    @pytest.mark.parametrize("stream_id", [0, 2])
    def test_a_wrong_number(self, stream_id: int) -> None:
        """Section 5.1.1: clients have odd ones."""
        fails(server(), headers(stream_id), ErrorCode.PROTOCOL_ERROR)

    def test_a_number_that_was_passed_over(self) -> None:
        """Section 5.1.1: numbers only grow."""
        fails(server(), headers(5) + headers(3), ErrorCode.PROTOCOL_ERROR)

    def test_trailers(self) -> None:
        """Section 8.5: a tunnel has none."""
        far = accepted(server())
        flags = frames.END_HEADERS | frames.END_STREAM

        assert far.receive(headers(1, [("a", "b")], flags)) == [
            StreamReset(1, ErrorCode.PROTOCOL_ERROR)
        ]
        assert resets(far.take_output()) == [(1, ErrorCode.PROTOCOL_ERROR)]

    def test_push(self) -> None:
        """We never allowed it, so a promise breaks the protocol (section 6.6)."""
        promise = frames.frame(FrameType.PUSH_PROMISE, 4, 1, bytes(4) + block())
        fails(accepted(server()), promise, ErrorCode.PROTOCOL_ERROR)


class TestResponses:
    def asked(self) -> Connection:
        near = client()
        near.open_stream(REQUEST)
        near.take_output()
        return near

    def test_interim_ones_are_passed_over(self) -> None:
        """Section 8.1: the final one counts."""
        near = self.asked()
        interim = headers(1, [(":status", "103")])

        assert near.receive(interim + headers(1, STATUS_200)) == [Answered(1, 200, ())]

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            (data(1, b"x"), ErrorCode.PROTOCOL_ERROR),
            (headers(1, [(":status", "101")]), ErrorCode.PROTOCOL_ERROR),
            (headers(1, [(":status", "100")], 5), ErrorCode.PROTOCOL_ERROR),
            (headers(1, [("status", "200")]), ErrorCode.PROTOCOL_ERROR),
            (headers(1, STATUS_200) + headers(1, []), ErrorCode.PROTOCOL_ERROR),
            (headers(1, STATUS_200, 5) + headers(1, []), ErrorCode.STREAM_CLOSED),
        ],
    )
    def test_a_malformed_one_costs_its_stream(
        self, frame: bytes, code: ErrorCode
    ) -> None:
        """Section 8.1.1: a stream error."""
        near = self.asked()

        assert near.receive(frame)[-1] == StreamReset(1, code)
        assert resets(near.take_output()) == [(1, code)]
        assert near.receive(frames.ping(bytes(8))) == []

    def test_content_and_trailers_of_a_refusal(self) -> None:
        """An error page is delivered, its trailers end it."""
        near = self.asked()
        page = headers(1, [(":status", "503")]) + data(1, b"sorry")

        assert joined(near.receive(page + headers(1, [("a", "b")], 5))) == [
            Answered(1, 503, ()),
            (1, b"sorry"),
            StreamEnded(1),
        ]
        assert near.sendable(1) == 0

    def test_to_no_request(self) -> None:
        """Only the client opens streams, so it is idle (section 5.1)."""
        fails(client(), headers(1, STATUS_200), ErrorCode.PROTOCOL_ERROR)

    def test_to_a_request_given_up(self) -> None:
        """It crossed with our reset; its compression state is still followed."""
        near, far = pair()
        first = near.open_stream(REQUEST)
        exchange(near, far)
        near.reset(first, ErrorCode.CANCEL)
        far.accept(first, [("a", "b")])
        near.receive(far.take_output())
        second = near.open_stream(REQUEST)
        far.receive(near.take_output())
        far.accept(second, [("a", "b")])

        assert near.receive(far.take_output()) == [Answered(second, 200, (("a", "b"),))]


class TestHeaderBlocks:
    def test_come_in_continuations(self) -> None:
        """Section 6.10: any number of parts up to the limit, in one sequence."""
        far, whole = server(), block()
        parts = frames.frame(FrameType.HEADERS, 0, 1, whole[:3])
        parts += frames.frame(FrameType.CONTINUATION, 0, 1, whole[3:5])
        parts += frames.frame(FrameType.CONTINUATION, 4, 1, whole[5:])

        assert far.receive(parts) == [ConnectRequested(1, REQUEST)]

    @pytest.mark.parametrize(
        "intruder",
        [
            frames.ping(bytes(8)),
            data(1, b"x"),
            headers(3),
            frames.frame(FrameType.CONTINUATION, 4, 3),
            frames.frame_header(0, 0xBE, 0, 0),
        ],
    )
    def test_are_not_interrupted(self, intruder: bytes) -> None:
        """Section 6.10: whatever else comes is a connection error."""
        start = frames.frame(FrameType.HEADERS, 0, 1, block())
        fails(server(), start + intruder, ErrorCode.PROTOCOL_ERROR)

    def test_continue_something(self) -> None:
        """A CONTINUATION on its own is a connection error."""
        lone = frames.frame(FrameType.CONTINUATION, frames.END_HEADERS, 1, block())
        fails(server(), lone, ErrorCode.PROTOCOL_ERROR)

    def test_have_an_end(self) -> None:
        """CVE-2024-27316, with empty frames and with full ones."""
        start = frames.frame(FrameType.HEADERS, 0, 1, block())
        empty = frames.frame(FrameType.CONTINUATION, 0, 1)
        full = frames.frame(FrameType.CONTINUATION, 0, 1, bytes(16_384))

        fails(server(), start + empty * MAX_BLOCK_FRAMES, ErrorCode.ENHANCE_YOUR_CALM)
        fails(server(), start + full * 2, ErrorCode.ENHANCE_YOUR_CALM)

    def test_bombs_and_nonsense(self) -> None:
        """CVE-2016-6581, and a block that HPACK cannot read."""
        fields = [*CONNECT, *[("a", "b" * 4_000)] * 5]
        nonsense = frames.frame(FrameType.HEADERS, frames.END_HEADERS, 1, b"\x80")

        fails(server(), headers(1, fields), ErrorCode.ENHANCE_YOUR_CALM)
        fails(server(), nonsense, ErrorCode.COMPRESSION_ERROR)


class TestFlowControl:
    def test_credit_returns_as_it_is_consumed(self) -> None:
        """Nothing before half a window, then all of it, to stream and connection."""
        far = accepted(server())
        far.receive(data(1, bytes(WINDOW)))
        far.consumed(1, WINDOW // 2 - 1)
        assert far.take_output() == b""

        far.consumed(1, 1)
        assert credits(far.take_output(), 1) == WINDOW // 2

    def test_a_stream_overrun_costs_the_stream(self) -> None:
        """Section 6.9.1: FLOW_CONTROL_ERROR; the connection's credit is kept."""
        far = accepted(server())
        far.receive(data(1, bytes(WINDOW)))

        assert far.receive(data(1, b"x")) == [
            StreamReset(1, ErrorCode.FLOW_CONTROL_ERROR)
        ]
        assert self.connection_is_whole(far)

    def test_a_connection_overrun_costs_the_connection(self) -> None:
        """Sixteen streams fill its window; one byte more is too much."""
        far = server()
        count = CONNECTION_WINDOW_BYTES // WINDOW
        for number in range(count + 1):
            accepted(far, 2 * number + 1)
        for number in range(count):
            far.receive(data(2 * number + 1, bytes(WINDOW)))

        fails(far, data(2 * count + 1, b"x"), ErrorCode.FLOW_CONTROL_ERROR)

    @pytest.mark.parametrize("how", ["by us", "by them", "in order", "left behind"])
    def test_credit_does_not_leak_with_a_stream(self, how: str) -> None:
        """However a stream ends, the connection gets all of its window back."""
        far = accepted(server())
        far.receive(data(1, bytes(WINDOW // 4)))
        match how:
            case "by us":
                far.reset(1, ErrorCode.CANCEL)
                far.receive(data(1, bytes(WINDOW // 4)))  # it was under way
                far.consumed(1, 17)
            case "by them":
                far.receive(RST(1, ErrorCode.CANCEL))
                far.consumed(1, WINDOW // 4)
            case _:
                far.end_stream(1)
                far.receive(data(1, b"", end=True))
                assert far.open_streams == 0
                far.consumed(1, 99)
                with pytest.raises(ValueError, match="too many"):
                    far.consumed(1, WINDOW)
                if how == "in order":
                    far.consumed(1, WINDOW // 4 - 99)
                else:
                    far.reset(1, ErrorCode.CANCEL)

        assert self.connection_is_whole(far)

    def test_credit_does_not_leak_within_a_frame(self) -> None:
        """A reset between two pieces of one DATA frame counts it once."""
        far = accepted(server())
        frame = data(1, bytes(1000))
        far.receive(frame[:500])
        far.reset(1, ErrorCode.CANCEL)

        assert far.receive(frame[500:]) == []
        assert self.connection_is_whole(far)

    def test_padding_is_credited_at_once(self) -> None:
        """No application ever sees it."""
        far = accepted(server())
        padded = frames.frame(FrameType.DATA, frames.PADDED, 1, b"\xff" + bytes(255))
        for _ in range(WINDOW // 512):
            assert far.receive(padded) == []

        assert credits(far.take_output(), 1) == WINDOW // 2
        far.reset(1, ErrorCode.CANCEL)
        assert self.connection_is_whole(far)

    def connection_is_whole(self, far: Connection) -> bool:
        """No byte is counted as held by an application. To the byte, so from inside."""
        return far._link.receive.held == 0

    def test_all_streams_share_the_connection(self) -> None:
        """What one stream sends, another cannot (section 6.9.1)."""
        far = accepted(accepted(server()), 3)
        for _ in range(3):
            far.data_header(1, 16_384)

        assert far.sendable(3) == 65_535 - 3 * 16_384
        far.data_header(3, far.sendable(3))
        assert (far.sendable(1), far.sendable(3)) == (0, 0)

    def test_no_credit_for_a_stream_that_has_ended(self) -> None:
        """The peer will send no more on it; the connection has its credit."""
        far = accepted(server())
        far.receive(data(1, bytes(WINDOW), end=True))
        far.consumed(1, WINDOW)

        assert far.take_output() == b""
        assert self.connection_is_whole(far)

    def test_windows_open(self) -> None:
        """The owner hears of credit for a stream and for all."""
        far = accepted(server())

        assert far.receive(frames.window_update(1, 5)) == [WindowOpened(1)]
        assert far.receive(frames.window_update(0, 5)) == [WindowOpened(None)]
        assert far.sendable(1) == 16_384

    def test_a_shrunk_window_is_below_zero(self) -> None:
        """Section 6.9.2: nothing may be sent until it is above again."""
        far = accepted(server())
        far.receive(setting(5, 2**20))
        far.data_header(1, 60_000)
        far.receive(setting(4, 10_000))
        assert far.sendable(1) == 0

        far.receive(frames.window_update(1, 50_000))
        assert far.sendable(1) == 0
        far.receive(frames.window_update(1, 1))
        assert far.sendable(1) == 1
        assert far.receive(setting(4, 10_001))[-1] == WindowOpened(None)
        assert far.sendable(1) == 2

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
            (frames.window_update(3, 1), ErrorCode.PROTOCOL_ERROR),
            (frames.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
            (
                frames.window_update(1, 2**31 - 65_536) + setting(4, 65_537),
                ErrorCode.FLOW_CONTROL_ERROR,
            ),
        ],
    )
    def test_a_bad_update_of_the_connection(
        self, frame: bytes, code: ErrorCode
    ) -> None:
        """Sections 6.9 and 6.9.1: zero, idle, too much."""
        fails(accepted(server()), frame, code)

    @pytest.mark.parametrize(
        ("increment", "code"),
        [(0, ErrorCode.PROTOCOL_ERROR), (2**31 - 1, ErrorCode.FLOW_CONTROL_ERROR)],
    )
    def test_a_bad_update_of_a_stream(self, increment: int, code: ErrorCode) -> None:
        """The same, at the cost of the stream alone."""
        far = accepted(server())

        assert far.receive(frames.window_update(1, increment)) == [StreamReset(1, code)]
        assert resets(far.take_output()) == [(1, code)]


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
