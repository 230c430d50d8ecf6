"""The reader of captures, against frames built here byte by byte."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import pcap
from tests.lab.pcap import ACK, SYN, Capture, Flow, InvalidCapture, Segment

FLOW = Flow("10.244.1.10", 40000, "10.244.2.10", 15008)
FLOW6 = Flow("fd00:244:1::10", 40000, "fd00:244:2::10", 15008)


def tcp(flow: Flow, payload: bytes = b"", sequence: int = 1, flags: int = ACK) -> bytes:
    """A TCP segment in IPv4 or IPv6 in Ethernet."""
    ports = struct.pack("!HHII", flow.source_port, flow.destination_port, sequence, 0)
    segment = ports + bytes([5 << 4, flags]) + bytes(6) + payload
    source = ipaddress.ip_address(flow.source).packed
    destination = ipaddress.ip_address(flow.destination).packed
    if len(source) == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0)
        return bytes(12) + b"\x08\x00" + head + source + destination + segment
    head = struct.pack("!IHBB", 6 << 28, len(segment), 6, 64)
    return bytes(12) + b"\x86\xdd" + head + source + destination + segment


def file(*frames: bytes, link: int = 1, order: str = "<") -> bytes:
    """A capture file of whole frames."""
    head = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, link)
    each = [
        struct.pack(f"{order}IIII", 0, 0, len(frame), len(frame)) + frame
        for frame in frames
    ]
    return head + b"".join(each)


@pytest.mark.parametrize("data", [b"", b"\xd4\xc3\xb2\xa1", b"\x0a\x0d\x0d\x0a" * 8])
def test_what_is_no_capture_is_refused(data: bytes) -> None:
    """An empty file, half a header, and pcapng."""
    with pytest.raises(InvalidCapture):
        Capture.parse(data)


def test_another_link_type_is_refused() -> None:
    """Linux cooked capture has its addresses elsewhere."""
    with pytest.raises(InvalidCapture, match="link type 276"):
        Capture.parse(file(link=276))


def test_a_frame_that_was_cut_is_refused() -> None:
    """A marker could be in the part that is missing."""
    frame = tcp(FLOW, b"hello")
    cut = struct.pack("<IIII", 0, 0, len(frame), len(frame) + 1) + frame
    with pytest.raises(InvalidCapture, match="was cut"):
        Capture.parse(file() + cut)


def test_a_last_frame_half_written_is_left_out() -> None:
    """A capture that is read while tcpdump writes ends anywhere."""
    whole = file(tcp(FLOW, b"one"), tcp(FLOW, b"two", 4))
    assert len(Capture.parse(whole[:-1]).frames) == 1


@pytest.mark.parametrize("flow", [FLOW, FLOW6])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_segment_is_read(flow: Flow, order: str) -> None:
    """Both families, in files of either byte order."""
    capture = Capture.parse(file(tcp(flow, b"hello", 7), order=order))
    assert capture.segments == [Segment(flow, 7, ACK, b"hello")]
    assert capture.others == {}


def test_padding_after_the_packet_is_no_payload() -> None:
    """Ethernet pads short frames; the IP header tells the length."""
    capture = Capture.parse(file(tcp(FLOW, b"x") + bytes(6)))
    assert capture.segments[0].payload == b"x"


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (b"\0" * 5, "short frame"),
        (bytes(12) + b"\x08\x06" + bytes(28), "arp"),
        (bytes(12) + b"\x88\xb5" + bytes(28), "ethertype 0x88b5"),
        (bytes(12) + b"\x08\x00" + b"\x45" + bytes(5) + b"\x20\x00" + bytes(12), None),
        (bytes(12) + b"\x08\x00" + b"\x45" + bytes(8) + b"\x11" + bytes(10), "udp"),
        (bytes(12) + b"\x86\xdd" + bytes(6) + b"\x2c" + bytes(33), None),
    ],
)
def test_nothing_is_passed_over(frame: bytes, name: str | None) -> None:
    """What is not TCP is counted under a name, fragments too."""
    others = Capture.parse(file(frame)).others
    assert sum(others.values()) == 1
    assert name is None or name in others


def test_a_stream_is_put_in_order() -> None:
    """Late, repeated and overlapping segments give each byte once."""
    frames = [
        tcp(FLOW, sequence=100, flags=SYN),
        tcp(FLOW, b"cdef", 103),
        tcp(FLOW, b"ab", 101),
        tcp(FLOW, b"ab", 101),
        tcp(FLOW, b"bcd", 102),
    ]
    (stream,) = Capture.parse(file(*frames)).streams()
    assert (stream.data, stream.whole) == (b"abcdef", True)


def test_sequence_numbers_wrap() -> None:
    """A stream may begin just below 2^32."""
    frames = [
        tcp(FLOW, sequence=2**32 - 2, flags=SYN),
        tcp(FLOW, b"ab", 2**32 - 1),
        tcp(FLOW, b"cd", 1),
    ]
    (stream,) = Capture.parse(file(*frames)).streams()
    assert stream.data == b"abcd"


def test_a_gap_ends_what_is_known() -> None:
    """Bytes after a lost segment are not glued to those before it."""
    frames = [tcp(FLOW, sequence=0, flags=SYN), tcp(FLOW, b"a", 1), tcp(FLOW, b"c", 3)]
    (stream,) = Capture.parse(file(*frames)).streams()
    assert (stream.data, stream.whole) == (b"a", False)


def test_a_stream_from_before_the_capture_is_not_whole() -> None:
    """Without its SYN nobody knows what came first."""
    (stream,) = Capture.parse(file(tcp(FLOW, b"tail", 999))).streams()
    assert (stream.data, stream.whole) == (b"tail", False)


def test_a_port_used_again_is_another_stream() -> None:
    """A second SYN with a number of its own begins anew."""
    frames = [
        tcp(FLOW, sequence=0, flags=SYN),
        tcp(FLOW, b"one", 1),
        tcp(FLOW, sequence=5000, flags=SYN),
        tcp(FLOW, b"two", 5001),
    ]
    streams = Capture.parse(file(*frames)).streams()
    assert [stream.data for stream in streams] == [b"one", b"two"]


def test_a_marker_is_found_across_frames() -> None:
    """Two halves in two segments are readable; what was not sent is not."""
    frames = [
        tcp(FLOW, sequence=0, flags=SYN),
        tcp(FLOW, b"sec", 1),
        tcp(FLOW, b"ret", 4),
    ]
    capture = Capture.parse(file(*frames))
    assert capture.contains(b"secret")
    assert not capture.contains(b"secrets")


def test_the_way_back() -> None:
    """Both directions of one connection are each other's `back`, and print well."""
    assert FLOW.back.back == FLOW
    assert str(FLOW6) == "[fd00:244:1::10]:40000 > [fd00:244:2::10]:15008"


@given(st.lists(st.binary(max_size=120), max_size=5))
def test_any_frames_are_read_or_named(frames: list[bytes]) -> None:
    """No frame raises, and each is a segment or counted."""
    capture = Capture.parse(file(*frames))
    assert len(capture.segments) + sum(capture.others.values()) == len(frames)
    capture.streams()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_capture_or_refused(data: bytes) -> None:
    """A file of any bytes raises nothing but InvalidCapture."""
    try:
        list(pcap.frames(data))
    except InvalidCapture:
        return
