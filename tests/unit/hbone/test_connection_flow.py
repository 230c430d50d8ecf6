"""Windows: nothing is sent without credit, and none of it leaks."""

from __future__ import annotations

import pytest

from agent.hbone import frames
from agent.hbone.connection import (
    Connection,
    StreamReset,
    WindowOpened,
)
from agent.hbone.frames import ErrorCode, FrameType
from agent.hbone.settings import CONNECTION_WINDOW_BYTES
from tests.unit.hbone.wire import (
    RST,
    WINDOW,
    accepted,
    credits,
    data,
    fails,
    resets,
    server,
    setting,
)


class TestFlowControl:
    def test_credit_returns_as_it_is_consumed(self) -> None:
        """Nothing before half a window, then all of it, to stream and connection."""
        far = accepted(server())
        far.receive(data(1, bytes(WINDOW)))
        far.consumed(1, WINDOW // 2 - 1)
        assert far.take_output() == b""

        far.consumed(1, 1)
        assert credits(far.take_output(), 1) == WINDOW // 2

    def test_a_stream_overrun_costs_the_stream(self) -> None:
        """Section 6.9.1: FLOW_CONTROL_ERROR; the connection's credit is kept."""
        far = accepted(server())
        far.receive(data(1, bytes(WINDOW)))

        assert far.receive(data(1, b"x")) == [
            StreamReset(1, ErrorCode.FLOW_CONTROL_ERROR)
        ]
        assert self.connection_is_whole(far)

    def test_a_connection_overrun_costs_the_connection(self) -> None:
        """Sixteen streams fill its window; one byte more is too much."""
        far = server()
        count = CONNECTION_WINDOW_BYTES // WINDOW
        for number in range(count + 1):
            accepted(far, 2 * number + 1)
        for number in range(count):
            far.receive(data(2 * number + 1, bytes(WINDOW)))

        fails(far, data(2 * count + 1, b"x"), ErrorCode.FLOW_CONTROL_ERROR)

    @pytest.mark.parametrize("how", ["by us", "by them", "in order", "left behind"])
    def test_credit_does_not_leak_with_a_stream(self, how: str) -> None:
        """However a stream ends, the connection gets all of its window back."""
        far = accepted(server())
        far.receive(data(1, bytes(WINDOW // 4)))
        match how:
            case "by us":
                far.reset(1, ErrorCode.CANCEL)
                far.receive(data(1, bytes(WINDOW // 4)))  # it was under way
                far.consumed(1, 17)
            case "by them":
                far.receive(RST(1, ErrorCode.CANCEL))
                far.consumed(1, WINDOW // 4)
            case _:
                far.end_stream(1)
                far.receive(data(1, b"", end=True))
                assert far.open_streams == 0
                far.consumed(1, 99)
                with pytest.raises(ValueError, match="too many"):
                    far.consumed(1, WINDOW)
                if how == "in order":
                    far.consumed(1, WINDOW // 4 - 99)
                else:
                    far.reset(1, ErrorCode.CANCEL)

        assert self.connection_is_whole(far)

    def test_credit_does_not_leak_within_a_frame(self) -> None:
        """A reset between two pieces of one DATA frame counts it once."""
        far = accepted(server())
        frame = data(1, bytes(1000))
        far.receive(frame[:500])
        far.reset(1, ErrorCode.CANCEL)

        assert far.receive(frame[500:]) == []
        assert self.connection_is_whole(far)

    def test_padding_is_credited_at_once(self) -> None:
        """No application ever sees it."""
        far = accepted(server())
        padded = frames.frame(FrameType.DATA, frames.PADDED, 1, b"\xff" + bytes(255))
        for _ in range(WINDOW // 512):
            assert far.receive(padded) == []

        assert credits(far.take_output(), 1) == WINDOW // 2
        far.reset(1, ErrorCode.CANCEL)
        assert self.connection_is_whole(far)

    def connection_is_whole(self, far: Connection) -> bool:
        """No byte is counted as held by an application. To the byte, so from inside."""
        return far._link.receive.held == 0

    def test_all_streams_share_the_connection(self) -> None:
        """What one stream sends, another cannot (section 6.9.1)."""
        far = accepted(accepted(server()), 3)
        for _ in range(3):
            far.data_header(1, 16_384)

        assert far.sendable(3) == 65_535 - 3 * 16_384
        far.data_header(3, far.sendable(3))
        assert (far.sendable(1), far.sendable(3)) == (0, 0)

    def test_no_credit_for_a_stream_that_has_ended(self) -> None:
        """The peer will send no more on it; the connection has its credit."""
        far = accepted(server())
        far.receive(data(1, bytes(WINDOW), end=True))
        far.consumed(1, WINDOW)

        assert far.take_output() == b""
        assert self.connection_is_whole(far)

    def test_windows_open(self) -> None:
        """The owner hears of credit for a stream and for all."""
        far = accepted(server())

        assert far.receive(frames.window_update(1, 5)) == [WindowOpened(1)]
        assert far.receive(frames.window_update(0, 5)) == [WindowOpened(None)]
        assert far.sendable(1) == 16_384

    def test_a_shrunk_window_is_below_zero(self) -> None:
        """Section 6.9.2: nothing may be sent until it is above again."""
        far = accepted(server())
        far.receive(setting(5, 2**20))
        far.data_header(1, 60_000)
        far.receive(setting(4, 10_000))
        assert far.sendable(1) == 0

        far.receive(frames.window_update(1, 50_000))
        assert far.sendable(1) == 0
        far.receive(frames.window_update(1, 1))
        assert far.sendable(1) == 1
        assert far.receive(setting(4, 10_001))[-1] == WindowOpened(None)
        assert far.sendable(1) == 2

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            (frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
            (frames.window_update(3, 1), ErrorCode.PROTOCOL_ERROR),
            (frames.window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
            (
                frames.window_update(1, 2**31 - 65_536) + setting(4, 65_537),
                ErrorCode.FLOW_CONTROL_ERROR,
            ),
        ],
    )
    def test_a_bad_update_of_the_connection(
        self, frame: bytes, code: ErrorCode
    ) -> None:
        """Sections 6.9 and 6.9.1: zero, idle, too much."""
        fails(accepted(server()), frame, code)

    @pytest.mark.parametrize(
        ("increment", "code"),
        [(0, ErrorCode.PROTOCOL_ERROR), (2**31 - 1, ErrorCode.FLOW_CONTROL_ERROR)],
    )
    def test_a_bad_update_of_a_stream(self, increment: int, code: ErrorCode) -> None:
        """The same, at the cost of the stream alone."""
        far = accepted(server())

        assert far.receive(frames.window_update(1, increment)) == [StreamReset(1, code)]
        assert resets(far.take_output()) == [(1, code)]
