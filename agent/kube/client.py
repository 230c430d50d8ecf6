"""
Requests to an API server: HTTPS with what proves us and what proves the server.

Every failure comes back as ApiFailed with a reason for a person. Files are read again:
the token for each request, for the kubelet replaces it hourly; certificates when the
server and we do not trust each other any more.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import httpx
import trio

from agent import __version__
from agent.errors import PodlockError, causes, innermost
from agent.kube.access import Access, InvalidAccess
from agent.kube.credentials import context_of, read_files
from agent.kube.failure import Failure, FailureKind, failure_of
from agent.recovery import CONNECT_SECONDS

TIMEOUT_SECONDS: Final = 30.0
# Past the time that the server was asked to end a watch, it is taken for dead.
GRACE_SECONDS: Final = 30.0
# A watch begins at once, unless the server has so much to do that it queues requests:
# for at most a minute.
BEGIN_SECONDS: Final = 60.0
SLOWEST_BYTES_PER_SECOND: Final = 1 << 20
MAX_ERROR_BYTES: Final = 64 << 10
MAX_TOKEN_BYTES: Final = 64 << 10

Query = tuple[tuple[str, str], ...]

# A watch is silent for minutes, and a machine that is gone closes nothing.
KEEP_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
)


class ApiFailed(PodlockError):
    """A request that did not give what it was asked for."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Client:
    """
    One API server; `async with` closes its connections.

    Raises: InvalidAccess at the start for files that cannot be used. Later what was
    read last stays in use, and a failure says what is wrong with the file.
    """

    def __init__(
        self, access: Access, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """`transport` replaces the network, in tests."""
        self._access = access
        self._transport = transport
        self._files = read_files(access)
        self._http = _http(access, self._files, transport)
        self._retired: httpx.AsyncClient | None = None
        self._token = b""
        self._token_fault = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()
        if self._retired is not None:
            await self._retired.aclose()

    @property
    def server(self) -> str:
        """Its URL."""
        return self._access.server

    async def get(self, path: str, query: Query = (), limit: int = 1 << 20) -> bytes:
        """The body of a GET, of at most `limit` bytes. Raises: ApiFailed."""
        return await self._answer("GET", path, query, limit=limit)

    async def date(self, path: str) -> str | None:
        """The Date header of the answer to a GET. Raises: ApiFailed."""
        response = await self._begin(await self._request("GET", path))
        await response.aclose()
        date: str | None = response.headers.get("date")
        return date

    async def send(
        self, method: str, path: str, body: bytes, kind: str = "application/json"
    ) -> bytes:
        """The answer to a body of media type `kind`. Raises: ApiFailed."""
        return await self._answer(method, path, body=body, kind=kind)

    @asynccontextmanager
    async def stream(
        self, path: str, query: Query, seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """
        The chunks of a watch, which the server ends after `seconds`.

        Raises: ApiFailed, also while the chunks are read.
        """
        request = await self._request("GET", path, query)
        request.extensions["timeout"] = {
            **httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS).as_dict(),
            "read": seconds + GRACE_SECONDS,
        }
        response = await self._begin_in_time(request)
        try:
            async with _chunks(response) as chunks:
                yield chunks
        finally:
            with trio.move_on_after(1, shield=True):
                await response.aclose()

    async def _answer(
        self,
        method: str,
        path: str,
        query: Query = (),
        *,
        limit: int = 1 << 20,
        body: bytes | None = None,
        kind: str = "",
    ) -> bytes:
        request = await self._request(method, path, query, body, kind)
        seconds = 2 * TIMEOUT_SECONDS + limit / SLOWEST_BYTES_PER_SECOND
        with trio.move_on_after(seconds):
            response = await self._begin(request)
            try:
                return await _read(response, limit)
            finally:
                with trio.move_on_after(1, shield=True):
                    await response.aclose()
        text = f"{path}: no whole answer within {seconds:g} s"
        raise ApiFailed(Failure(FailureKind.AWAY, text))

    async def _request(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: bytes | None = None,
        kind: str = "",
    ) -> httpx.Request:
        headers = {}
        if kind:
            headers["content-type"] = kind
        if token := await self._current_token():
            headers["authorization"] = f"Bearer {token}"
        request = self._http.build_request(
            method, path, params=query, headers=headers, content=body
        )
        if self._access.server_name:
            request.extensions["sni_hostname"] = self._access.server_name
        return request

    async def _begin_in_time(self, request: httpx.Request) -> httpx.Response:
        """The head of a stream, whose silence later on says nothing."""
        with trio.move_on_after(BEGIN_SECONDS):
            return await self._begin(request)
        text = f"{request.url.path}: no answer within {BEGIN_SECONDS:g} s"
        raise ApiFailed(Failure(FailureKind.AWAY, text))

    async def _begin(self, request: httpx.Request) -> httpx.Response:
        """The answer's head, where it is a success. Raises: ApiFailed."""
        try:
            response = await self._http.send(request, stream=True)
        except (httpx.HTTPError, OSError) as error:
            failure = _of_transport(error)
            if failure.kind is FailureKind.UNTRUSTED:
                await self._read_files_again()
            raise ApiFailed(failure) from error
        if response.is_success:
            return response
        try:
            body = await _read(response, MAX_ERROR_BYTES)
        finally:
            await response.aclose()
        asked = response.headers.get("retry-after")
        failure = failure_of(response.status_code, body, asked)
        raise ApiFailed(await self._explained(failure))

    async def _explained(self, failure: Failure) -> Failure:
        if failure.kind is not FailureKind.UNAUTHORIZED:
            return failure
        await self._read_files_again()
        if not self._token_fault:
            return failure
        return Failure(failure.kind, f"{failure.message}; {self._token_fault}")

    async def _current_token(self) -> str:
        """What the file has now; while it is gone, what it had last."""
        source = self._access.token
        if source is None:
            return ""
        try:
            read = source if isinstance(source, bytes) else await _contents(source)
            self._token, self._token_fault = _checked_token(read), ""
        except (OSError, InvalidAccess) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            where = f"token file {source}" if isinstance(source, Path) else "the token"
            self._token_fault = f"{where}: {reason}"
            if not self._token:
                failure = Failure(FailureKind.UNAUTHORIZED, self._token_fault)
                raise ApiFailed(failure) from error
        return self._token.decode()

    async def _read_files_again(self) -> None:
        """Certificates that were replaced; those that are broken leave the old ones."""
        try:
            files = await trio.to_thread.run_sync(read_files, self._access)
            if files == self._files:
                return
            http = _http(self._access, files, self._transport)
        except InvalidAccess:
            return
        self._files = files
        # Requests that others have under way end by themselves, within minutes.
        before, self._retired, self._http = self._retired, self._http, http
        if before is not None:
            await before.aclose()


async def _contents(path: Path) -> bytes:
    return await trio.Path(path).read_bytes()


def _checked_token(read: bytes) -> bytes:
    token = read.strip()
    if not token or len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise InvalidAccess("holds no token")
    if any(byte <= 0x20 or byte == 0x7F for byte in token):
        raise InvalidAccess("holds no token")
    return token


def _http(
    access: Access,
    files: Mapping[str, bytes],
    transport: httpx.AsyncBaseTransport | None,
) -> httpx.AsyncClient:
    context = context_of(files)
    return httpx.AsyncClient(
        base_url=access.server,
        timeout=httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS),
        # Neither a proxy nor other anchors from the environment.
        trust_env=False,
        headers={"user-agent": f"podlock/{__version__}", "accept": "application/json"},
        transport=transport
        or httpx.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            socket_options=KEEP_ALIVE,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=4),
        ),
    )


async def _read(response: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    async with _chunks(response) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                text = f"{response.url.path}: more than {limit} bytes"
                raise ApiFailed(Failure(FailureKind.OVERSIZE, text))
    return bytes(body)


@asynccontextmanager
async def _chunks(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body, which need not be read to its end."""
    stream = cast("AsyncGenerator[bytes, None]", response.aiter_bytes())
    async with aclosing(stream), aclosing(_checked(stream)) as chunks:
        try:
            yield chunks
        finally:
            # httpx nests generators, and closing the outer one leaves the inner ones to
            # the garbage collector; a cancellation inside unwinds all of them.
            with trio.CancelScope() as scope:
                scope.cancel()
                async for _ in chunks:
                    pass


async def _checked(
    stream: AsyncGenerator[bytes, None],
) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in stream:
            yield chunk
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        raise ApiFailed(_of_transport(error)) from error


def _of_transport(error: Exception) -> Failure:
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            text = (
                f"its certificate does not verify: {cause.verify_message}; compare "
                f"the CA that we trust with the server's, and the URL with its names"
            )
            return Failure(FailureKind.UNTRUSTED, text)
    return Failure(FailureKind.AWAY, innermost(error))
