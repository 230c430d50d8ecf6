"""Messages from a worker arrive whole, or are refused as not being one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.workload.connection import (
    ConnectionChanged,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Endpoint,
    Incident,
    InvalidMessage,
    Message,
    Peer,
    TrafficCounted,
    builtins,
    decode,
    encode,
)

WEB = Endpoint("10.1.0.2:40000", "shop/web", "spiffe://cluster.local/ns/shop/sa/web")
API = Endpoint("10.2.0.2:80", "shop/api", service="shop/api")

OPENED = ConnectionOpened(
    id="0-1",
    worker=0,
    direction="outbound",
    path="tunnel",
    source=WEB,
    destination=API,
    opened=1000.5,
    peer=Peer("spiffe://cluster.local/ns/shop/sa/api", "0a1b", 2000.0),
)
REFUSED = ConnectionRefused(
    id="0-2",
    worker=0,
    direction="inbound",
    path="plaintext",
    source=Endpoint("192.0.2.1:5"),
    destination=API,
    closed=1001.0,
    reason="no identity",
    rule="Server shop/api",
)


class TestDecode:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"null",
            b"{}",
            b'{"type":"Nonsense"}',
            b'{"type":"TrafficCounted","id":"1"}',
            b'{"type":"TrafficCounted","id":"1","sent_bytes":-1,"received_bytes":0}',
            b'{"type":"TrafficCounted","id":1,"sent_bytes":1,"received_bytes":0}',
            b'{"type":"ConnectionClosed","id":"1","outcome":"odd","closed":1}',
            b'{"type":"ConnectionClosed","id":"1","outcome":"closed","closed":1e99}',
            b'{"type":"ConnectionClosed","id":"\xff","outcome":"closed","closed":1}',
            b'{"type":"ConnectionClosed","x":' + b"[" * 100_000,
        ],
    )
    def test_refuses(self, data: bytes) -> None:
        """What is not a message is an InvalidMessage, whatever else it is."""
        with pytest.raises(InvalidMessage):
            decode(data)

    @given(st.binary())
    def test_any_bytes_are_a_message_or_refused(self, data: bytes) -> None:
        """Nothing but InvalidMessage comes out of bytes from another process."""
        try:
            message = decode(data)
        except InvalidMessage:
            return
        assert decode(encode(message)) == message

    @pytest.mark.parametrize(
        "message",
        [
            OPENED,
            REFUSED,
            ConnectionChanged(id="0-1", state="half-closed"),
            TrafficCounted(id="0-1", sent_bytes=10, received_bytes=2**40),
            ConnectionClosed(id="0-1", outcome="closed", closed=1002.0),
            Incident(kind="tls-failed", object="shop/api", message="x", time=1.0),
        ],
    )
    def test_reads_back_what_was_written(self, message: Message) -> None:
        """Every kind of message survives the socket, in one line."""
        written = encode(message)

        assert b"\n" not in written
        assert decode(written) == message

    def test_a_newer_worker_may_say_more(self) -> None:
        """An unknown field is no reason to lose a message."""
        told = json.loads(encode(OPENED)) | {"cipher": "TLS_AES_128_GCM_SHA256"}

        assert decode(json.dumps(told).encode()) == OPENED


class TestBuiltins:
    def test_every_field_is_present(self) -> None:
        """Documents have the same keys whether or not a value is known."""
        assert builtins(API) == {
            "address": "10.2.0.2:80",
            "workload": "shop/api",
            "identity": None,
            "service": "shop/api",
        }

    def test_parts_are_plain_too(self) -> None:
        """Nothing of msgspec is left inside a document."""
        plain = builtins(OPENED)

        assert json.loads(json.dumps(plain)) == plain
        assert plain["peer"]["serial"] == "0a1b"
