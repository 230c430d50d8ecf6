"""Frames that cost more than they carry: the work grows with the frames alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hbone import frames
from agent.hbone.compression import MAX_TABLE_SIZE_UPDATES, HeaderDecoder
from agent.hbone.connection import (
    Connection,
    ConnectRequested,
    DataReceived,
    ProtocolError,
    Role,
)
from agent.hbone.frames import ErrorCode, FrameType
from agent.hbone.headers import ConnectRequest
from agent.hbone.limits import (
    HEADERS_COST,
    MAX_IDLE_FRAMES,
    STREAMS_RESIZED_PER_IDLE_FRAME,
    TURN_COST,
)
from agent.hbone.settings import Setting

STREAMS = 64
METHOD_GET = b"\x82"


def resized(window: int) -> bytes:
    """A SETTINGS frame that changes the initial window."""
    payload = int(Setting.INITIAL_WINDOW_SIZE).to_bytes(2) + window.to_bytes(4)
    return frames.frame(FrameType.SETTINGS, 0, 0, payload)


def joined(streams: int = STREAMS) -> tuple[Connection, Connection, list[int]]:
    """A client and a server with so many streams that have their answer."""
    client, server = Connection(Role.CLIENT), Connection(Role.SERVER)
    server.receive(client.take_output())
    client.receive(server.take_output())
    server.receive(client.take_output())
    ids = [client.open_stream(ConnectRequest("10.0.0.1:80")) for _ in range(streams)]
    told = server.receive(client.take_output())
    assert sum(isinstance(event, ConnectRequested) for event in told) == streams
    for stream_id in ids:
        server.accept(stream_id)
    server.take_output()
    return client, server, ids


class TestTableSizeUpdates:
    @pytest.mark.parametrize("updates", range(MAX_TABLE_SIZE_UPDATES + 1))
    def test_two_in_a_block_are_taken(self, updates: int) -> None:
        block = b"\x20" * updates + METHOD_GET
        assert HeaderDecoder(1000).decode(block) == [(b":method", b"GET")]

    @pytest.mark.parametrize("update", [b"\x20", b"\x3f\x01", b"\x3f\x80\x01"])
    def test_more_end_the_connection(self, update: bytes) -> None:
        block = update * (MAX_TABLE_SIZE_UPDATES + 1) + METHOD_GET
        with pytest.raises(ProtocolError, match="table size updates") as caught:
            HeaderDecoder(1000).decode(block)
        assert caught.value.code is ErrorCode.COMPRESSION_ERROR

    def test_a_size_that_never_ends_is_an_error(self) -> None:
        with pytest.raises(ProtocolError):
            HeaderDecoder(1000).decode(b"\x3f" + b"\xff" * 100)


class TestWindows:
    def test_the_last_size_counts(self) -> None:
        _, server, ids = joined()
        server.receive(resized(100) + resized(0))
        assert [server.sendable(each) for each in ids] == [0] * STREAMS
        server.receive(resized(7))
        assert [server.sendable(each) for each in ids] == [7] * STREAMS

    def test_a_smaller_size_and_an_update_keep_their_order(self) -> None:
        _, server, ids = joined(1)
        room = 2**31 - 1
        server.receive(resized(0) + frames.window_update(ids[0], room))
        with pytest.raises(ProtocolError, match="grows by"):
            server.receive(resized(1))

    def test_a_stream_that_opens_after_the_change_counts_it_once(self) -> None:
        client, server, _ = joined(1)
        client.receive(server.take_output())
        late = client.open_stream(ConnectRequest("10.0.0.1:80"))
        server.receive(resized(5) + client.take_output())
        server.accept(late)
        assert server.sendable(late) == 5

    def test_a_resize_counts_for_the_streams_that_it_touches(self) -> None:
        _, server, _ = joined()
        each = 1 + STREAMS // STREAMS_RESIZED_PER_IDLE_FRAME
        flood = b"".join(resized(2**20 + n) for n in range(MAX_IDLE_FRAMES // each + 1))
        with pytest.raises(ProtocolError) as caught:
            server.receive(flood)
        assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


PING = frames.ping(b"12345678", ack=False)


class TestTurns:
    """What one turn takes in is limited by the work that it makes."""

    def test_small_frames_fill_a_turn(self) -> None:
        _, server, _ = joined(1)
        view = memoryview(PING * (3 * TURN_COST))
        _, count = server.receive_turn(view)
        assert count == len(PING) * TURN_COST

    def test_tiny_data_fills_a_turn(self) -> None:
        client, server, ids = joined(1)
        one = client.data_header(ids[0], 1) + b"x"
        events, count = server.receive_turn(memoryview(one * (3 * TURN_COST)))
        assert (len(events), count) == (TURN_COST, len(one) * TURN_COST)

    def test_header_blocks_cost_more(self) -> None:
        client, server, _ = joined(1)
        for _ in range(30):
            client.open_stream(ConnectRequest("10.0.0.1:80"))
        events, _ = server.receive_turn(memoryview(client.take_output()))
        assert len(events) == TURN_COST // HEADERS_COST

    def test_resizing_many_streams_costs_more(self) -> None:
        _, server, _ = joined()
        one = resized(7) + resized(8)
        events, _ = server.receive_turn(memoryview(one * TURN_COST))
        limit = STREAMS // STREAMS_RESIZED_PER_IDLE_FRAME
        # Each tells of itself, and each second one of a window.
        assert len(events) <= 2 * (TURN_COST // limit + 1)

    def test_a_read_of_bulk_is_one_turn(self) -> None:
        client, server, ids = joined(1)
        full = 16384
        read = b"".join(
            client.data_header(each, full) + bytes(full) for each in ids * 16
        )
        assert server.receive_turn(memoryview(read))[1] == len(read)

    @given(cuts=st.lists(st.integers(1, 4000), max_size=20))
    def test_turns_tell_what_one_call_tells(self, cuts: list[int]) -> None:
        client, server, ids = joined(4)
        twin_client, twin, _ = joined(4)
        said = _many_frames(client, ids)
        assert said == _many_frames(twin_client, ids)
        told = twin.receive(said)
        heard, start = [], 0
        for cut in [*cuts, len(said)]:
            view = memoryview(said)[start : start + cut]
            start += len(view)
            while len(view):
                events, count = server.receive_turn(view)
                assert count > 0
                heard += [_plain(event) for event in events]
                view = view[count:]
        assert _joined_data(heard) == _joined_data([_plain(each) for each in told])
        assert server.take_output() == twin.take_output()


def _many_frames(client: Connection, ids: list[int]) -> bytes:
    said = b""
    for number in range(400):
        stream = ids[number % len(ids)]
        said += client.data_header(stream, 1 + number % 7) + bytes(1 + number % 7)
        said += PING if number % 3 else resized(1000 + number)
    return said


def _plain(event: object) -> object:
    """A view of bytes compares by its content, wherever it stands."""
    if isinstance(event, DataReceived):
        return event.stream_id, bytes(event.data)
    return event


def _joined_data(events: list[object]) -> tuple[dict[int, bytes], list[object]]:
    """Pieces of one frame may come apart where the stream of bytes was cut."""
    data: dict[int, bytes] = {}
    others: list[object] = []
    for event in events:
        if isinstance(event, tuple) and not hasattr(event, "_fields"):
            data[event[0]] = data.get(event[0], b"") + event[1]
        else:
            others.append(event)
    return data, others
