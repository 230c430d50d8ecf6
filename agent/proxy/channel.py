"""
The Unix socketpair between control and one worker.

A frame is a 4-byte big-endian length and that many bytes. File descriptors ride on
the first byte of their frame (SCM_RIGHTS, unix(7)) and arrive in order, so a message
that knows how many are its own takes them from the front of the queue.
"""

from __future__ import annotations

import array
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Final

import trio

from agent.errors import PodlockError

LENGTH: Final = struct.Struct("!I")
# A world of 10,000 peers is about 5 MB; a frame above this is a bug, not a message.
MAX_FRAME_BYTES: Final = 256 << 20
# The kernel's own limit on descriptors in one message (SCM_MAX_FD).
MAX_DESCRIPTORS: Final = 253


class ChannelClosed(PodlockError):
    """The other process is gone."""


class Channel:
    """Frames and descriptors over a connected Unix stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = trio.socket.from_stdlib_socket(sock)
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._sending = trio.Lock()

    async def send(self, frame: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one frame. Raises: ChannelClosed."""
        data = memoryview(LENGTH.pack(len(frame)) + frame)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            async with self._sending:
                sent = await self._socket.sendmsg([data], rights if descriptors else [])
                while sent < len(data):
                    sent += await self._socket.send(data[sent:])
        except OSError as error:
            raise ChannelClosed(f"channel: {error.strerror}") from error

    async def receive(self) -> bytes:
        """The next frame. Raises: ChannelClosed at the end of the stream."""
        await self._fill(LENGTH.size)
        (length,) = LENGTH.unpack_from(self._received)
        if length > MAX_FRAME_BYTES:
            raise ChannelClosed(f"channel: a frame of {length} bytes")
        await self._fill(LENGTH.size + length)
        frame = bytes(self._received[LENGTH.size : LENGTH.size + length])
        del self._received[: LENGTH.size + length]
        return frame

    def take_descriptors(self, count: int) -> list[int]:
        """The next `count` descriptors that came along; the caller owns them."""
        return [self._descriptors.popleft() for _ in range(count)]

    def close(self) -> None:
        """Close the socket and every descriptor that nobody took."""
        self._socket.close()
        while self._descriptors:
            socket.close(self._descriptors.popleft())

    async def _fill(self, wanted: int) -> None:
        space = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        while len(self._received) < wanted:
            try:
                data, ancillary, flags, _ = await self._socket.recvmsg(1 << 18, space)
            except OSError as error:
                raise ChannelClosed(f"channel: {error.strerror}") from error
            if flags & socket.MSG_CTRUNC:
                # Some are lost, and those of the next frame would pass for them.
                raise ChannelClosed("channel: no room for the descriptors that came")
            for level, kind, payload in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    numbers = array.array("i")
                    numbers.frombytes(payload[: len(payload) // 4 * 4])
                    self._descriptors.extend(numbers)
            if not data:
                raise ChannelClosed("channel: the other process is gone")
            self._received += data
