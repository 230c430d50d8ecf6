"""The identity service as an agent sees it, over HTTPS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx
import msgspec
import trio

from agent.errors import InputError
from agent.identity.acquaintance import Acquaintance, InvalidAnchors, context_for
from agent.identity.authority import SERVICE_NAME
from agent.identity.endpoints import HEARTBEAT
from agent.identity.overview import StateView
from agent.identity.pem import CERTIFICATE_REQUEST, format_blocks
from agent.identity.report import ReportDocument, TrustReport
from agent.identity.source import IdentityRefused, IdentityUnavailable, Signed
from agent.identity.token import MAX_TOKEN_BYTES
from agent.identity.trust import MAX_TRUST_BYTES, UNREADABLE, InvalidTrust, Trust
from agent.identity.wire import AcknowledgedAnswer, ErrorAnswer, SignAnswer
from agent.log import logger

# A trust document, and a chain.
MAX_ANSWER_BYTES: Final = MAX_TRUST_BYTES + 64 * 1024
# A stream that says nothing for as long, not even an empty line, is dead.
SILENCE: Final = HEARTBEAT * 3

# RFC 9110 section 15.5: what a later request may get past.
_PASSING: Final = frozenset({408, 429})


_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class InvalidClientSettings(InputError):
    """An address that cannot be used."""


@dataclass(slots=True, eq=False)
class _Session:
    """Connections under one set of anchors, and how many requests use them."""

    http: httpx.AsyncClient
    users: int = 0


class IdentityClient:
    """
    A `CertificateSource` across the network; `async with` closes its connections.

    The service must present a certificate for the name `identity.podlock.internal`,
    whatever the URL's host is, under `anchors_pem`, or under the anchors of the trust
    that it told last.
    """

    def __init__(
        self,
        url: str,
        anchors_pem: bytes,
        token_file: Path,
        *,
        anchors_file: Path | None = None,
        memory: Path | None = None,
        timeout: timedelta = timedelta(seconds=10),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Args: anchors_file is where the anchors came from, read again as it changes;
        memory keeps what the service told across restarts; transport replaces the
        network, in tests.

        Raises: InvalidClientSettings for a URL without https; InvalidAnchors.
        """
        if not url.startswith("https://"):
            raise InvalidClientSettings(f"identity service {url!r}: expected https://")
        self._url = url
        self._token_file = trio.Path(token_file)
        self._anchors_file = trio.Path(anchors_file) if anchors_file else None
        self._known = Acquaintance(anchors_pem, memory)
        self._timeout = timeout
        self._transport = transport
        self._session = self._new_session()
        self._log = logger(part="identity")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.http.aclose()

    async def sign(self, csr_der: bytes) -> Signed:
        """Raises: IdentityUnavailable, IdentityRefused."""
        text = format_blocks([csr_der], CERTIFICATE_REQUEST).decode()
        request = await self._with_token(
            self._request("POST", "/v1/sign", {"csr": text})
        )
        answer = _decode(await self._ask(request), SignAnswer)
        try:
            return Signed(answer.chain.encode(), answer.trust.trust())
        except InvalidTrust as error:
            raise IdentityUnavailable(f"identity service's answer: {error}") from error

    async def watch(self) -> AsyncGenerator[Trust, None]:
        """The trust in force, then each change. Raises: IdentityUnavailable."""
        request = self._request("GET", "/v1/bundle/stream", None)
        request.extensions["timeout"]["read"] = SILENCE.total_seconds()
        async with aclosing(self._lines(request)) as lines:
            async for line in lines:
                if not line:
                    continue  # a heartbeat
                try:
                    trust = Trust.parse(line)
                except InvalidTrust as error:
                    message = f"identity service {request.url}: {error}"
                    raise IdentityUnavailable(message) from error
                await self._learn(trust)
                yield trust

    async def acknowledge(self, report: TrustReport) -> None:
        """Raises: IdentityUnavailable, IdentityRefused."""
        document = msgspec.to_builtins(ReportDocument.of(report))
        request = self._request("POST", "/v1/acknowledgements", document)
        _decode(await self._ask(await self._with_token(request)), AcknowledgedAnswer)

    async def state(self) -> StateView:
        """What signs and who needs what, for an admin's token. Raises: as above."""
        request = self._request("GET", "/v1/state", None)
        return _decode(await self._ask(await self._with_token(request)), StateView)

    def _request(self, method: str, path: str, document: object) -> httpx.Request:
        return self._session.http.build_request(
            method,
            path,
            json=document,
            extensions={"sni_hostname": SERVICE_NAME},
        )

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[httpx.AsyncClient]:
        """Connections under the anchors that are in force; old ones end when unused."""
        await self._read_anchors()
        session = self._session
        session.users += 1
        try:
            yield session.http
        finally:
            session.users -= 1
            if session is not self._session and not session.users:
                with trio.CancelScope(shield=True):
                    await session.http.aclose()

    def _new_session(self) -> _Session:
        http = httpx.AsyncClient(
            base_url=self._url,
            verify=context_for(self._known.anchors_pem),
            timeout=self._timeout.total_seconds(),
            # Neither a proxy nor other anchors from the environment.
            trust_env=False,
            transport=self._transport,
            # Renewals come minutes apart: what many at once have opened is not kept.
            limits=httpx.Limits(max_keepalive_connections=1),
        )
        return _Session(http)

    async def _renew_session(self) -> None:
        old, self._session = self._session, self._new_session()
        if not old.users:
            await old.http.aclose()

    async def _read_anchors(self) -> None:
        if self._anchors_file is None:
            return
        try:
            news = self._known.configure(await self._anchors_file.read_bytes())
        except (OSError, InvalidAnchors) as error:
            # Half written, or gone: what we know is good enough to ask.
            self._log.warning(
                "anchors not read", file=str(self._anchors_file), error=str(error)
            )
            return
        if news:
            self._log.info("anchors replaced", file=str(self._anchors_file))
            await self._renew_session()

    async def _learn(self, trust: Trust) -> None:
        try:
            news = await trio.to_thread.run_sync(self._known.learn, trust)
        except OSError as error:
            self._log.warning("trust not remembered", error=str(error))
            news = True
        if news:
            await self._renew_session()

    async def _with_token(self, request: httpx.Request) -> httpx.Request:
        request.headers["authorization"] = f"Bearer {await self._token()}"
        return request

    async def _token(self) -> str:
        # Read for each request: a projected service-account token is replaced hourly.
        try:
            token = (await self._token_file.read_bytes()).strip()
        except OSError as error:
            message = f"token file {self._token_file}: {error.strerror}"
            raise IdentityUnavailable(message) from error
        if not token or len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise IdentityUnavailable(f"token file {self._token_file}: holds no token")
        return token.decode()

    async def _ask(self, request: httpx.Request) -> bytes:
        with _unavailable(request):
            async with self._connected() as http, _answer(http, request) as answer:
                response, chunks = answer
                body = await _whole(chunks)
        if response.status_code == 200:
            return body
        raise _failure(request, response.status_code, body)

    async def _lines(self, request: httpx.Request) -> AsyncGenerator[bytes, None]:
        """An answer's lines, without their ends. Raises: IdentityUnavailable."""
        with _unavailable(request):
            async with self._connected() as http, _answer(http, request) as answer:
                response, chunks = answer
                if response.status_code != 200:
                    body = await _whole(chunks)
                    raise _failure(request, response.status_code, body)
                rest = b""
                async for chunk in chunks:
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield line
                    if len(rest) > MAX_ANSWER_BYTES:
                        raise httpx.DecodingError(
                            f"line: over {MAX_ANSWER_BYTES} bytes"
                        )
        raise IdentityUnavailable(f"identity service {request.url}: the stream ended")


