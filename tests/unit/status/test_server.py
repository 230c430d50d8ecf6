"""The status socket answers whoever owns it, and is never stolen or left behind."""

from __future__ import annotations

import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from agent.status.documents import Name
from agent.status.server import SocketUnavailable, bound, serve

from .samples import status, workloads


class FakeReporter:
    """Knows two documents; every other question is a bug of its own."""

    async def document(self, name: Name) -> dict[str, Any]:
        return {"status": status, "workloads": workloads}[name]()


def refused(complaint: str) -> AbstractContextManager[object]:
    return pytest.raises(SocketUnavailable, match=complaint)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


Get = Callable[[str], Awaitable[httpx.Response]]


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Get]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, path, FakeReporter())
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport) as client:

            async def get(target: str) -> httpx.Response:
                return await client.get(f"http://localhost{target}")

            yield get
        nursery.cancel_scope.cancel()


class TestBound:
    def test_a_path_that_is_too_long(self, tmp_path: Path) -> None:
        """The kernel's limit is told in words before the kernel is asked."""
        with refused("at most 107 bytes"), bound(tmp_path / ("x" * 120)):
            pass

    def test_a_file_is_not_removed(self, tmp_path: Path) -> None:
        """What is not a socket is somebody's, and stays."""
        path = tmp_path / "s"
        path.write_text("precious")

        with refused("expected a socket or nothing"), bound(path):
            pass
        assert path.read_text() == "precious"

    def test_a_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        """The system's reason is passed on with the path."""
        (tmp_path / "file").write_text("")

        with refused(r"agent\.sock: "), bound(tmp_path / "file" / "agent.sock"):
            pass

    def test_a_live_socket_is_refused(self, tmp_path: Path) -> None:
        """Two agents do not take turns at one socket."""
        path = tmp_path / "s"
        with bound(path):
            with refused("another agent answers"), bound(path):
                pass
            assert path.is_socket()

    def test_a_stale_socket_is_replaced(self, tmp_path: Path) -> None:
        """An agent that was killed does not keep the next from starting."""
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))

        with bound(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()

    def test_a_successors_socket_stays(self, tmp_path: Path) -> None:
        """Ending late, we do not remove what is not ours any more."""
        path = tmp_path / "s"
        with socket.socket(socket.AF_UNIX) as successor:
            with bound(path):
                path.rename(tmp_path / "old")
                successor.bind(str(path))
            assert path.exists()


class TestServe:
    async def test_answers(self, tmp_path: Path) -> None:
        """A document is JSON, as the reporter gave it."""
        async with serving(tmp_path / "s") as get:
            answer = await get("/v1/status")

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == status()
        assert not (tmp_path / "s").exists()

    async def test_filters(self, tmp_path: Path) -> None:
        """Query parameters reduce the lists."""
        async with serving(tmp_path / "s") as get:
            answer = await get("/v1/workloads?state=refused")

        assert [each["name"] for each in answer.json()["workloads"]] == ["api"]

    async def test_an_unknown_path(self, tmp_path: Path) -> None:
        """404 comes with the paths that there are."""
        async with serving(tmp_path / "s") as get:
            answer = await get("/metrics")

        assert answer.status_code == 404
        assert "/v1/connections" in answer.json()["paths"]

    async def test_only_get(self, tmp_path: Path) -> None:
        """The socket tells and never does."""
        async with serving(tmp_path / "s"):
            transport = httpx.AsyncHTTPTransport(uds=str(tmp_path / "s"))
            async with httpx.AsyncClient(transport=transport) as client:
                answer = await client.post("http://localhost/v1/status", content=b"{}")

        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET"

    async def test_closes_after_the_answer(self, tmp_path: Path) -> None:
        """An answered connection holds no descriptor of the agent's any more."""
        async with serving(tmp_path / "s"):
            before = descriptors()
            stream = await trio.open_unix_socket(str(tmp_path / "s"))
            async with stream:
                await stream.send_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
                with trio.fail_after(2):
                    async for _ in stream:
                        pass
            assert descriptors() == before

    async def test_a_broken_reporter(self, tmp_path: Path) -> None:
        """A bug behind one document is a 500 with its name; the rest still works."""
        async with serving(tmp_path / "s") as get:
            broken = await get("/v1/policies")
            works = await get("/v1/status")

        assert broken.status_code == 500
        assert "KeyError" in broken.json()["error"]
        assert works.status_code == 200

    async def test_garbage_on_the_socket(self, tmp_path: Path) -> None:
        """Whoever does not speak HTTP is turned away, and alone."""
        async with serving(tmp_path / "s") as get:
            stream = await trio.open_unix_socket(str(tmp_path / "s"))
            async with stream:
                await stream.send_all(b"\x16\x03\x01 hello\r\n\r\n")
                with trio.fail_after(5):
                    turned_away = await stream.receive_some()
            works = await get("/v1/status")

        assert turned_away == b"" or b"400" in turned_away
        assert works.status_code == 200

    async def test_refuses_to_start_beside_another(self, tmp_path: Path) -> None:
        """The error reaches the caller before anything is said to be ready."""
        with bound(tmp_path / "s"), refused("another agent answers"):
            await serve(tmp_path / "s", FakeReporter())
