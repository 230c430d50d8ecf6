"""Work for nothing has an end; work that goes somewhere has none."""

from __future__ import annotations

import pytest

from agent.hbone.frames import ErrorCode, ProtocolError
from agent.hbone.limits import MAX_ABANDONED_STREAMS, MAX_IDLE_FRAMES, Strain


def test_idle_frames_have_a_limit() -> None:
    """The first frame above it ends the connection."""
    strain = Strain()
    for _ in range(MAX_IDLE_FRAMES):
        strain.idle_frame()

    with pytest.raises(ProtocolError) as error:
        strain.idle_frame()
    assert error.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_abandoned_streams_have_a_limit() -> None:
    """The first stream above it ends the connection."""
    strain = Strain()
    for _ in range(MAX_ABANDONED_STREAMS):
        strain.abandoned_stream()

    with pytest.raises(ProtocolError) as error:
        strain.abandoned_stream()
    assert error.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_heartbeat_clears_both() -> None:
    """A slow trickle over days is no attack."""
    strain = Strain()
    for _ in range(5):
        for _ in range(MAX_ABANDONED_STREAMS):
            strain.abandoned_stream()
            strain.idle_frame()
        strain.heartbeat()


def test_credit_for_our_data_is_no_idle_work() -> None:
    """A peer that returns credit in small steps may, for as long as we send."""
    strain = Strain()
    for _ in range(MAX_IDLE_FRAMES):
        strain.data_sent()
        for _ in range(32):
            strain.idle_frame()


def test_payload_excuses_by_its_length() -> None:
    """A megabyte makes up for a thousand frames, single bytes for none."""
    strain = Strain()
    for _ in range(2 * MAX_IDLE_FRAMES):
        strain.idle_frame()
        strain.data_received(1024)
    strain.heartbeat()
    for _ in range(MAX_IDLE_FRAMES):
        strain.idle_frame()
        strain.data_received(1)

    with pytest.raises(ProtocolError):
        strain.idle_frame()


def test_answered_streams_excuse_abandoned_ones() -> None:
    """An impatient client among patient ones costs nobody the connection."""
    strain = Strain()
    for _ in range(2 * MAX_ABANDONED_STREAMS):
        strain.abandoned_stream()
        strain.stream_answered()
