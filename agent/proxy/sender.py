"""
The sending half of a tunnel: what gathers during a batch of events leaves in one write.

An application's bytes are received straight into the outbox (`space`, `commit`), and
frames that the codec made are appended. When the peer does not take it all, the streams
that have more are held, first come, first served, until it does: that is the
back-pressure, and the fairness between streams.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

import trio

from agent.hbone.connection import Connection as Codec
from agent.log import logger
from agent.proxy.data_path import DataPath
from agent.proxy.outbox import Outbox
from agent.proxy.reactor import NOTHING, READABLE, WRITABLE
from agent.proxy.transport import Transport, TransportFailed

log = logger()


class Held(Protocol):
    """A stream that has something to send."""

    def resume(self) -> None:
        """There is space again."""


class Sender:
    """
    Sends for one tunnel, which it tells when it has sent all (`on_empty`) and when it
    cannot send (`on_failure`, with None for a bug of ours). After a failure it never
    sends again: what the peer said before it left may still be read.
    """

    def __init__(
        self,
        transport: Transport,
        codec: Codec,
        path: DataPath,
        on_empty: Callable[[], None],
        on_failure: Callable[[TransportFailed | None], None],
    ) -> None:
        self.stuck_since: float | None = None
        """When the peer took something last, if it does not take all (trio's clock)."""
        self._transport = transport
        self._codec = codec
        self._reactor = path.reactor
        self._outbox = Outbox(path.buffers)
        self._on_empty = on_empty
        self._on_failure = on_failure
        self._held: dict[Held, None] = {}  # in order, each once
        self._descriptor = -1  # while the reactor watches it
        self._works = True
        self._reads = True

    def start(self, descriptor: int) -> None:
        """The reactor watches the tunnel's socket from now on."""
        self._descriptor = descriptor

    def stop(self) -> None:
        """
        The tunnel is over; its last words, a GOAWAY, go out if that is possible without
        waiting or tearing a frame.
        """
        if self._works:
            with contextlib.suppress(TransportFailed):
                self._say_last()
        self._works = False
        self._descriptor = -1
        self._outbox.clear()
        self._held.clear()

    def read_when_sent(self, waits: bool) -> None:
        """
        Whether the tunnel reads only once the socket takes more: OpenSSL has an answer
        to send first, to a KeyUpdate say.
        """
        if self._reads == waits:
            self._reads = not waits
            self._watch()

    def wake(self) -> None:
        """There may be something to send: after this batch."""
        if self._works:
            self._reactor.later(self.flush)

    def space(self) -> memoryview | None:
        """
        Where a stream's payload may be received to; then `commit`.

        What was queued before, an answer or a reset, precedes it. None: the peer does
        not take what there is; `hold` the stream.
        """
        self._collect()
        space = self._outbox.space()
        if space is None:
            self.flush()
            space = self._outbox.space() if self._works else None
        return space

    def commit(self, stream_id: int, count: int) -> None:
        """`count` bytes of a stream stand in `space`; 0 gives the space back."""
        if count:
            self._outbox.commit(self._codec.data_header(stream_id, count), count)
            self._reactor.later(self.flush)
        else:
            self._outbox.discard_space()

    def hold(self, stream: Held) -> None:
        """The stream has something to send, and goes on when there is space."""
        self._held[stream] = None

    def flush(self) -> None:
        """Send what there is, as far as the peer takes it."""
        if not self._works:
            return
        try:
            self._flush()
        except TransportFailed as error:
            self._works = False
            self._on_failure(error)
        except Exception:  # a bug ends this tunnel, and its streams hear of it
            log.exception("a tunnel cannot send by a bug")
            self._works = False
            self._on_failure(None)

    def _flush(self) -> None:
        self._collect()
        while self._outbox:
            count = self._transport.send_now(self._outbox.pending)
            if not count:
                self._stick()
                return
            self._outbox.sent(count)
            self._collect()
            if self.stuck_since is not None:
                self.stuck_since = trio.current_time()  # it does read
        if self.stuck_since is not None:
            self._unstick()
        self._on_empty()

    def _collect(self) -> None:
        if self._codec.has_output:
            self._outbox.append(self._codec.take_output())

    def _stick(self) -> None:
        """The peer takes no more for now: the reactor tells when it does."""
        if self.stuck_since is None:
            self.stuck_since = trio.current_time()
            self._watch()

    def _watch(self) -> None:
        if self._descriptor >= 0:
            reads = READABLE if self._reads else NOTHING
            writes = self.stuck_since is not None or not self._reads
            self._reactor.change(self._descriptor, reads | (WRITABLE if writes else 0))

    def _unstick(self) -> None:
        self.stuck_since = None
        self._watch()
        held, self._held = self._held, {}
        for stream in held:
            stream.resume()

    def _say_last(self) -> None:
        while self._outbox:
            count = self._transport.send_now(self._outbox.pending)
            if not count:
                return
            self._outbox.sent(count)
        if self._codec.has_output:
            self._transport.send_now(memoryview(self._codec.take_output()))
