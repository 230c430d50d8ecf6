"""
The identity service's HTTP endpoints, as an ASGI application.

    POST /v1/sign              Bearer TOKEN   {"csr": PEM} -> {"chain": PEM, "trust"}
    GET  /v1/bundle                           the trust document
    GET  /v1/bundle/stream                    one trust document a line, as they change;
                                              an empty line every 15 s
    POST /v1/acknowledgements  Bearer TOKEN   a node's trust report -> {"version"}
    GET  /healthz                             {"status": "ok"}
    otherwise                                 {"error": {"reason", "message"}}

deploy/identity-openapi.yaml has every field and status; a test compares.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Final, Protocol

import msgspec
import trio

from agent.identity.asgi import (
    HttpRefusal,
    Message,
    Receive,
    Send,
    lifespan,
    read_body,
    send_json,
    send_lines,
)
from agent.identity.authority import InvalidAuthority
from agent.identity.issuance import Issuance
from agent.identity.report import MAX_REPORT_BYTES, InvalidReport, TrustReport
from agent.identity.signing import SigningReason, SigningRefused
from agent.identity.token import Caller, TokenFault, TokenRefused
from agent.identity.trust import UNREADABLE, TrustDocument
from agent.log import logger

# A PEM request of the largest CSR that check_csr takes.
MAX_BODY_BYTES: Final = 32 * 1024
HEARTBEAT: Final = timedelta(seconds=15)
# Agents have one each; who knows the address may ask, so there is a limit.
MAX_STREAMS: Final = 8192

Handler = Callable[[Message, Receive], Awaitable[msgspec.Struct]]


class CallerCheck(Protocol):
    """Finds out who bears a token."""

    async def caller_of(self, token: str) -> Caller:
        """Raises: TokenRefused."""


class SignBody(msgspec.Struct, frozen=True):
    """The body of POST /v1/sign."""

    csr: str


class SignAnswer(msgspec.Struct, frozen=True):
    """The answer of POST /v1/sign."""

    chain: str
    trust: TrustDocument


class AcknowledgedAnswer(msgspec.Struct, frozen=True):
    """The answer of POST /v1/acknowledgements: the version that is in force here."""

    version: int


class HealthAnswer(msgspec.Struct, frozen=True):
    """The answer of GET /healthz."""

    status: str


class ErrorFacts(msgspec.Struct, frozen=True):
    """Why not."""

    reason: str
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Any answer but 200."""

    error: ErrorFacts


