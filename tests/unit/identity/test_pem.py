"""PEM is blocks of one kind and white space; anything else is refused by line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.pem import (
    CERTIFICATE,
    MAX_PEM_BYTES,
    InvalidPem,
    format_blocks,
    parse,
)

BLOCK = b"-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"garbage\n" + BLOCK, "line 1: expected a whole CERTIFICATE block"),
        (BLOCK + b"\n# the old one\n" + BLOCK, "line 5"),
        (BLOCK[28:], "line 1"),
        (BLOCK[:-10], "line 1"),
        (BLOCK.replace(b"AAEC", b"AAE"), "CERTIFICATE: Incorrect padding"),
        (BLOCK.replace(b"CERTIFICATE", b"PRIVATE KEY"), "found PRIVATE KEY"),
        (b"-----BEGIN A-----\nAAEC\n-----END CERTIFICATE-----", "line 1"),
        (b"\xff\xfe\x00", "line 1"),
        (b" " * (MAX_PEM_BYTES + 1), "more than"),
    ],
)
def test_refuses(text: bytes, message: str) -> None:
    """The message says in which line, and what was expected there."""
    with pytest.raises(InvalidPem, match=message):
        parse(text, CERTIFICATE)


def test_white_space_is_nothing() -> None:
    """Blank lines, carriage returns and a missing last newline change nothing."""
    text = b"\r\n\n" + BLOCK.replace(b"\n", b"\r\n") + b"\n\n" + BLOCK.rstrip()

    assert parse(text, CERTIFICATE) == (b"\0\1\2", b"\0\1\2")
    assert parse(b" \n", CERTIFICATE) == ()


@given(st.lists(st.binary(max_size=200)))
def test_what_is_formatted_is_read_back(ders: list[bytes]) -> None:
    """Any documents survive the way to PEM and back."""
    assert parse(format_blocks(ders, CERTIFICATE), CERTIFICATE) == tuple(ders)


@given(st.binary())
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    """Nothing but InvalidPem comes out."""
    with contextlib.suppress(InvalidPem):
        parse(text, CERTIFICATE)
