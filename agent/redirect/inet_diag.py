"""
Bytes of inet_diag: sockets listed and destroyed by netlink. No socket in here.

Source: linux/inet_diag.h, linux/sock_diag.h, linux/netlink.h, sock_diag(7). Integers
are in the machine's order, ports and addresses in network order.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from agent.addresses import IPAddress, SocketAddress, parse_ip
from agent.errors import KernelError

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
SOCK_DESTROY: Final = 21  # Linux 4.5, CONFIG_INET_DIAG_DESTROY
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
INET_DIAG_INFO: Final = 2
INET_DIAG_CGROUP_ID: Final = 21  # Linux 5.8

_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBxI")
_ID_AT: Final = 4
_SOCKET_ID_BYTES: Final = 48  # struct inet_diag_sockid
_MESSAGE: Final = struct.Struct("=BBBB48sIIIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_PORTS: Final = struct.Struct("!HH")
_ERROR: Final = struct.Struct("=i")
# struct tcp_info: tcpi_bytes_acked and tcpi_bytes_received (Linux 4.1).
_COUNTS: Final = struct.Struct("=QQ")
_COUNTS_AT: Final = 120
_CGROUP_BYTES: Final = 8


class TcpState(IntEnum):
    """include/net/tcp_states.h; BPF_TCP_* are the same numbers."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11


# What can still carry a byte, or may soon. A half-made connection of a listener, too.
LIVE_STATES: Final = sum(
    1 << state
    for state in TcpState
    if state not in (TcpState.TIME_WAIT, TcpState.CLOSE, TcpState.LISTEN)
)


@dataclass(frozen=True, slots=True)
class DiagSocket:
    """
    One TCP socket of a network namespace.

    `id` is the kernel's own name of it (struct inet_diag_sockid), good for destroying
    it. The counts are TCP's, with SYN and FIN; 0 where there is no tcp_info. `cgroup`
    is the id of the cgroup that made the socket, 0 where the kernel does not tell it.
    """

    family: int
    state: int
    local: SocketAddress
    remote: SocketAddress
    id: bytes
    cookie: int
    acked_bytes: int = 0
    received_bytes: int = 0
    cgroup: int = 0


class Refusal(KernelError):
    """The kernel's answer was an error; `code` is its errno."""

    def __init__(self, code: int) -> None:
        super().__init__(f"inet_diag: errno {code}")
        self.code = code


def dump_request(family: int) -> bytes:
    """Ask for every live TCP socket of a family."""
    wanted = _REQUEST.pack(
        family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), LIVE_STATES
    )
    flags = NLM_F_REQUEST | NLM_F_DUMP
    return _framed(SOCK_DIAG_BY_FAMILY, flags, wanted + bytes(_SOCKET_ID_BYTES))


def destroy_request(found: DiagSocket) -> bytes:
    """Abort a socket: its owner reads ECONNABORTED, its peer gets a reset."""
    wanted = _REQUEST.pack(found.family, socket.IPPROTO_TCP, 0, 1 << found.state)
    return _framed(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, wanted + found.id)


def _framed(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """
    The netlink messages of one datagram: type and body.

    Raises: KernelError for what is not one, Refusal for an error; the error number 0,
    which acknowledges, comes as a message.
    """
    while data:
        if len(data) < _HEADER.size:
            raise KernelError("inet_diag: a message cut short")
        length, kind, *_ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            raise KernelError("inet_diag: a message of a wrong length")
        body = data[_HEADER.size : length]
        if kind in (NLMSG_ERROR, NLMSG_DONE) and len(body) >= _ERROR.size:
            # NLMSG_DONE carries what the dump returned, negative where it failed.
            code = -_ERROR.unpack_from(body)[0]
            if code > 0:
                raise Refusal(code)
        yield kind, body
        data = data[(length + 3) & ~3 :]


def ports(body: bytes) -> tuple[int, int]:
    """The local and the remote port, of a body that is not read whole."""
    if len(body) < _MESSAGE.size:
        raise KernelError("inet_diag: a socket cut short")
    local, remote = _PORTS.unpack_from(body, _ID_AT)
    return local, remote


def unpack_socket(body: bytes) -> DiagSocket:
    """`struct inet_diag_msg` and its attributes. Raises: KernelError."""
    if len(body) < _MESSAGE.size:
        raise KernelError("inet_diag: a socket cut short")
    family, state, _, _, sockid, *_ = _MESSAGE.unpack_from(body)
    local_port, remote_port = _PORTS.unpack_from(sockid)
    attributes = dict(_attributes(body[_MESSAGE.size :]))
    acked, received = _counts(attributes.get(INET_DIAG_INFO, b""))
    return DiagSocket(
        family=family,
        state=state,
        local=SocketAddress(_ip(family, sockid[4:20]), local_port),
        remote=SocketAddress(_ip(family, sockid[20:36]), remote_port),
        id=sockid,
        cookie=struct.unpack_from("=Q", sockid, 40)[0],
        acked_bytes=acked,
        received_bytes=received,
        cgroup=_cgroup(attributes.get(INET_DIAG_CGROUP_ID, b"")),
    )


def _ip(family: int, data: bytes) -> IPAddress:
    size = 4 if family == socket.AF_INET else 16
    return parse_ip(socket.inet_ntop(family, data[:size]))


def _counts(info: bytes) -> tuple[int, int]:
    """Bytes acknowledged and received, from `struct tcp_info`, where it has them."""
    if len(info) < _COUNTS_AT + _COUNTS.size:
        return 0, 0
    acked, received = _COUNTS.unpack_from(info, _COUNTS_AT)
    return acked, received


def _cgroup(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder) if len(data) == _CGROUP_BYTES else 0


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
