"""Connections do what their two owners want: tunnels, requests, responses."""

from __future__ import annotations

import pytest

from agent.hbone import frames
from agent.hbone.compression import MAX_BLOCK_FRAMES
from agent.hbone.connection import (
    Answered,
    Connection,
    ConnectRequest,
    ConnectRequested,
    DataReceived,
    InvalidHeader,
    MalformedRequest,
    Role,
    SettingsReceived,
    StreamClosed,
    StreamEnded,
    StreamReset,
)
from agent.hbone.frames import ErrorCode, FrameType
from agent.hbone.link import FAREWELL
from agent.hbone.settings import CONNECTION_WINDOW_BYTES, DEFAULT, Settings
from tests.unit.hbone.wire import (
    CLIENT_HELLO,
    CONNECT,
    REQUEST,
    RST,
    STATUS_200,
    WINDOW,
    accepted,
    block,
    client,
    data,
    exchange,
    fails,
    headers,
    joined,
    pair,
    parsed,
    resets,
    server,
    tunnel,
)


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
        """The request arrives whole, the client may speak, the answer comes back."""
        near, far = pair()
        request = ConnectRequest("[::1]:80", 'for="10.0.0.9:1"', "a=b", None)
        stream_id = near.open_stream(request)

        assert exchange(near, far)[1] == [ConnectRequested(stream_id, request)]
        assert (near.sendable(stream_id), far.sendable(stream_id)) == (WINDOW, 0)
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
