"""The ledger hears of each direct connection once, whole, and to its end."""

from __future__ import annotations

import struct
import time
from dataclasses import replace

from agent.addresses import SocketAddress
from agent.app.tracer import Tracer
from agent.redirect import records
from agent.redirect.inet_diag import DiagSocket, TcpState
from agent.redirect.records import Glance
from agent.workload.connection import (
    ConnectionChanged,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    TrafficCounted,
)
from agent.workload.direct import Revocation
from agent.workload.directory import Directory
from tests.unit.app.test_direct import Bench
from tests.unit.workload.test_direct import HERE, TO_API

NOWHERE = Directory()
SOURCE = SocketAddress.parse("10.0.0.1:40000")


def glance(
    cookie: int, state: TcpState, *, closed: bool = False, verdict: int = 7
) -> Glance:
    """A trace as the kernel writes it."""
    now = time.monotonic_ns()
    ends = (SOURCE, TO_API.destination, TO_API.destination)
    data = struct.pack("=QQ", verdict, 1) + b"".join(map(records.pack_address, ends))
    counts = (now, now if closed else 0, 12, 21, 0)
    return Glance(cookie, data + struct.pack("=IQQQQQ", state, *counts))


def tracer(bench: Bench) -> Tracer:
    made = Tracer(
        bench.maps,
        bench.sockets.list_sockets,
        lambda *event: bench.notes.append(event),
        bench.told.append,
    )
    made.granted(7, HERE.judge(TO_API))
    return made


async def test_opened_once_and_closed() -> None:
    """Looked at again and again, it is told when there is news."""
    bench = Bench()
    its = tracer(bench)
    bench.maps.seen = [glance(1, TcpState.ESTABLISHED)]
    await its.collect(NOWHERE, [7])
    await its.collect(NOWHERE, [7])
    (told,) = bench.told
    assert isinstance(told, ConnectionOpened)
    bench.maps.seen = [glance(1, TcpState.LAST_ACK, closed=True)]
    await its.collect(NOWHERE, [7])
    await its.collect(NOWHERE, [7])
    _, end = bench.told
    assert isinstance(end, ConnectionClosed)
    assert (end.sent_bytes, end.received_bytes) == (10, 20)
    assert not bench.maps.seen


async def test_a_short_one_is_told_whole() -> None:
    """It came and went between two looks."""
    bench = Bench()
    bench.maps.seen = [glance(1, TcpState.LAST_ACK, closed=True)]
    await tracer(bench).collect(NOWHERE, [7])
    assert [type(each) for each in bench.told] == [ConnectionOpened, ConnectionClosed]


async def test_one_that_is_being_made() -> None:
    """It is not open; when nobody answers it never was."""
    bench = Bench()
    its = tracer(bench)
    bench.maps.seen = [glance(1, TcpState.SYN_SENT)]
    await its.collect(NOWHERE, [7])
    assert not bench.told
    bench.maps.seen = [glance(1, TcpState.SYN_SENT, closed=True)]
    await its.collect(NOWHERE, [7])
    (told,) = bench.told
    assert isinstance(told, ConnectionRefused)


async def test_what_a_revoked_one_ended_by() -> None:
    """The reason is kept for as long as there are traces, and no longer."""
    bench = Bench()
    its = tracer(bench)
    its.revoked(7, Revocation(TO_API, None, "no more", "Server shop/api"))
    for cookie in (1, 2):
        bench.maps.seen = [glance(cookie, TcpState.ESTABLISHED, closed=True)]
        await its.collect(NOWHERE, [])
    await its.collect(NOWHERE, [])
    bench.maps.seen = [glance(3, TcpState.ESTABLISHED, closed=True)]
    await its.collect(NOWHERE, [])
    ends = [each for each in bench.told if isinstance(each, ConnectionClosed)]
    assert [each.reason for each in ends] == ["no more", "no more", "reset"]


async def test_open_ones_are_counted() -> None:
    """By the socket's cookie, in the client's namespace."""
    bench = Bench()
    its = tracer(bench)
    bench.maps.seen = [glance(1, TcpState.ESTABLISHED)]
    state = TcpState.ESTABLISHED
    ends = (SOURCE, TO_API.destination)
    bench.sockets.live = {101: [DiagSocket(2, state, *ends, b"", 1, 5, 6)]}
    await its.collect(NOWHERE, [7])
    await its.count(NOWHERE, {1: 101})
    told = bench.told[-1]
    assert isinstance(told, TrafficCounted)
    assert (told.id, told.sent_bytes, told.received_bytes) == ("direct-1", 4, 6)


async def test_one_that_ended_unseen() -> None:
    """It has a trace and no socket: its record is closed."""
    bench = Bench()
    its = tracer(bench)
    bench.maps.seen = [glance(1, TcpState.ESTABLISHED)]
    await its.collect(NOWHERE, [7])
    await its.count(NOWHERE, {1: 101})
    assert isinstance(bench.told[-1], ConnectionClosed)
    assert not bench.maps.seen


async def test_one_whose_namespace_is_not_open() -> None:
    """Nobody can tell: it stays as it is."""
    bench = Bench()
    its = tracer(bench)
    bench.maps.seen = [glance(1, TcpState.ESTABLISHED)]
    await its.collect(NOWHERE, [7])
    await its.count(NOWHERE, {})
    assert len(bench.told) == 1


async def test_lost_records_are_told_of() -> None:
    """How many, each time there are more."""
    bench = Bench()
    its = tracer(bench)
    for lost in (0, 3, 3, 5):
        bench.maps.lost = lost
        await its.collect(NOWHERE, [])
    assert [text.split()[0] for _, _, text in bench.notes] == ["3", "2"]
    assert its.unrecorded == 5


async def test_an_open_one_that_is_audited_from_now_on() -> None:
    """It goes on: told once, with what would deny it, and an event."""
    bench = Bench()
    its = tracer(bench)
    bench.maps.seen = [glance(1, TcpState.ESTABLISHED)]
    await its.collect(NOWHERE, [7])
    its.granted(
        7, replace(HERE.judge(TO_API), rule="Server shop/api", audit="Server shop/api")
    )
    await its.collect(NOWHERE, [7])
    await its.collect(NOWHERE, [7])
    _, told = bench.told
    assert told == ConnectionChanged(
        id="direct-1", rule="Server shop/api", audit="Server shop/api"
    )
    ((kind, name, text),) = bench.notes
    assert (kind, name) == ("audit", "shop/api")
    assert "would be denied by Server shop/api" in text
