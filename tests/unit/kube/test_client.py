"""Requests carry what proves us now, and every failure has a reason."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import trio

from agent.kube.access import Access
from agent.kube.client import ApiFailed, Client
from agent.kube.failure import FailureKind
from tests.cluster.credentials import Authority

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer, token: bytes | Path | None = None) -> Client:
    return Client(Access("https://api", token=token), httpx.MockTransport(answer))


async def failure_kind(asked: Client) -> tuple[FailureKind, str]:
    with pytest.raises(ApiFailed) as caught:
        await asked.get("/api")
    return caught.value.failure.kind, str(caught.value)


class TestToken:
    async def test_is_read_for_each_request(self, tmp_path: Path) -> None:
        """The kubelet replaces it; while it is gone the last one is used."""
        file = tmp_path / "token"
        file.write_text("one\n")
        seen: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request.headers["authorization"])
            return httpx.Response(200, content=b"{}")

        async with client(answer, file) as asked:
            await asked.get("/api")
            file.write_text("two")
            await asked.get("/api")
            file.unlink()
            await asked.get("/api")
        assert seen == ["Bearer one", "Bearer two", "Bearer two"]

    async def test_a_refusal_tells_of_the_missing_file(self, tmp_path: Path) -> None:
        """Nobody looks for a role when the file is what is missing."""
        file = tmp_path / "token"
        file.write_text("old")
        codes = iter([200, 401])
        async with client(lambda _: httpx.Response(next(codes)), file) as asked:
            await asked.get("/api")
            file.unlink()
            kind, text = await failure_kind(asked)
        assert kind is FailureKind.UNAUTHORIZED
        assert f"token file {file}: No such file" in text

    @pytest.mark.parametrize("content", ["", "\n", "a b", "a\nb", "ü", "x" * 100_000])
    async def test_a_file_without_a_token(self, tmp_path: Path, content: str) -> None:
        """Is no reason to send what is in it."""
        file = tmp_path / "token"
        file.write_text(content)
        async with client(lambda _: httpx.Response(200), file) as asked:
            kind, text = await failure_kind(asked)
        assert (kind, "holds no token" in text) == (FailureKind.UNAUTHORIZED, True)

    async def test_a_bad_token_is_not_told(self) -> None:
        """One of a kubeconfig that an editor has broken in two is a secret still."""
        async with client(lambda _: httpx.Response(200), b"s3c\nr3t") as asked:
            kind, text = await failure_kind(asked)
        assert kind is FailureKind.UNAUTHORIZED
        assert "the token: holds no token" in text
        assert "r3t" not in text


class TestAnswers:
    async def test_failures_have_kind_and_reason(self) -> None:
        """The Status of the API server, and Retry-After."""
        body = json.dumps({"message": "slow down", "code": 429}).encode()
        answer = httpx.Response(429, content=body, headers={"retry-after": "9"})
        async with client(lambda _: answer) as asked:
            with pytest.raises(ApiFailed) as caught:
                await asked.get("/api")
        failure = caught.value.failure
        assert (failure.kind, failure.retry_after_seconds) == (FailureKind.THROTTLED, 9)
        assert "slow down" in str(caught.value)

    async def test_a_body_has_a_limit(self) -> None:
        """And one that is just as large passes."""
        async with client(lambda _: httpx.Response(200, content=b"x" * 10)) as asked:
            assert await asked.get("/api", limit=10) == b"x" * 10
            with pytest.raises(ApiFailed) as caught:
                await asked.get("/api", limit=9)
        assert caught.value.failure.kind is FailureKind.OVERSIZE

    async def test_a_server_that_does_not_answer(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        """Is given up in time."""

        class Silent(httpx.AsyncBaseTransport):
            async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
                await trio.sleep_forever()
                raise AssertionError

        async with Client(Access("https://api"), Silent()) as asked:
            kind, text = await failure_kind(asked)
        assert (kind, "no whole answer" in text) == (FailureKind.AWAY, True)

    async def test_a_stream_that_breaks(self) -> None:
        """Comes out as what it is, after what came before it."""

        async def broken() -> AsyncIterator[bytes]:
            yield b"one\n"
            raise httpx.ReadError("reset by peer")

        answer = httpx.Response(200, content=broken())
        heard: list[bytes] = []

        async def listen(asked: Client) -> None:
            async with asked.stream("/api", (("watch", "1"),), 10) as chunks:
                async for chunk in chunks:
                    heard.append(chunk)  # noqa: PERF401 - it does not end well

        async with client(lambda _: answer) as asked:
            with pytest.raises(ApiFailed, match="reset by peer"):
                await listen(asked)
        assert heard == [b"one\n"]


class Server:
    """A TLS server on loopback that answers each request with its name."""

    def __init__(self, authority: Authority, *hosts: str) -> None:
        pair = authority.issue("server", hosts=hosts or ("127.0.0.1",))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)

    async def run(self, task_status: trio.TaskStatus[str]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        task_status.started(f"https://127.0.0.1:{port}")
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, self._context, server_side=True)
        try:
            await tls.receive_some()
            head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
            await tls.send_all(head + b"{}")
        except trio.BrokenResourceError:
            return
        finally:
            await trio.aclose_forcefully(tls)


class TestTrust:
    async def test_a_certificate_that_does_not_verify(self, tmp_path: Path) -> None:
        """No byte of a request is sent, and the reason says what to compare."""
        (tmp_path / "a").mkdir()
        ours, theirs = Authority(tmp_path), Authority(tmp_path / "a")
        async with trio.open_nursery() as nursery:
            url = await nursery.start(Server(theirs).run)
            async with Client(Access(url, ca=ours.certificate)) as asked:
                kind, text = await failure_kind(asked)
            nursery.cancel_scope.cancel()
        assert kind is FailureKind.UNTRUSTED
        assert "its certificate does not verify" in text
        assert "compare the CA that we trust" in text

    async def test_a_certificate_for_another_name(self, tmp_path: Path) -> None:
        """The right authority is not enough."""
        authority = Authority(tmp_path)
        async with trio.open_nursery() as nursery:
            url = await nursery.start(Server(authority, "other.example").run)
            async with Client(Access(url, ca=authority.certificate)) as asked:
                kind, _ = await failure_kind(asked)
            named = Access(url, ca=authority.certificate, server_name="other.example")
            async with Client(named) as asked:
                assert await asked.get("/api") == b"{}"
            nursery.cancel_scope.cancel()
        assert kind is FailureKind.UNTRUSTED

    async def test_an_authority_that_is_replaced(self, tmp_path: Path) -> None:
        """The file is read again when the server does not verify under the old one."""
        (tmp_path / "a").mkdir()
        ours, theirs = Authority(tmp_path), Authority(tmp_path / "a")
        async with trio.open_nursery() as nursery:
            url = await nursery.start(Server(theirs).run)
            async with Client(Access(url, ca=ours.certificate)) as asked:
                await failure_kind(asked)
                ours.certificate.write_bytes(theirs.certificate.read_bytes())
                await failure_kind(asked)
                assert await asked.get("/api") == b"{}"
            nursery.cancel_scope.cancel()
