"""Descriptors have names; a growth is told by them."""

from __future__ import annotations

import os
import socket
from collections import Counter

import pytest

from tests.soak import held


def test_own_sockets_are_told_by_state_and_peer() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address, port = listener.getsockname()
        before = held.held({"me": os.getpid()})
        with socket.create_connection((address, port)):
            after = held.held({"me": os.getpid()})
    assert before["me"][f"tcp LISTEN on {address}:{port}"] == 1
    grown = held.more(before, after)
    assert grown["me"] == {f"tcp ESTABLISHED with {address}:{port}": 1}


def test_who_holds_no_more_is_left_out() -> None:
    before = {"one": Counter({"/dev/null": 2, "pipe": 1}), "two": Counter({"pipe": 1})}
    after = {"one": Counter({"/dev/null": 1, "pipe": 1}), "two": Counter({"pipe": 3})}
    assert held.more(before, after) == {"two": {"pipe": 2}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0100007F:1F90", "127.0.0.1:8080"),
        ("B80D01200000000000000000D5000000:0001", "2001:db8::d5:1"),
    ],
)
def test_endpoints_of_both_families(text: str, expected: str) -> None:
    assert held.endpoint(text) == expected