@contextmanager
def _unavailable(request: httpx.Request) -> Iterator[None]:
    """What the network does to a request, as our error."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        message = f"identity service {request.url}: {_innermost(error)}"
        raise IdentityUnavailable(message) from error


def _innermost(error: BaseException) -> str:
    """What OpenSSL or the system said, under the layers of empty errors above."""
    text = str(error) or type(error).__name__
    under = error.__cause__ or error.__context__
    while under is not None:
        text = str(under) or text
        under = under.__cause__ or under.__context__
    return text


@asynccontextmanager
async def _answer(
    http: httpx.AsyncClient, request: httpx.Request
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[bytes]]]:
    """An answer and the chunks of its body, which may be left early."""
    response = await http.send(request, stream=True)
    chunks = response.aiter_bytes()
    try:
        yield response, chunks
    finally:
        try:
            # httpx does not close the generators under this one; a cancelled read
            # goes through them all.
            with trio.CancelScope() as scope:
                scope.cancel()
                async for _ in chunks:
                    pass
        finally:
            with trio.CancelScope(shield=True):
                await response.aclose()


async def _whole(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise httpx.DecodingError(f"more than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _failure(
    request: httpx.Request, status: int, body: bytes
) -> IdentityUnavailable | IdentityRefused:
    try:
        facts = msgspec.json.decode(body, type=ErrorAnswer).error
    except UNREADABLE:
        message = f"identity service {request.url}: status {status}, no reason given"
        return IdentityUnavailable(message)
    if status in _PASSING or status >= 500:
        message = f"identity service: {facts.reason}: {facts.message}"
        return IdentityUnavailable(message)
    return IdentityRefused(facts.reason, facts.message)


def _decode(body: bytes, kind: type[_Answer]) -> _Answer:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as error:
        raise IdentityUnavailable(f"identity service's answer: {error}") from error
