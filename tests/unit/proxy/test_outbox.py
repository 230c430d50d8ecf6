"""What goes in comes out: every byte, in order, however the socket takes it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.proxy.buffers import BUFFER_BYTES, BufferPool
from agent.proxy.outbox import HEADER_BYTES, LEAST_PAYLOAD, Outbox

HEADER = b"H" * HEADER_BYTES


class CountingPool(BufferPool):
    """Knows how many buffers are out."""

    def __init__(self) -> None:
        super().__init__()
        self.out = 0

    def take(self) -> memoryview:
        self.out += 1
        return super().take()

    def give(self, buffer: memoryview) -> None:
        self.out -= 1
        super().give(buffer)


def put(outbox: Outbox, payload: bytes) -> None:
    space = outbox.space()
    assert space is not None
    space[: len(payload)] = payload
    outbox.commit(HEADER, len(payload))


def send_all(outbox: Outbox, at_once: int = 1 << 30) -> bytes:
    sent = b""
    while outbox:
        piece = bytes(outbox.pending[:at_once])
        sent += piece
        outbox.sent(len(piece))
    return sent


def fill(outbox: Outbox) -> bytes:
    """Payload until there is no room for more; what that makes on the wire."""
    wire = b""
    while (space := outbox.space()) is not None:
        payload = bytes(space)[:100_000]
        put(outbox, payload)
        wire += HEADER + payload
    return wire


def test_headers_precede_their_payload() -> None:
    """The payload is received behind where its header goes; frames keep their order."""
    outbox = Outbox(BufferPool())
    outbox.append(b"first")
    put(outbox, b"payload")
    outbox.append(b"last")
    assert bytes(outbox.pending) == b"first" + HEADER + b"payload" + b"last"


def test_what_was_not_sent_comes_again() -> None:
    """After a part was sent: the same bytes, and maybe more behind them."""
    outbox = Outbox(BufferPool())
    outbox.append(b"abcdef")
    outbox.sent(2)
    outbox.append(b"gh")
    assert bytes(outbox.pending) == b"cdefgh"


def test_no_room_for_payload() -> None:
    """A full outbox gives no space until it was sent, and then all of it."""
    outbox = Outbox(BufferPool())
    wire = fill(outbox)
    assert BUFFER_BYTES - len(wire) < HEADER_BYTES + LEAST_PAYLOAD
    outbox.sent(len(wire) - 1)
    assert outbox.space() is None
    outbox.sent(1)
    space = outbox.space()
    assert space is not None
    assert len(space) == BUFFER_BYTES - HEADER_BYTES


def test_control_frames_always_fit() -> None:
    """More than a buffer of them, behind what is there; payload waits its turn."""
    outbox = Outbox(BufferPool())
    wire = fill(outbox)
    for number in range(3):
        frames = bytes([number]) * BUFFER_BYTES
        outbox.append(frames)
        wire += frames
    assert outbox.space() is None
    assert send_all(outbox, 60_000) == wire
    assert outbox.space() is not None


def test_holds_a_buffer_only_while_there_is_something() -> None:
    """A tunnel with nothing to send has given its buffer back."""
    pool = CountingPool()
    outbox = Outbox(pool)
    assert not outbox
    put(outbox, b"x")
    assert pool.out == 1
    send_all(outbox)
    assert (pool.out, bool(outbox)) == (0, False)
    outbox.space()
    outbox.discard_space()
    assert pool.out == 0
    fill(outbox)
    outbox.append(bytes(BUFFER_BYTES))
    outbox.clear()
    assert (pool.out, bool(outbox)) == (0, False)


def test_space_given_back_keeps_what_waits() -> None:
    """Nothing was received into it, but frames before it are still to go."""
    outbox = Outbox(BufferPool())
    outbox.append(b"waits")
    outbox.space()
    outbox.discard_space()
    assert bytes(outbox.pending) == b"waits"


steps = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 300_000)),
    st.tuples(st.just("put"), st.integers(1, 200_000)),
    st.tuples(st.just("send"), st.integers(1, 300_000)),
    st.tuples(st.just("nothing"), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25))
def test_any_order(todo: list[tuple[str, int]]) -> None:
    """Whatever is put in and sent in whatever pieces arrives as it was put in."""
    pool = CountingPool()
    outbox = Outbox(pool)
    wire, sent = bytearray(), bytearray()
    for number, (what, size) in enumerate(todo):
        mark = bytes([number])
        if what == "append":
            outbox.append(mark * size)
            wire += mark * size
        elif what == "put" and (space := outbox.space()) is not None:
            payload = mark * min(size, len(space))
            put(outbox, payload)
            wire += HEADER + payload
        elif what == "send" and outbox:
            piece = bytes(outbox.pending[:size])
            outbox.sent(len(piece))
            sent += piece
        elif what == "nothing" and outbox.space() is not None:
            outbox.discard_space()
        assert pool.out == bool(outbox)
    assert bytes(sent) + send_all(outbox) == bytes(wire)
    assert pool.out == 0
