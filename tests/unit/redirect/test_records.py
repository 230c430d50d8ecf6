"""The bytes that programs and user space share, to the byte."""

from __future__ import annotations

import ipaddress
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import IPAddress, SocketAddress, parse_ip, unmapped
from agent.errors import PodlockError
from agent.redirect import records
from agent.redirect.records import InvalidRecord

NETNS = 0x0102030405060708

addresses = st.builds(
    SocketAddress, st.ip_addresses().map(unmapped), st.integers(0, 65535)
)


@pytest.mark.parametrize("length", [0, 19, 21])
def test_an_address_of_another_size_is_refused(length: int) -> None:
    """Programs of another version are found out, not misread."""
    with pytest.raises(InvalidRecord, match="expected 20"):
        records.unpack_address(bytes(length))


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Nothing but our own errors comes out of what a map holds."""
    for unpack in (
        records.unpack_address,
        records.unpack_flow,
        records.unpack_pod,
        records.unpack_cookie,
        records.unpack_grant,
        records.unpack_note,
        records.unpack_service,
        records.unpack_trace,
    ):
        try:
            unpack(data)
        except PodlockError:
            continue


def test_ipv4_is_in_its_mapped_form() -> None:
    """::ffff:10.1.2.3 and port 8080 in network order, padding zero."""
    packed = records.pack_address(SocketAddress.parse("10.1.2.3:8080"))

    assert packed.hex() == "00000000000000000000ffff0a010203" + "1f90" + "0000"


def test_a_flow_begins_with_the_namespace() -> None:
    """The cookie in the machine's order, the address, four bytes of padding."""
    source = SocketAddress.parse("[::1]:1")

    packed = records.pack_flow(NETNS, source)

    assert packed[:8] == NETNS.to_bytes(8, sys.byteorder)
    assert packed[8:28] == records.pack_address(source)
    assert packed[28:] == bytes(4)


@given(addresses)
def test_an_address_is_read_back(address: SocketAddress) -> None:
    """What is packed is what is read."""
    assert records.unpack_address(records.pack_address(address)) == address


@given(st.integers(0, 2**64 - 1), addresses)
def test_a_flow_is_read_back(netns: int, source: SocketAddress) -> None:
    """What is packed is what is read."""
    assert records.unpack_flow(records.pack_flow(netns, source)) == (netns, source)


@given(st.integers(0, 2**64 - 1))
def test_a_cookie_is_read_back(cookie: int) -> None:
    """All 64 bits of it."""
    assert records.unpack_cookie(records.pack_cookie(cookie)) == cookie


def test_a_pair_has_the_shape_of_a_flow() -> None:
    """One packing serves both, and both are read back."""
    to = SocketAddress.parse("10.1.2.3:80")
    assert records.pack_pair(NETNS, to) == records.pack_flow(NETNS, to)
    assert records.unpack_pair(records.pack_pair(NETNS, to)) == (NETNS, to)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_grant_is_read_back(verdict: int, netns: int) -> None:
    """Its id and the namespace it is about."""
    assert records.unpack_grant(records.pack_grant(verdict, netns)) == (verdict, netns)


class TestTrace:
    ENDS = tuple(map(SocketAddress.parse, ("10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3")))
    HEAD = struct.pack("=QQ", 7, NETNS) + b"".join(map(records.pack_address, ENDS))

    def test_is_read(self) -> None:
        """Every field from its place."""
        data = self.HEAD + struct.pack("=IQQQQQ", 5, 10**9, 2 * 10**9, 3, 4, 5)
        trace = records.unpack_trace(data)
        assert (trace.verdict, trace.netns, trace.state) == (7, NETNS, 5)
        assert (trace.source, trace.destination, trace.meant) == self.ENDS
        assert (trace.opened, trace.closed) == (1.0, 2.0)
        counts = (trace.acked_bytes, trace.received_bytes, trace.received_before)
        assert counts == (3, 4, 5)

    @pytest.mark.parametrize("closed", [0, 1, 1 << 63])
    def test_a_glance_tells_what_the_whole_does(self, closed: int) -> None:
        """Verdict, namespace, and whether it is over."""
        data = self.HEAD + struct.pack("=IQQQQQ", 5, 2**64 - 1, closed, 9, 9, 9)
        glance = records.Glance(1, data)
        trace = glance.trace()
        assert (glance.verdict, glance.netns) == (trace.verdict, trace.netns)
        assert glance.is_closed is (trace.closed is not None)


class TestPod:
    IP4, IP6 = parse_ip("10.1.2.3"), parse_ip("fd00::7")

    @pytest.mark.parametrize(
        ("given_", "kept"),
        [
            ([], ()),
            ([IP4], (IP4,)),
            ([IP6], (IP6,)),
            ([IP6, IP4], (IP4, IP6)),
            ([IP4, parse_ip("10.9.9.9"), IP6], (IP4, IP6)),
        ],
    )
    def test_keeps_the_first_of_each_family(
        self, given_: list[IPAddress], kept: tuple[IPAddress, ...]
    ) -> None:
        """getsockname shows one address a family: the first that was told."""
        packed = records.pack_pod(given_)

        assert len(packed) == records.POD_BYTES
        assert records.unpack_pod(packed) == kept

    def test_no_address_is_all_zero(self) -> None:
        """The programs take zero for "none of this family"."""
        packed = records.pack_pod([ipaddress.IPv4Address("10.1.2.3")])

        assert packed[16:] == bytes(16)
