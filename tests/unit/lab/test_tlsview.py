"""What an onlooker can tell of TLS."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import tlsview
from tests.lab.pcap import Flow, Stream
from tests.lab.tlsview import NotTls, Record

UP = Flow("10.244.1.10", 40000, "10.244.2.10", 15008)
RECORD = b"\x17\x03\x03\x00\x02ab"


def server_hello(*extensions: bytes, legacy: bytes = b"\x03\x03") -> bytes:
    """A ServerHello with an empty session id."""
    block = b"".join(extensions)
    body = legacy + bytes(32) + b"\0" + b"\x13\x01\0" + len(block).to_bytes(2) + block
    return b"\x02" + len(body).to_bytes(3) + body


def record(kind: int, body: bytes) -> bytes:
    """One record."""
    return Record(kind, 0x0303, body).header + body


TLS13 = server_hello(b"\0\x33\0\x02ab", b"\0\x2b\0\x02\x03\x04")
TLS12 = server_hello(b"\xff\x01\0\x01\0")


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"\x17\x02\x00\x00\x00", b"\x17\x03\x03\xff\xffab"],
    ids=["http", "ssl2", "too-long"],
)
def test_what_is_no_record_is_told(data: bytes) -> None:
    """Plain text, another protocol version, a length above the limit."""
    with pytest.raises(NotTls):
        tlsview.split_records(data)


def test_records_are_split() -> None:
    """Whole records come out, the rest waits for more."""
    records, rest = tlsview.split_records(RECORD * 2 + RECORD[:4])
    assert records == [Record(23, 0x0303, b"ab")] * 2
    assert rest == RECORD[:4]
    assert records[0].header + records[0].body == RECORD


def test_the_version_is_in_the_extension() -> None:
    """TLS 1.3 says 1.2 in the old field and 1.3 in supported_versions."""
    assert tlsview.agreed_version(TLS13) == 0x0304
    assert tlsview.agreed_version(TLS12) == 0x0303


@pytest.mark.parametrize("hello", [b"", b"\x01" + bytes(60), TLS13[:20]])
def test_another_message_is_no_server_hello(hello: bytes) -> None:
    """Nothing, a ClientHello, and half a ServerHello."""
    with pytest.raises(NotTls):
        tlsview.agreed_version(hello)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_real_server_hello_is_read(version: str) -> None:
    """OpenSSL's own client offers; only the version that it got counts."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.maximum_version = ssl.TLSVersion[version]
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = client.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    records, rest = tlsview.split_records(outgoing.read())
    assert (len(records), records[0].kind, rest) == (1, 22, b"")


def test_a_good_connection_has_no_fault() -> None:
    """Hellos in the clear, then only protected records."""
    up = record(22, b"\x01hello") + record(20, b"\x01") + record(23, b"x")
    down = record(22, TLS13) + record(20, b"\x01") + record(23, b"y")
    streams = [Stream(UP, up, whole=True), Stream(UP.back, down, whole=True)]
    assert tlsview.faults(streams, 15008) == []
    assert tlsview.handshakes(streams, 15008) == {UP: 0x0304}


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (Stream(Flow("a", 1, "b", 80), b"", whole=True), "not on port"),
        (Stream(UP, b"GET / HTTP/1.1", whole=True), "no TLS record"),
        (Stream(UP.back, record(22, TLS12), whole=True), "0x0303"),
        (Stream(UP.back, record(22, b"\x01"), whole=True), "not a ServerHello"),
        (Stream(UP, record(22, b"\x01") * 2, whole=True), "in the clear"),
    ],
    ids=["port", "plaintext", "tls-1.2", "no-hello", "handshake"],
)
def test_each_fault_is_named(stream: Stream, fault: str) -> None:
    """Another port, no TLS, an old version, a handshake that all can read."""
    (told,) = tlsview.faults([stream], 15008)
    assert fault in told


def test_the_middle_of_a_stream_is_held_to_the_port_only() -> None:
    """Where records begin is not known without the start."""
    assert tlsview.faults([Stream(UP, b"in the middle")], 15008) == []


@given(st.binary(max_size=100))
def test_any_stream_is_judged(data: bytes) -> None:
    """No bytes raise out of `faults`."""
    for flow in (UP, UP.back):
        tlsview.faults([Stream(flow, data, whole=True)], 15008)
