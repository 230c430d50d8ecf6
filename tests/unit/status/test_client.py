"""Where no agent answers, the error says so and what to do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trio

from agent.status.client import NoAnswer, fetch
from agent.status.documents import Name
from agent.status.server import serve

from .samples import status


class FakeReporter:
    async def document(self, name: Name) -> dict[str, Any]:
        assert name == "status", "the fake knows one document"
        return status()


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A server of one fixed answer."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def run() -> None:
            for _ in range(2):  # the client knocks, then asks
                connection, _address = listener.accept()
                with connection:
                    if connection.recv(65536):
                        connection.sendall(answer)

        thread = Thread(target=run)
        thread.start()
        yield
        thread.join()


class TestNoAnswer:
    def test_no_socket(self, tmp_path: Path) -> None:
        """The usual case: no agent runs here."""
        with pytest.raises(NoAnswer, match=r"no agent answers at .*is `podlock run`"):
            fetch(tmp_path / "absent.sock", "status")

    def test_a_dead_socket(self, tmp_path: Path) -> None:
        """A socket that an agent left behind is the same to a person."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "s"))

        with pytest.raises(NoAnswer, match="no agent answers at"):
            fetch(tmp_path / "s", "status")

    def test_not_a_socket(self, tmp_path: Path) -> None:
        """A file or an impossible path is an error like any other."""
        (tmp_path / "s").write_text("")

        for path in (tmp_path / "s", tmp_path / "s" / "t", tmp_path / ("x" * 200)):
            with pytest.raises(NoAnswer, match="no agent answers at"):
                fetch(path, "status")

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"SSH-2.0-x\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff",
        ],
    )
    def test_something_else_answers(self, tmp_path: Path, answer: bytes) -> None:
        """Another program's socket is not taken for ours."""
        with (
            answering(tmp_path / "s", answer),
            pytest.raises(NoAnswer, match="not a Podlock agent"),
        ):
            fetch(tmp_path / "s", "status")


class TestFetch:
    async def test_a_document(self, tmp_path: Path) -> None:
        """The agent's document arrives as it is."""
        assert await self.ask(tmp_path / "s", "status") == status()

    async def test_a_refused_filter(self, tmp_path: Path) -> None:
        """The agent's own words are the error."""
        with pytest.raises(NoAnswer, match="no filter 'outcom'"):
            await self.ask(tmp_path / "s", "connections", {"outcom": "open"})

    @staticmethod
    async def ask(path: Path, name: Name, filters: Any = None) -> dict[str, Any]:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, path, FakeReporter())
            try:
                return await trio.to_thread.run_sync(
                    partial(fetch, path, name, filters)
                )
            except NoAnswer as error:
                failed = error
            finally:
                nursery.cancel_scope.cancel()
        raise failed
