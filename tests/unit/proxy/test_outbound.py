"""Asking for a connection, and giving it up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from agent.hbone.connection import ConnectRequest, ErrorCode
from agent.hbone.events import StreamReset
from agent.proxy.live import LiveConnection
from agent.proxy.outbound import Outbound
from agent.proxy.pool import CannotTunnel
from tests.unit.proxy.joined import scripted, tcp_pair


async def test_giving_up_is_no_end_in_order() -> None:
    """
    The peer may have connected to its application by then, which must see a reset: to
    CANCEL the peer would say a clean end without a byte.
    """
    outbound = Outbound.__new__(Outbound)
    outbound.answer_seconds = 0.01
    live = cast(LiveConnection, SimpleNamespace(session=SimpleNamespace(peer=None)))
    async with scripted() as ends:
        app, sock = tcp_pair()
        request = ConnectRequest("10.0.0.2:80")
        with app, sock, pytest.raises(CannotTunnel, match="no answer"):
            await outbound._accepted(live, ends.tunnel, request, sock)
        events = await ends.hear()
        while not isinstance(events[-1], StreamReset):
            events += await ends.hear()
    assert events[-1] == StreamReset(1, ErrorCode.CONNECT_ERROR)
