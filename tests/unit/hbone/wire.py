"""Both ends of an HBONE connection in memory, and hand-made frames for one of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hpack import Encoder

from agent.hbone import frames
from agent.hbone.connection import (
    Connection,
    ConnectRequest,
    ConnectRequested,
    DataReceived,
    Event,
    ProtocolError,
    Role,
)
from agent.hbone.frames import ErrorCode, FrameType
from agent.hbone.settings import DEFAULT

WINDOW = DEFAULT.initial_window_size
RST = frames.rst_stream
STATUS_200 = [(":status", "200")]

EMPTY_SETTINGS = frames.frame(FrameType.SETTINGS, 0, 0)
CLIENT_HELLO = frames.PREFACE + EMPTY_SETTINGS
REQUEST = ConnectRequest("10.0.0.1:80")
CONNECT = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")]


def server() -> Connection:
    """A server that has had a client's preface and SETTINGS, its output taken."""
    connection = Connection(Role.SERVER)
    connection.receive(CLIENT_HELLO)
    connection.take_output()
    return connection


def client() -> Connection:
    """A client that has had a server's SETTINGS, its output taken."""
    connection = Connection(Role.CLIENT)
    connection.receive(EMPTY_SETTINGS)
    connection.take_output()
    return connection


def pair() -> tuple[Connection, Connection]:
    """A client and a server that know each other's SETTINGS."""
    near, far = Connection(Role.CLIENT), Connection(Role.SERVER)
    exchange(near, far)
    return near, far


def exchange(near: Connection, far: Connection) -> tuple[list[Event], list[Event]]:
    """Carry output both ways until there is none: what each of the two was told."""
    told_near: list[Event] = []
    told_far: list[Event] = []
    while True:
        to_far, to_near = near.take_output(), far.take_output()
        if not to_far and not to_near:
            return told_near, told_far
        told_far += far.receive(to_far)
        told_near += near.receive(to_near)


def tunnel(near: Connection, far: Connection) -> int:
    """Open a stream and accept it."""
    stream_id = near.open_stream(REQUEST)
    exchange(near, far)
    far.accept(stream_id)
    exchange(near, far)
    return stream_id


def accepted(connection: Connection, stream_id: int = 1) -> Connection:
    """`connection`, a server, with a hand-made request accepted; output taken."""
    (event,) = connection.receive(headers(stream_id))
    assert isinstance(event, ConnectRequested)
    connection.accept(stream_id)
    connection.take_output()
    return connection


def block(fields: Iterable[tuple[str, str]] = CONNECT) -> bytes:
    """A header block that needs no table: any encoder could have made it."""
    return Encoder().encode([(n, v, True) for n, v in fields])


def headers(
    stream_id: int,
    fields: Iterable[tuple[str, str]] = CONNECT,
    flags: int = frames.END_HEADERS,
) -> bytes:
    return frames.frame(FrameType.HEADERS, flags, stream_id, block(fields))


def data(stream_id: int, payload: bytes, *, end: bool = False) -> bytes:
    flags = frames.END_STREAM if end else 0
    return frames.frame(FrameType.DATA, flags, stream_id, payload)


def setting(identifier: int, value: int) -> bytes:
    payload = struct.pack(">HI", identifier, value)
    return frames.frame(FrameType.SETTINGS, 0, 0, payload)


def parsed(output: bytes) -> list[tuple[FrameType, int, int, bytes]]:
    """Type, flags, stream and payload of each whole frame in `output`."""
    found = []
    while output:
        length, kind, flags, stream_id = frames.parse_frame_header(output[:9])
        found.append((FrameType(kind), flags, stream_id, output[9 : 9 + length]))
        output = output[9 + length :]
    return found


def resets(output: bytes) -> list[tuple[int, ErrorCode]]:
    """The RST_STREAM frames in `output`."""
    return [
        (stream_id, frames.parse_error_code(payload))
        for kind, _, stream_id, payload in parsed(output)
        if kind is FrameType.RST_STREAM
    ]


def goaways(output: bytes) -> list[tuple[int, ErrorCode]]:
    """The GOAWAY frames in `output`: last stream and code."""
    return [
        frames.parse_goaway(payload)[:2]
        for kind, _, _, payload in parsed(output)
        if kind is FrameType.GOAWAY
    ]


def credits(output: bytes, stream_id: int) -> int:
    """The sum of WINDOW_UPDATEs for a stream (0: the connection) in `output`."""
    return sum(
        frames.parse_u31(payload)
        for kind, _, stream, payload in parsed(output)
        if kind is FrameType.WINDOW_UPDATE and stream == stream_id
    )


def joined(events: Iterable[Event]) -> list[object]:
    """Events with adjacent DATA of one stream put together as (stream, bytes)."""
    result: list[object] = []
    for event in events:
        if not isinstance(event, DataReceived):
            result.append(event)
            continue
        last = result[-1] if result else None
        if isinstance(last, tuple) and last[0] == event.stream_id:
            result[-1] = (event.stream_id, last[1] + bytes(event.data))
        else:
            result.append((event.stream_id, bytes(event.data)))
    return result


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
