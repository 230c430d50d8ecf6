"""
What the two directions of one connection share.

`Inbound` (frames from the peer) and `Connection` (wishes of our side) both end
streams, return credit and queue frames; that happens here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hpack import HeaderTuple

from agent.hbone import frames, settings
from agent.hbone.compression import HeaderEncoder, header_frames
from agent.hbone.flow import INITIAL_WINDOW_BYTES, ReceiveWindow, SendWindow
from agent.hbone.frames import ErrorCode, ProtocolError, StreamError
from agent.hbone.limits import Strain
from agent.hbone.settings import CONNECTION_WINDOW_BYTES, Role, Settings
from agent.hbone.stream import Cause, Ending, Phase, Stream, StreamClosed, Streams

# The PING between the two GOAWAYs of a graceful end (RFC 9113 section 6.8).
FAREWELL: Final = b"farewell"


class Link:
    """One connection's state: settings, windows, streams, output."""

    def __init__(self, role: Role, local: Settings) -> None:
        settings.check_local(local)
        self.role = role
        self.local = local
        self.peer = settings.INITIAL
        self.streams = Streams(role)
        self.send = SendWindow()
        self.receive = ReceiveWindow(CONNECTION_WINDOW_BYTES)
        self.encoder = HeaderEncoder()
        self.strain = Strain()
        self.output: list[bytes] = []
        self.pings: set[bytes] = set()
        """PINGs of ours that wait for their answer."""
        self.draining = False
        self.farewell_pending = False
        """The first GOAWAY of two is out (see `Connection.goaway`)."""
        self.last_accepted: int | None = None
        """Once our final GOAWAY is out: the highest stream that we take."""
        self.failure: ProtocolError | None = None
        self._greet()

    def _greet(self) -> None:
        if self.role is Role.CLIENT:
            self.output.append(frames.PREFACE)
        self.output.append(settings.encode(self.local, self.role))
        increment = CONNECTION_WINDOW_BYTES - INITIAL_WINDOW_BYTES
        self.output.append(frames.window_update(0, increment))

    def unanswered(self, stream_id: int) -> Stream | None:
        """A stream that waits for `accept` or `refuse`; None if it is gone."""
        assert self.role is Role.SERVER, "only a server answers"
        stream = self.streams.live.get(stream_id)
        if stream and stream.phase not in (Phase.ASKED, Phase.MALFORMED):
            raise ValueError(f"stream {stream_id} has its answer")
        return stream

    def sending(self, stream_id: int) -> Stream:
        """A stream whose local half is open for DATA. Raises: StreamClosed."""
        stream = self.streams.live.get(stream_id)
        if stream is None or not stream.sends:
            raise StreamClosed(f"stream {stream_id}: our half is closed")
        if not self.may_send(stream):
            raise ValueError(f"stream {stream_id}: accept or refuse it first")
        return stream

    def may_send(self, stream: Stream) -> bool:
        """Whether bytes of ours may flow on an open half, as far as answers go."""
        early = self.role is Role.CLIENT and stream.phase is Phase.ASKED
        return early or stream.phase is Phase.CONNECTED

    def new_stream(self, stream_id: int) -> Stream:
        stream = Stream(
            stream_id, self.peer.initial_window_size, self.local.initial_window_size
        )
        self.streams.open(stream)
        return stream

    def queue_headers(
        self, stream_id: int, fields: Sequence[HeaderTuple], *, ends_stream: bool
    ) -> None:
        block = self.encoder.encode(fields)
        self.output.append(
            header_frames(
                stream_id,
                block,
                ends_stream=ends_stream,
                max_frame_bytes=self.peer.max_frame_size,
            )
        )

    def end_local(self, stream: Stream) -> None:
        """We have sent END_STREAM."""
        stream.move(Cause.SENT_END)
        if not stream.receives:
            self._settle_later(stream)

    def end_remote(self, stream: Stream) -> None:
        """The peer has sent END_STREAM."""
        stream.move(Cause.RECEIVED_END)
        if not stream.sends:
            self._settle_later(stream)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream by an RST_STREAM of ours."""
        self.output.append(frames.rst_stream(stream.id, code))
        self.drop(stream, Ending.RESET_BY_US)

    def drop(self, stream: Stream, ending: Ending) -> None:
        """
        A stream is over before its time.

        What the application holds of it, or was still to get, is taken as consumed:
        connection credit must not leak with it.
        """
        stream.move(Cause.RESET)
        self.streams.close(stream, ending)
        self.credit_connection(stream.receive.held)

    def credit_connection(self, length: int) -> None:
        if credit := self.receive.consumed(length):
            self.output.append(frames.window_update(0, credit))

    def credit_stream(self, stream: Stream, length: int) -> None:
        """Raises: ValueError for more than is held."""
        credit = stream.receive.consumed(length)
        # A peer that has ended its half has no use for credit.
        if credit and stream.receives:
            self.output.append(frames.window_update(stream.id, credit))

    def late_frame(self, stream_id: int, name: str) -> None:
        """
        DATA or HEADERS for a stream that is not live (RFC 9113 section 5.1, "closed").

        Raises: ProtocolError or StreamError, unless a reset of ours explains it.
        """
        self.refuse_idle(stream_id, name)
        self.strain.idle_frame()
        ending = self.streams.ending(stream_id)
        if ending is Ending.IN_ORDER:
            raise ProtocolError(
                ErrorCode.STREAM_CLOSED, f"{name} on ended stream {stream_id}"
            )
        if ending is not Ending.RESET_BY_US:
            raise StreamError(
                stream_id, ErrorCode.STREAM_CLOSED, f"{name} on a stream that is gone"
            )

    def refuse_idle(self, stream_id: int, name: str) -> None:
        """Raises: ProtocolError where `name` came before its stream (section 5.1)."""
        if self.streams.is_idle(stream_id):
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, f"{name} on idle stream {stream_id}"
            )

    def settle(self, stream_id: int, length: int) -> None:
        """
        `length` bytes of a stream that ended in order are consumed now.

        Raises: ValueError for more than is held.
        """
        left = self.streams.settling[stream_id] - length
        if length < 0 or left < 0:
            raise ValueError(f"{length} bytes consumed of an ended stream, too many")
        if left:
            self.streams.settling[stream_id] = left
        else:
            del self.streams.settling[stream_id]
        self.credit_connection(length)

    def queue_first_goaway(self) -> None:
        """We shall go, but every stream under way is still taken."""
        self.draining = self.farewell_pending = True
        self.output.append(
            frames.goaway(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR)
            + frames.ping(FAREWELL)
        )
        self.pings.add(FAREWELL)

    def queue_final_goaway(self, code: ErrorCode, debug: str = "") -> None:
        """New streams from now on are refused."""
        self.draining = True
        self.farewell_pending = False
        if self.last_accepted is None:
            self.last_accepted = self.streams.highest_processed
        self.output.append(frames.goaway(self.last_accepted, code, debug))

    def fail(self, failure: ProtocolError) -> None:
        """The connection is over: say so to the peer, forget every stream."""
        self.queue_final_goaway(failure.code, str(failure))
        self.failure = failure
        self.streams.live.clear()
        self.streams.settling.clear()

    def _settle_later(self, stream: Stream) -> None:
        self.streams.close(stream, Ending.IN_ORDER)
        if held := stream.receive.held:
            self.streams.settling[stream.id] = held
