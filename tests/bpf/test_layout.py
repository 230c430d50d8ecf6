"""records.py and layout.py say what the compiler and the kernel say."""

from __future__ import annotations

import ctypes as ct
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from agent.addresses import SocketAddress, packed_ip, parse_ip
from agent.redirect import pins as kernel
from agent.redirect import records
from agent.redirect.headers import make_headers
from agent.redirect.layout import MAPS, PinLayout, Ports
from agent.redirect.loader import compiled
from tests.bpf.world import SOURCE


@pytest.fixture(scope="module")
def bpf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The sources, compiled in this process and not loaded."""
    headers = make_headers(tmp_path_factory.mktemp("headers"))
    return compiled(SOURCE, headers, Ports().defines())


def test_every_map_has_the_sizes_that_records_pack(pins: Path) -> None:
    """User space and kernel agree on the bytes of every key and value."""
    for name, sizes in records.MAP_SIZES.items():
        opened = kernel.PinnedMap.open(PinLayout(pins).maps / name)
        assert (name, opened.sizes) == (name, sizes)
        opened.close()


def test_nothing_is_left_out(bpf: Any) -> None:
    """Every map of the source is pinned and the other way round."""
    from bcc import lib

    # bcc declares neither: ctypes would cut the module's pointer to 32 bits.
    lib.bpf_num_tables.argtypes = (ct.c_void_p,)
    lib.bpf_num_tables.restype = ct.c_size_t
    lib.bpf_table_name.argtypes = (ct.c_void_p, ct.c_size_t)
    lib.bpf_table_name.restype = ct.c_char_p
    names = {
        lib.bpf_table_name(bpf.module, i).decode()
        for i in range(lib.bpf_num_tables(bpf.module))
    }
    assert names == set(MAPS)


def read(kind: Any, data: bytes) -> Any:
    assert ct.sizeof(kind) == len(data)
    return kind.from_buffer_copy(data)


def test_flow_and_address_field_by_field(bpf: Any) -> None:
    """The compiler finds each field where records.py puts it."""
    source = SocketAddress.parse("10.1.2.3:8080")
    table = bpf[b"originals"]

    flow = read(table.Key, records.pack_flow(7, source))
    address = read(table.Leaf, records.pack_address(source))

    assert flow.netns == 7
    assert flow.pad == 0
    for each in (flow.source, address):
        assert bytes(each.ip) == packed_ip(source.ip)
        assert each.port == socket.htons(8080)
        assert each.pad == 0


def test_trace_and_grant_field_by_field(bpf: Any) -> None:
    """What the agent reads and writes of direct connections."""
    ends = [SocketAddress.parse(f"10.0.0.{n}:{n}") for n in (1, 2, 3)]
    packed = b"".join(map(records.pack_address, ends))
    data = (
        struct.pack("=QQ", 7, 8) + packed + struct.pack("=I5Q", 5, 10, 11, 12, 13, 14)
    )

    trace = read(bpf[b"traces"].Leaf, data)
    grant = read(bpf[b"verdicts"].Leaf, records.pack_grant(7, 8))
    note = read(bpf[b"noted"].Leaf, records.pack_grant(8, 7) + bytes(8))
    service = read(bpf[b"services"].Leaf, records.pack_service(3, 4))
    choice = read(bpf[b"choices"].Key, records.pack_choice(3, 4))

    told = records.unpack_trace(data)
    assert (trace.verdict, trace.netns, trace.state) == (7, 8, told.state)
    assert bytes(trace.tuple) == packed[:40]
    assert bytes(trace.meant) == packed[40:]
    assert (trace.opened_ns, trace.closed_ns) == (10, 11)
    assert trace.acked_bytes == told.acked_bytes
    assert trace.received_bytes == told.received_bytes
    assert trace.received_before == told.received_before
    assert (grant.id, grant.netns) == (7, 8)
    assert (note.netns, note.verdict) == (8, 7)
    assert (service.id, service.count) == (3, 4)
    assert (choice.service, choice.index) == (3, 4)


def test_pod_field_by_field(bpf: Any) -> None:
    """Each family has its place."""
    ip4, ip6 = parse_ip("10.1.2.3"), parse_ip("fd00::7")

    pod = read(bpf[b"enrolled"].Leaf, records.pack_pod([ip6, ip4]))

    assert bytes(pod.ip4) == packed_ip(ip4)
    assert bytes(pod.ip6) == packed_ip(ip6)
