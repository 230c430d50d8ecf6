"""
What a peer may make us do for nothing.

Some frames are cheap to send, cost work here and move no connection forward: PING,
SETTINGS, empty DATA, streams that are opened and reset at once (CVE-2019-9512, -9515,
-9518, CVE-2023-44487, CVE-2025-8671). The codec has no clock, so it sets them
off against progress (payload, answered streams), and an answer to a PING of *ours*
clears the count: we choose how often we ping, every 10 seconds or so, and a peer that
does not read cannot answer. Hence these limits also bound what waits in the output,
except for answers to requests: those are for the owner, who notices a peer that does
not read.
"""

from __future__ import annotations

from typing import Final

from agent.hbone.frames import ErrorCode, ProtocolError

# A thousand a second; nobody has as many settings or keepalives.
MAX_IDLE_FRAMES: Final = 10_000
# All of 200 streams given up every two seconds: more than any outage makes of clients
# with sane timeouts. Envoy closes at 500.
MAX_ABANDONED_STREAMS: Final = 1_000
# A DATA frame of ours has 16 KiB or more; some peers return credit each half KiB.
IDLE_FRAMES_EXCUSED_PER_DATA: Final = 32
BYTES_RECEIVED_PER_IDLE_FRAME: Final = 1024
# A change of the initial window is applied to each stream: so many count as a frame.
STREAMS_RESIZED_PER_IDLE_FRAME: Final = 8
# So many frames are handled before other connections have their turn: a millisecond or
# two. A read of the fullest frames, 256 KiB, has 17.
TURN_COST: Final = 128
HEADERS_COST: Final = 16


class Strain:
    """Work without progress, less progress, since the last heartbeat."""

    __slots__ = ("_abandoned_streams", "_idle_frames")

    def __init__(self) -> None:
        self._idle_frames = 0
        self._abandoned_streams = 0

    def idle_frame(self, cost: int = 1) -> None:
        """
        Count a frame that moved nothing, as `cost` frames where it makes as much work.

        Raises: ProtocolError at the limit.
        """
        self._idle_frames += cost
        if self._idle_frames > MAX_IDLE_FRAMES:
            raise ProtocolError(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"{MAX_IDLE_FRAMES} frames without progress in one heartbeat",
            )

    def abandoned_stream(self) -> None:
        """Count a stream that died before its answer or by the peer's fault."""
        self._abandoned_streams += 1
        if self._abandoned_streams > MAX_ABANDONED_STREAMS:
            raise ProtocolError(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"{MAX_ABANDONED_STREAMS} streams given up in one heartbeat",
            )

    def data_received(self, length: int) -> None:
        """Payload is progress, by its length: tiny frames would excuse too much."""
        if self._idle_frames:
            excused = length // BYTES_RECEIVED_PER_IDLE_FRAME
            self._idle_frames = max(0, self._idle_frames - excused)

    def stream_answered(self) -> None:
        """A stream that lived to its answer stands for one that did not."""
        if self._abandoned_streams:
            self._abandoned_streams -= 1

    def data_sent(self) -> None:
        """A DATA frame of ours makes the peer send WINDOW_UPDATEs; let it."""
        if self._idle_frames:
            self._idle_frames = max(0, self._idle_frames - IDLE_FRAMES_EXCUSED_PER_DATA)

    def heartbeat(self) -> None:
        """The peer answered a PING of ours: time has passed, and it reads."""
        self._idle_frames = self._abandoned_streams = 0