class IdentityService:
    """The ASGI application in front of an authority at work."""

    def __init__(
        self,
        issuance: Issuance,
        callers: CallerCheck,
        *,
        request_deadline: timedelta = timedelta(seconds=10),
        heartbeat: timedelta = HEARTBEAT,
    ) -> None:
        self.issuance = issuance
        self._callers = callers
        self._deadline = request_deadline
        self._heartbeat = heartbeat
        self._streams = 0
        self._log = logger(part="identity", mode="service")
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/sign": ("POST", self._sign),
            "/v1/bundle": ("GET", self._bundle),
            "/v1/acknowledgements": ("POST", self._acknowledge),
            "/healthz": ("GET", self._health),
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the server's start and end."""
        match scope["type"]:
            case "lifespan":
                await lifespan(receive, send)
            case "http" if (scope["method"], scope["path"]) == STREAM:
                await self._stream(receive, send)
            case "http":
                await self._answer(scope, receive, send)
            case kind:
                raise HttpRefusal(404, "not_found", f"{kind}: only HTTP is served")

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            with trio.fail_after(self._deadline.total_seconds()):
                document = await self._dispatch(scope, receive)
        except Exception as error:  # noqa: BLE001 - one bad request ends no service
            refusal = _refusal_of(error)
            if refusal.status == 500:
                self._log.exception("request failed", path=scope["path"])
            await _refuse(send, refusal)
        else:
            await send_json(send, 200, msgspec.json.encode(document), ())

    async def _dispatch(self, scope: Message, receive: Receive) -> msgspec.Struct:
        path = scope["path"]
        method, handler = self._routes.get(path, (None, None))
        if path == STREAM[1]:
            method = STREAM[0]
        if method is None:
            raise HttpRefusal(404, "not_found", f"{path}: no such endpoint")
        if handler is None or scope["method"] != method:
            message = f"{path}: {scope['method']}, expected {method}"
            allow = [(b"allow", method.encode())]
            raise HttpRefusal(405, "method_not_allowed", message, allow)
        return await handler(scope, receive)

    async def _bundle(self, scope: Message, receive: Receive) -> TrustDocument:
        del scope, receive  # the anchors are public
        await trio.lowlevel.checkpoint()
        return TrustDocument.of(self.issuance.trust)

    async def _health(self, scope: Message, receive: Receive) -> HealthAnswer:
        del scope, receive
        await trio.lowlevel.checkpoint()
        self.issuance.authority.require_valid(self.issuance.clock())
        return HealthAnswer("ok")

    async def _sign(self, scope: Message, receive: Receive) -> SignAnswer:
        # Who calls comes first: a stranger's body is not even read.
        caller = await self._caller(scope)
        body = _decode(await read_body(receive, MAX_BODY_BYTES))
        issued = await self.issuance.sign(caller, body.csr.encode())
        trust = TrustDocument.of(self.issuance.trust)
        return SignAnswer(issued.chain_pem.decode(), trust)

    async def _acknowledge(
        self, scope: Message, receive: Receive
    ) -> AcknowledgedAnswer:
        caller = await self._caller(scope)
        report = TrustReport.parse(await read_body(receive, MAX_REPORT_BYTES))
        await self.issuance.acknowledge(caller, report)
        return AcknowledgedAnswer(self.issuance.trust.version)

    async def _stream(self, receive: Receive, send: Send) -> None:
        if self._streams >= MAX_STREAMS:
            message = f"over {MAX_STREAMS} streams are open"
            await _refuse(send, HttpRefusal(503, "too_many_streams", message))
            return
        self._streams += 1
        try:
            await send_lines(
                receive,
                send,
                self._lines(),
                heartbeat=self._heartbeat,
                patience=self._heartbeat,
            )
        finally:
            self._streams -= 1

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.issuance.watch()) as changes:
            async for trust in changes:
                yield trust.format()

    async def _caller(self, scope: Message) -> Caller:
        try:
            return await self._callers.caller_of(_bearer(scope))
        except TokenRefused as refused:
            self._log.warning(
                "caller refused",
                client=scope.get("client"),
                reason=refused.fault.value,
                detail=str(refused),
            )
            raise


STREAM: Final = ("GET", "/v1/bundle/stream")


def _bearer(scope: Message) -> str:
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, token = values[0].partition(b" ") if len(values) == 1 else (b"",) * 3
    if scheme.lower() != b"bearer" or not token:
        message = "expected one header 'Authorization: Bearer TOKEN'"
        raise TokenRefused(TokenFault.MISSING, message)
    return str(token.strip(), "latin-1")


def _decode(body: bytes) -> SignBody:
    try:
        return msgspec.json.decode(body, type=SignBody)
    except UNREADABLE as error:
        raise HttpRefusal(400, "malformed_request", f"body: {error}") from error


def _refusal_of(error: Exception) -> HttpRefusal:
    match error:
        case HttpRefusal():
            return error
        case TokenRefused():
            bearer = [(b"www-authenticate", b"Bearer")]
            return HttpRefusal(401, error.fault.value, str(error), bearer)
        case SigningRefused(reason=SigningReason.MALFORMED_CSR):
            return HttpRefusal(400, error.reason.value, str(error))
        case SigningRefused():
            return HttpRefusal(403, error.reason.value, str(error))
        case InvalidReport():
            return HttpRefusal(400, "malformed_report", str(error))
        case InvalidAuthority():
            return HttpRefusal(503, "authority_unusable", str(error))
        case trio.TooSlowError():
            return HttpRefusal(408, "too_slow", "the request did not come in time")
        case _:
            return HttpRefusal(500, "internal", "see the identity service's log")


async def _refuse(send: Send, refusal: HttpRefusal) -> None:
    document = ErrorAnswer(ErrorFacts(refusal.reason, str(refusal)))
    body = msgspec.json.encode(document)
    await send_json(send, refusal.status, body, refusal.headers)
