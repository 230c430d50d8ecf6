"""
What a tunnel has yet to send: frames of all its streams, in order, in one buffer.

An application's bytes are received straight into their place behind the frame header
that goes in front of them, and from there into TLS: nothing is copied in between, and
what several streams have to say leaves in one write.
"""

from __future__ import annotations

from typing import Final

from agent.proxy.buffers import BUFFER_BYTES, BufferPool

# The header of a DATA frame (RFC 9113 section 4.1) is written when its length is known.
HEADER_BYTES: Final = 9
# Less room than this is not worth a frame: send first.
LEAST_PAYLOAD: Final = 4096


class Outbox:
    """Bytes in order; payload only while there is room, control frames always."""

    __slots__ = ("_buffer", "_buffers", "_end", "_overflow", "_start")

    def __init__(self, buffers: BufferPool) -> None:
        self._buffers = buffers
        self._buffer: memoryview | None = None
        self._start = 0
        self._end = 0
        # Control frames that came when the buffer was full; they go out after it.
        self._overflow = bytearray()

    def __bool__(self) -> bool:
        return self._buffer is not None or bool(self._overflow)

    def space(self) -> memoryview | None:
        """Where payload may be received to; then `commit`. None: send first."""
        if self._overflow or BUFFER_BYTES - self._end < HEADER_BYTES + LEAST_PAYLOAD:
            return None
        if self._buffer is None:
            self._buffer = self._buffers.take()
        return self._buffer[self._end + HEADER_BYTES :]

    def commit(self, header: bytes, count: int) -> None:
        """`count` bytes of payload are in `space`; `header` goes in front."""
        assert self._buffer is not None
        start = self._end + HEADER_BYTES
        self._buffer[self._end : start] = header
        self._end = start + count

    def discard_space(self) -> None:
        """Nothing came into `space`."""
        if self._buffer is not None and self._start == self._end:
            self._release()

    def append(self, frames: bytes) -> None:
        """Control frames, behind everything that is there."""
        # There is no overflow without a full buffer: what one read made us answer may
        # exceed a buffer, and comes when there is none.
        room = 0 if self._overflow else BUFFER_BYTES - self._end
        fits = frames[:room]
        if fits:
            if self._buffer is None:
                self._buffer = self._buffers.take()
            self._buffer[self._end : self._end + len(fits)] = fits
            self._end += len(fits)
        self._overflow += frames[room:]

    @property
    def pending(self) -> memoryview:
        """
        What to send next. What was not sent comes again, the same bytes and maybe
        more: OpenSSL has made a record of them already (SSL_write(3)).
        """
        assert self._buffer is not None
        return self._buffer[self._start : self._end]

    def sent(self, count: int) -> None:
        """`count` bytes of `pending` have gone."""
        self._start += count
        if self._start < self._end:
            return
        self._release()
        if self._overflow:
            waiting, self._overflow = self._overflow, bytearray()
            self.append(bytes(waiting))

    def clear(self) -> None:
        """The tunnel is over."""
        self._overflow.clear()
        if self._buffer is not None:
            self._release()

    def _release(self) -> None:
        assert self._buffer is not None
        self._buffers.give(self._buffer)
        self._buffer, self._start, self._end = None, 0, 0
