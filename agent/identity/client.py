"""The identity service as an agent sees it, over HTTPS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import httpx
import msgspec
import trio

from agent.dependencies import Dependency
from agent.errors import InputError, innermost
from agent.findings import Faults
from agent.identity.acquaintance import Acquaintance
from agent.identity.anchored import AnchoredTransport
from agent.identity.authority import SERVICE_NAME
from agent.identity.endpoints import HEARTBEAT
from agent.identity.overview import StateView
from agent.identity.pem import CERTIFICATE_REQUEST, format_blocks
from agent.identity.report import ReportDocument, TrustReport
from agent.identity.signer_file import naming
from agent.identity.source import IdentityRefused, IdentityUnavailable, Signed
from agent.identity.store import InvalidKeystore
from agent.identity.token import MAX_TOKEN_BYTES
from agent.identity.trust import MAX_TRUST_BYTES, UNREADABLE, InvalidTrust, Trust
from agent.identity.wire import AcknowledgedAnswer, ErrorAnswer, SignAnswer
from agent.log import logger
from agent.recovery import CONNECT_SECONDS, LIMIT_SECONDS

# A trust document, and a chain.
MAX_ANSWER_BYTES: Final = MAX_TRUST_BYTES + 64 * 1024
# A stream that says nothing for as long, not even an empty line, is dead.
SILENCE: Final = HEARTBEAT * 3

# RFC 9110 section 15.5: what a later request may get past.
_PASSING: Final = frozenset({408, 429})


_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class InvalidClientSettings(InputError):
    """An address that cannot be used."""


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
        timeout: timedelta = timedelta(seconds=LIMIT_SECONDS),
        transport: httpx.AsyncBaseTransport | None = None,
        contact: Dependency | None = None,
        faults: Faults | None = None,
    ) -> None:
        """
        Args: anchors_file is where the anchors came from, read again as it changes;
        memory keeps what the service told across restarts; transport replaces the
        network, in tests; contact hears of each answer and failure, faults of damage
        to the memory.

        Raises: InvalidClientSettings for a URL without https; InvalidAnchors.
        """
        if not url.startswith("https://"):
            raise InvalidClientSettings(f"identity service {url!r}: expected https://")
        self._token_file = trio.Path(token_file)
        self._anchors_file = trio.Path(anchors_file) if anchors_file else None
        self._known = Acquaintance(anchors_pem, memory)
        self._faults = faults or Faults()
        self._anchored = AnchoredTransport(anchors_pem)
        if self._known.trust is not None:
            self._anchored.trust(self._known.trust)
        self._contact = contact or Dependency("identity service", url)
        self._http = httpx.AsyncClient(
            base_url=url,
            # A connection that gets no answer is tried anew: the next one may get it.
            timeout=httpx.Timeout(timeout.total_seconds(), connect=CONNECT_SECONDS),
            trust_env=False,
            transport=transport or self._anchored,
        )
        self._log = logger(part="identity")
        self._report_memory()

    def _report_memory(self) -> None:
        memory, damage = str(self._known.memory), self._known.damage
        if damage is None:
            self._faults.clear(memory)
        else:
            self._faults.set(memory, damage)
            self._log.error("remembered trust lost", file=memory, error=damage)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

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
        told: Trust | None = None
        while True:
            async with aclosing(self._watch()) as changes:
                async for trust in changes:
                    await self._remember(trust)
                    if trust != told:
                        told = trust
                        yield trust
                    if self._anchored.trust(trust):
                        break  # the next word comes from who can show a good chain

    async def _watch(self) -> AsyncGenerator[Trust, None]:
        request = self._request("GET", "/v1/bundle/stream", None)
        request.extensions["timeout"]["read"] = SILENCE.total_seconds()
        async with aclosing(self._lines(request)) as lines:
            async for line in lines:
                if not line:
                    continue  # a heartbeat
                try:
                    yield Trust.parse(line)
                except InvalidTrust as error:
                    message = f"identity service {request.url}: {error}"
                    raise IdentityUnavailable(message) from error

    async def acknowledge(self, report: TrustReport) -> None:
        """Raises: IdentityUnavailable, IdentityRefused."""
        document = msgspec.to_builtins(ReportDocument.of(report))
        request = self._request("POST", "/v1/acknowledgements", document)
        _decode(await self._ask(await self._with_token(request)), AcknowledgedAnswer)

    async def date(self) -> str | None:
        """
        The Date header of an answer, for a first look: the service answers, and its
        certificate is good. Raises: IdentityUnavailable.
        """
        await self._read_anchors()
        await self._token()
        request = self._request("GET", "/v1/bundle", None)
        with self._reporting(), _unavailable(request):
            async with _answer(self._http, request) as (response, chunks):
                await _whole(chunks)
        date: str | None = response.headers.get("date")
        return date

    async def state(self) -> StateView:
        """What signs and who needs what, for an admin's token. Raises: as above."""
        request = self._request("GET", "/v1/state", None)
        return _decode(await self._ask(await self._with_token(request)), StateView)

    def _request(self, method: str, path: str, document: object) -> httpx.Request:
        return self._http.build_request(
            method,
            path,
            json=document,
            extensions={"sni_hostname": SERVICE_NAME},
        )

    async def _read_anchors(self) -> None:
        """The configured file, should somebody have replaced it."""
        if self._anchors_file is None:
            return
        file = str(self._anchors_file)
        try:
            anchors_pem = await self._anchors_file.read_bytes()
            with naming(file, anchors_pem):
                news = self._known.configure(anchors_pem)
        except (OSError, InvalidKeystore) as error:
            # Half written, or gone: what we know is good enough to ask.
            self._log.warning("anchors not read", file=file, error=str(error))
            return
        if news:
            self._anchored.configure(anchors_pem)
            self._log.info("anchors replaced", file=file)

    async def _remember(self, trust: Trust) -> None:
        try:
            await trio.to_thread.run_sync(self._known.learn, trust)
        except OSError as error:
            self._log.warning("trust not remembered", error=str(error))
        self._report_memory()

    async def _with_token(self, request: httpx.Request) -> httpx.Request:
        request.headers["authorization"] = f"Bearer {await self._token()}"
        return request

    async def _token(self) -> str:
        # Read for each request: a projected service-account token is replaced hourly.
        try:
            token = (await self._token_file.read_bytes()).strip()
        except OSError as error:
            message = f"token file {self._token_file}: {error.strerror}"
            self._contact.failed(message)
            raise IdentityUnavailable(message) from error
        if not token or len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise IdentityUnavailable(f"token file {self._token_file}: holds no token")
        return token.decode()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except IdentityUnavailable as error:
            self._contact.failed(str(error))
            raise
        except IdentityRefused:
            self._contact.heard()
            raise
        else:
            self._contact.heard()

    async def _ask(self, request: httpx.Request) -> bytes:
        await self._read_anchors()
        with self._reporting():
            with _unavailable(request):
                async with _answer(self._http, request) as (response, chunks):
                    body = await _whole(chunks)
            if response.status_code != 200:
                raise _failure(request, response.status_code, body)
        return body

    async def _lines(self, request: httpx.Request) -> AsyncGenerator[bytes, None]:
        """An answer's lines, without their ends. Raises: IdentityUnavailable."""
        await self._read_anchors()
        with self._reporting(), _unavailable(request):
            async with _answer(self._http, request) as (response, chunks):
                if response.status_code != 200:
                    body = await _whole(chunks)
                    raise _failure(request, response.status_code, body)
                rest = b""
                async for chunk in chunks:
                    *lines, rest = (rest + chunk).split(b"\n")
                    self._contact.heard()
                    for line in lines:
                        yield line
                    if len(rest) > MAX_ANSWER_BYTES:
                        raise httpx.DecodingError(
                            f"line: over {MAX_ANSWER_BYTES} bytes"
                        )
            ended = f"identity service {request.url}: the stream ended"
            raise IdentityUnavailable(ended)


@contextmanager
def _unavailable(request: httpx.Request) -> Iterator[None]:
    """What the network does to a request, as our error."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        message = f"identity service {request.url}: {innermost(error)}"
        raise IdentityUnavailable(message) from error


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
