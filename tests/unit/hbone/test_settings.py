"""SETTINGS are told as they are and taken only within the standard's ranges."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hbone import settings
from agent.hbone.frames import ErrorCode, ProtocolError
from agent.hbone.settings import DEFAULT, INITIAL, Role, Settings


def payload(*entries: tuple[int, int]) -> bytes:
    return b"".join(struct.pack(">HI", *entry) for entry in entries)


class TestApply:
    @pytest.mark.parametrize(
        ("entry", "sender", "code"),
        [
            ((2, 2), Role.CLIENT, ErrorCode.PROTOCOL_ERROR),
            ((2, 1), Role.SERVER, ErrorCode.PROTOCOL_ERROR),
            ((4, 2**31), Role.CLIENT, ErrorCode.FLOW_CONTROL_ERROR),
            ((5, 2**14 - 1), Role.CLIENT, ErrorCode.PROTOCOL_ERROR),
            ((5, 2**24), Role.CLIENT, ErrorCode.PROTOCOL_ERROR),
        ],
    )
    def test_refuses(
        self, entry: tuple[int, int], sender: Role, code: ErrorCode
    ) -> None:
        """Section 6.5.2 names the error of each value."""
        with pytest.raises(ProtocolError) as error:
            settings.apply(INITIAL, payload(entry), sender)
        assert error.value.code is code

    def test_refuses_a_broken_entry(self) -> None:
        """Section 6.5: entries have six bytes."""
        with pytest.raises(ProtocolError) as error:
            settings.apply(INITIAL, b"12345", Role.CLIENT)
        assert error.value.code is ErrorCode.FRAME_SIZE_ERROR

    def test_the_last_of_several_values_counts(self) -> None:
        """Section 6.5.3: in the order in which they appear."""
        after = settings.apply(INITIAL, payload((3, 7), (3, 9)), Role.CLIENT)

        assert after == replace(INITIAL, max_concurrent_streams=9)

    def test_ignores_what_it_does_not_know(self) -> None:
        """Section 6.5.2: unknown identifiers MUST be ignored."""
        assert settings.apply(INITIAL, payload((0xF00D, 1)), Role.SERVER) == INITIAL

    @given(st.binary(max_size=60))
    def test_any_bytes(self, data: bytes) -> None:
        """Nothing but ProtocolError comes out."""
        try:
            settings.apply(INITIAL, data, Role.CLIENT)
        except ProtocolError:
            return


class TestEncode:
    def test_the_client_tells_what_differs_from_the_standard(self) -> None:
        """No push, 1 MiB windows and frames, 16 KiB of headers."""
        frame = settings.encode(DEFAULT, Role.CLIENT)

        assert frame[9:] == payload((2, 0), (4, 2**20), (5, 2**20), (6, 2**14))

    def test_the_server_limits_streams(self) -> None:
        """And says nothing about push, which is not its to allow."""
        frame = settings.encode(DEFAULT, Role.SERVER)

        assert frame[9:] == payload((3, 200), (4, 2**20), (5, 2**20), (6, 2**14))

    def test_reads_back(self) -> None:
        """A peer of ours understands us."""
        frame = settings.encode(DEFAULT, Role.CLIENT)

        assert settings.apply(INITIAL, frame[9:], Role.CLIENT) == replace(
            DEFAULT, max_concurrent_streams=None
        )


class TestCheckLocal:
    @pytest.mark.parametrize(
        "ours",
        [
            Settings(initial_window_size=65_534),
            Settings(initial_window_size=settings.CONNECTION_WINDOW_BYTES),
            Settings(max_frame_size=2**14 - 1),
            Settings(max_frame_size=2**24),
        ],
    )
    def test_refuses(self, ours: Settings) -> None:
        """Windows that a peer may overrun unknowing, or that could starve others."""
        with pytest.raises(ValueError, match="out of range"):
            settings.check_local(ours)

    def test_takes_the_defaults(self) -> None:
        """Ours and the standard's."""
        settings.check_local(DEFAULT)
        settings.check_local(INITIAL)
