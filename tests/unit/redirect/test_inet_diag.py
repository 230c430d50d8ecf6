"""The bytes of inet_diag, as the kernel has them."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import SocketAddress
from agent.errors import KernelError
from agent.redirect import inet_diag
from agent.redirect.inet_diag import Refusal, TcpState

COOKIE = 0x1122334455667788


def sockid(local: tuple[str, int], remote: tuple[str, int], family: int) -> bytes:
    """struct inet_diag_sockid, as linux/inet_diag.h writes it down."""
    ips = [socket.inet_pton(family, ip).ljust(16, b"\0") for ip, _ in (local, remote)]
    ports = struct.pack("!HH", local[1], remote[1])
    return ports + b"".join(ips) + struct.pack("=I", 0) + struct.pack("=Q", COOKIE)


def message(kind: int, body: bytes) -> bytes:
    padded = body + bytes(-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + padded


def told(family: int, sockid: bytes, state: int = 1, attributes: bytes = b"") -> bytes:
    """struct inet_diag_msg."""
    head = struct.pack("=BBBB", family, state, 0, 0)
    return head + sockid + struct.pack("=IIIII", 0, 0, 0, 0, 0) + attributes


INFO = bytes(120) + struct.pack("=QQ", 11, 22) + bytes(80)
V4 = sockid(("10.0.0.1", 40000), ("10.0.0.2", 80), socket.AF_INET)


class TestRequests:
    def test_a_dump(self) -> None:
        """72 bytes: header, family, TCP, tcp_info wanted, live states, no socket."""
        data = inet_diag.dump_request(socket.AF_INET6)
        length, kind, flags, *_ = struct.unpack_from("=IHHII", data)
        family, protocol, wanted, _, states = struct.unpack_from("=BBBBI", data, 16)
        assert (length, len(data), kind, flags) == (72, 72, 20, 0x301)
        assert (family, protocol, wanted) == (socket.AF_INET6, 6, 2)
        assert data[24:] == bytes(48)
        for state in (TcpState.LISTEN, TcpState.TIME_WAIT, TcpState.CLOSE):
            assert not states & 1 << state
        for state in (TcpState.SYN_SENT, TcpState.SYN_RECV, TcpState.CLOSE_WAIT):
            assert states & 1 << state

    def test_destroy(self) -> None:
        """The kernel's own name of the socket goes back unchanged, cookie and all."""
        found = inet_diag.unpack_socket(told(socket.AF_INET, V4, TcpState.SYN_SENT))
        data = inet_diag.destroy_request(found)
        _, kind, flags, *_ = struct.unpack_from("=IHHII", data)
        assert (kind, flags) == (21, 0x5)
        assert struct.unpack_from("=BBBBI", data, 16)[4] == 1 << TcpState.SYN_SENT
        assert data[24:] == V4


class TestSockets:
    def test_ipv4(self) -> None:
        """Addresses, ports, cookie and state."""
        found = inet_diag.unpack_socket(told(socket.AF_INET, V4))
        assert found.local == SocketAddress.parse("10.0.0.1:40000")
        assert found.remote == SocketAddress.parse("10.0.0.2:80")
        assert (found.cookie, found.state) == (COOKIE, TcpState.ESTABLISHED)
        assert (found.acked_bytes, found.received_bytes) == (0, 0)

    def test_a_mapped_one_is_ipv4(self) -> None:
        """A dual-stack socket is of the IPv6 family and shows plain IPv4 here."""
        ends = ("::ffff:10.0.0.1", 1), ("::ffff:10.0.0.2", 80)
        found = inet_diag.unpack_socket(
            told(socket.AF_INET6, sockid(*ends, socket.AF_INET6))
        )
        assert found.remote == SocketAddress.parse("10.0.0.2:80")
        assert found.family == socket.AF_INET6

    def test_counts(self) -> None:
        """From tcp_info, among other attributes."""
        other = struct.pack("=HH", 5, 7) + b"abc\0"
        info = struct.pack("=HH", 4 + len(INFO), 2) + INFO
        found = inet_diag.unpack_socket(
            told(socket.AF_INET, V4, attributes=other + info)
        )
        assert (found.acked_bytes, found.received_bytes) == (11, 22)

    def test_a_shorter_tcp_info(self) -> None:
        """A kernel that does not count tells nothing, not nonsense."""
        info = struct.pack("=HH", 4 + 100, 2) + bytes(100)
        found = inet_diag.unpack_socket(told(socket.AF_INET, V4, attributes=info))
        assert (found.acked_bytes, found.received_bytes) == (0, 0)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        """Nothing but our own errors comes out of them."""
        try:
            for _, body in inet_diag.messages(data):
                inet_diag.unpack_socket(bytes([socket.AF_INET]) + body[1:])
        except KernelError:
            return


class TestMessages:
    def test_several_in_one_datagram(self) -> None:
        """In their order, each at its four byte boundary."""
        data = message(20, b"12345") + message(20, b"") + message(3, bytes(4))
        assert list(inet_diag.messages(data)) == [
            (20, b"12345"),
            (20, b""),
            (3, bytes(4)),
        ]

    @pytest.mark.parametrize("kind", [2, 3])
    def test_an_error(self, kind: int) -> None:
        """Its number, by the error's message or at the end of a dump."""
        with pytest.raises(Refusal) as caught:
            list(inet_diag.messages(message(kind, struct.pack("=i", -95))))
        assert caught.value.code == 95

    def test_an_acknowledgement(self) -> None:
        """Error number 0 is none."""
        assert len(list(inet_diag.messages(message(2, bytes(20))))) == 1

    @pytest.mark.parametrize("data", [b"x", message(20, b"1234")[:18]])
    def test_cut_short(self, data: bytes) -> None:
        """It is found out."""
        with pytest.raises(KernelError):
            list(inet_diag.messages(data))
