"""
HTTP/2 SETTINGS: the values, ours and the peer's (RFC 9113 section 6.5).

`INITIAL` is what holds for a peer until its first SETTINGS frame; `DEFAULT` is what we
announce.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import Final

from agent.hbone.flow import INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES
from agent.hbone.frames import (
    ACK,
    MAX_MAX_FRAME_BYTES,
    MIN_MAX_FRAME_BYTES,
    ErrorCode,
    FrameType,
    ProtocolError,
    frame,
)

_ENTRY: Final = struct.Struct(">HI")

# All streams of a connection together. More than one stream's window, or one stalled
# stream could take all credit and starve the others.
CONNECTION_WINDOW_BYTES: Final = 4 * 2**20

# What we keep of a header list where our own settings name no limit.
DEFAULT_HEADER_LIST_BYTES: Final = 2**16

SETTINGS_ACK: Final = frame(FrameType.SETTINGS, ACK, 0)


class Role(Enum):
    """Which end of the connection: only the client opens streams."""

    CLIENT = "client"
    SERVER = "server"


class Setting(IntEnum):
    """The identifiers of RFC 9113 section 6.5.2; any other is ignored."""

    HEADER_TABLE_SIZE = 0x01
    ENABLE_PUSH = 0x02
    MAX_CONCURRENT_STREAMS = 0x03
    INITIAL_WINDOW_SIZE = 0x04
    MAX_FRAME_SIZE = 0x05
    MAX_HEADER_LIST_SIZE = 0x06


@dataclass(frozen=True, slots=True)
class Settings:
    """One side's values; the defaults are the standard's. Sizes are in bytes."""

    header_table_size: int = 4096
    enable_push: bool = True
    max_concurrent_streams: int | None = None
    initial_window_size: int = INITIAL_WINDOW_BYTES
    max_frame_size: int = MIN_MAX_FRAME_BYTES
    max_header_list_size: int | None = None


INITIAL: Final = Settings()

DEFAULT: Final = Settings(
    # Nothing pushes in a tunnel.
    enable_push=False,
    # As ztunnel: a client that needs more opens another connection.
    max_concurrent_streams=200,
    # 1 MiB keeps 8 Gbit/s busy over a millisecond; ztunnel has 4 MiB, which a
    # stalled reader would make us hold for every stream.
    initial_window_size=2**20,
    # As ztunnel. It costs nothing: DATA passes through in pieces.
    max_frame_size=2**20,
    # A CONNECT request has well under 1 KiB.
    max_header_list_size=16 * 2**10,
)


def check_local(settings: Settings) -> None:
    """
    Refuse values that we could not live up to. Raises: ValueError.

    A window may not be smaller than the standard's initial one: the peer may use
    that until our SETTINGS reach it.
    """
    window, frame_size = settings.initial_window_size, settings.max_frame_size
    if not INITIAL_WINDOW_BYTES <= window < CONNECTION_WINDOW_BYTES:
        raise ValueError(f"initial_window_size: {window} is out of range")
    if not MIN_MAX_FRAME_BYTES <= frame_size <= MAX_MAX_FRAME_BYTES:
        raise ValueError(f"max_frame_size: {frame_size} is out of range")


def encode(settings: Settings, role: Role) -> bytes:
    """The SETTINGS frame that tells `settings`, leaving out what is standard."""
    entries = {
        Setting.HEADER_TABLE_SIZE: settings.header_table_size,
        Setting.ENABLE_PUSH: int(settings.enable_push),
        Setting.MAX_CONCURRENT_STREAMS: settings.max_concurrent_streams,
        Setting.INITIAL_WINDOW_SIZE: settings.initial_window_size,
        Setting.MAX_FRAME_SIZE: settings.max_frame_size,
        Setting.MAX_HEADER_LIST_SIZE: settings.max_header_list_size,
    }
    # Push is the client's to allow, the number of streams the server's.
    others = (
        Setting.ENABLE_PUSH if role is Role.SERVER else Setting.MAX_CONCURRENT_STREAMS
    )
    payload = b"".join(
        _ENTRY.pack(setting, value)
        for setting, value in entries.items()
        if value is not None
        and setting is not others
        and not _is_initial(setting, value)
    )
    return frame(FrameType.SETTINGS, 0, 0, payload)


def apply(before: Settings, payload: bytes, sender: Role) -> Settings:
    """
    What holds for `sender` after a SETTINGS payload.

    Raises: ProtocolError with the code that section 6.5.2 names for the value.
    """
    if len(payload) % _ENTRY.size:
        raise ProtocolError(
            ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes"
        )
    values: dict[str, int | bool] = {}
    for identifier, value in _ENTRY.iter_unpack(payload):
        try:
            setting = Setting(identifier)
        except ValueError:
            continue  # Section 6.5.2: unknown identifiers MUST be ignored.
        _check(setting, value, sender)
        values[setting.name.lower()] = value
    if "enable_push" in values:
        values["enable_push"] = bool(values["enable_push"])
    return replace(before, **values)  # type: ignore[arg-type]  # names match by design


def _check(setting: Setting, value: int, sender: Role) -> None:
    code = ErrorCode.PROTOCOL_ERROR
    match setting:
        case Setting.ENABLE_PUSH:
            # Only 0 may come from a server.
            valid = value <= (1 if sender is Role.CLIENT else 0)
        case Setting.INITIAL_WINDOW_SIZE:
            valid, code = value <= MAX_WINDOW_BYTES, ErrorCode.FLOW_CONTROL_ERROR
        case Setting.MAX_FRAME_SIZE:
            valid = MIN_MAX_FRAME_BYTES <= value <= MAX_MAX_FRAME_BYTES
        case _:
            valid = True
    if not valid:
        raise ProtocolError(code, f"SETTINGS {setting.name}: {value} is out of range")


def _is_initial(setting: Setting, value: int) -> bool:
    return bool(getattr(INITIAL, setting.name.lower()) == value)
