"""A relay bears what the kernel may say."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import cast

import trio
import trio.testing

from agent.proxy.live import LiveConnection, Register, Revoked
from agent.proxy.pod import LocalPod
from agent.proxy.reactor import Reactor
from agent.proxy.relay import relay
from agent.proxy.session import End, Traffic
from agent.proxy.share import Account
from tests.unit.proxy.joined import app_pair, data_path, tcp_pair


class _NoMemory(socket.socket):
    """Writable, yet `send` says EAGAIN: so it is when the kernel's memory is short."""

    refusals = 3

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:  # type: ignore[override]
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        return super().send(data, flags)


async def test_writable_but_not_yet() -> None:
    """A socket that is told writable and takes nothing is asked again, not given up."""
    client, near = app_pair()
    server, far = app_pair()
    busy = _NoMemory(fileno=far.detach())
    async with data_path() as path, trio.open_nursery() as nursery:
        nursery.start_soon(relay, near, busy, Traffic(), path.reactor, Account())
        await client.send_all(b"hello")
        await client.send_eof()
        with trio.fail_after(2):
            assert b"".join([piece async for piece in server]) == b"hello"
        await server.aclose()
    assert not busy.refusals
    near.close()
    busy.close()
    await client.aclose()


async def test_no_byte_after_revocation() -> None:
    """From the moment of `revoke` on nothing is relayed, whoever runs next."""
    pod = cast(LocalPod, SimpleNamespace(uid="uid"))
    for _ in range(30):
        client, near = tcp_pair()
        server, far = app_pair()
        live = Register(0, lambda _: None, lambda: 0.0).begin(
            pod, "inbound", "plaintext", End("client"), End("server")
        )
        async with data_path() as path, trio.open_nursery() as nursery:
            nursery.start_soon(relayed, live, near, far, path.reactor)
            await trio.testing.wait_all_tasks_blocked()
            client.send(b"on time")
            with trio.fail_after(2):
                assert await server.receive_some() == b"on time"
            await trio.testing.wait_all_tasks_blocked(0.002)
            client.send(b"late")
            live.revoke(Revoked("for the test"))
        near.close()
        far.close()
        with trio.fail_after(2):
            assert await server.receive_some() == b""
        client.close()
        await server.aclose()


async def relayed(
    live: LiveConnection, near: socket.socket, far: socket.socket, reactor: Reactor
) -> None:
    with live.scope:
        await relay(
            near, far, live.session.traffic, reactor, Account(), live.is_revoked
        )
