"""What a connection tells its owner: the events of `Connection.receive`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from agent.hbone.frames import ErrorCode
from agent.hbone.headers import ConnectRequest


@dataclass(frozen=True, slots=True)
class ConnectRequested:
    """Server: answer with `accept` or `refuse`. DATA may come before the answer."""

    stream_id: int
    request: ConnectRequest


@dataclass(frozen=True, slots=True)
class MalformedRequest:
    """Server: not a CONNECT as RFC 9113 wants it; `refuse` it with 400."""

    stream_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """Client: the final response; bytes flow only if `status` is 2xx."""

    stream_id: int
    status: int
    headers: tuple[tuple[str, str], ...]


class DataReceived(NamedTuple):
    """
    Bytes from the peer, never empty; report them with `consumed` when taken.

    `data` is a view into the buffer given to `receive`, valid until that is reused.
    """

    stream_id: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer's half is closed; ours is as it was."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """
    The stream is gone, both halves: by the peer's RST_STREAM, by a fault of the peer
    that we answered with one, or because a GOAWAY left it out (REFUSED_STREAM).
    """

    stream_id: int
    code: ErrorCode


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """`sendable` may have grown, for one stream or (None) for all."""

    stream_id: int | None


@dataclass(frozen=True, slots=True)
class GoAwayReceived:
    """The peer takes no streams above `last_stream_id`; a second one may lower it."""

    last_stream_id: int
    code: ErrorCode
    debug: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The answer to a `ping` of ours."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class SettingsReceived:
    """The peer's SETTINGS are in force; limits may have changed."""


Event = (
    ConnectRequested
    | MalformedRequest
    | Answered
    | DataReceived
    | StreamEnded
    | StreamReset
    | WindowOpened
    | GoAwayReceived
    | PongReceived
    | SettingsReceived
)
