"""
The identity service's HTTP endpoints, as an ASGI application.

    POST /v1/sign              Bearer TOKEN   {"csr": PEM} -> {"chain": PEM, "trust"}
    GET  /v1/bundle                           the trust document
    GET  /v1/bundle/spiffe                    the anchors as a SPIFFE bundle document
    GET  /v1/bundle/stream                    one trust document a line, as they change;
                                              an empty line every 15 s
    POST /v1/acknowledgements  Bearer TOKEN   a node's trust report -> {"version"}
    GET  /v1/state             Bearer ADMIN   what signs, who needs what, counters
    GET  /healthz                             {"status": "ok"}
    otherwise                                 {"error": {"reason", "message"}}

deploy/identity-openapi.yaml has every field and status; a test compares.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

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
from agent.identity.bundle import InvalidBundle
from agent.identity.issuance import Issuance, name_of
from agent.identity.limits import Rate, RateLimits, TooManyRequests
from agent.identity.overview import StateView
from agent.identity.refusals import refusal_of
from agent.identity.report import MAX_REPORT_BYTES, TrustReport
from agent.identity.reviewing import CallersUnknown, TokenReviewer
from agent.identity.spiffe_bundle import format_document, published
from agent.identity.token import AdminCaller, Caller, TokenFault, TokenRefused
from agent.identity.trust import UNREADABLE, TrustDocument
from agent.identity.wire import (
    AcknowledgedAnswer,
    ErrorAnswer,
    ErrorFacts,
    HealthAnswer,
    SignAnswer,
    SignBody,
)
from agent.log import logger

# A PEM request of the largest CSR that check_csr takes.
MAX_BODY_BYTES: Final = 32 * 1024
HEARTBEAT: Final = timedelta(seconds=5)
# Tokens of one address that are refused, or not judged yet. Whoever reaches the port
# may send some; to judge one can take an API server, which the nodes need as well.
STRANGERS: Final = Rate(per_second=1.0, burst=64)
# Agents have one each; who knows the address may ask, so there is a limit.
MAX_STREAMS: Final = 8192

Answer = msgspec.Struct | msgspec.Raw
Handler = Callable[[Message, Receive], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one node may ask for, and how much is in hand at once."""

    rate: Rate = field(default_factory=lambda: Rate(per_second=20.0, burst=1000))
    concurrent: int = 64


class IdentityService:
    """
    The ASGI application in front of an authority at work.

    `state` gives what GET /v1/state answers; it is called in a thread.
    """

    def __init__(
        self,
        issuance: Issuance,
        reviewer: TokenReviewer,
        *,
        limits: Limits | None = None,
        state: Callable[[], StateView] | None = None,
        request_deadline: timedelta = timedelta(seconds=10),
        heartbeat: timedelta = HEARTBEAT,
    ) -> None:
        self.issuance = issuance
        self._reviewer = reviewer
        self._limits = limits or Limits()
        self._rates = RateLimits(self._limits.rate)
        self._strangers = RateLimits(STRANGERS)
        self._state = state
        self._busy = 0
        self._deadline = request_deadline
        self._heartbeat = heartbeat
        self._streams = 0
        self._log = logger(part="identity", mode="service")
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/sign": ("POST", self._sign),
            "/v1/bundle": ("GET", self._bundle),
            "/v1/bundle/spiffe": ("GET", self._spiffe_bundle),
            "/v1/acknowledgements": ("POST", self._acknowledge),
            "/v1/state": ("GET", self._view),
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
            refusal = refusal_of(error)
            self.issuance.counts[f"http:{refusal.status}:{refusal.reason}"] += 1
            if refusal.status == 500:
                self._log.exception("request failed", path=scope["path"])
            await _refuse(send, refusal)
        else:
            await send_json(send, 200, msgspec.json.encode(document), ())

    async def _dispatch(self, scope: Message, receive: Receive) -> Answer:
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

    async def _spiffe_bundle(self, scope: Message, receive: Receive) -> msgspec.Raw:
        """A bundle endpoint (SPIFFE Federation section 5), for other trust domains."""
        del scope, receive
        await trio.lowlevel.checkpoint()
        try:
            told = published(self.issuance.trust)
        except InvalidBundle as error:
            raise HttpRefusal(503, "no_good_anchor", str(error)) from error
        return msgspec.Raw(format_document(told))

    async def _health(self, scope: Message, receive: Receive) -> HealthAnswer:
        del scope, receive
        await trio.lowlevel.checkpoint()
        self.issuance.authority.require_valid(self.issuance.clock())
        return HealthAnswer("ok")

    async def _view(self, scope: Message, receive: Receive) -> StateView:
        del receive
        caller = await self._caller(scope)
        if not isinstance(caller, AdminCaller):
            message = "the authority's state: expected a token made with --admin"
            raise HttpRefusal(403, "not_an_admin", message)
        if self._state is None:
            raise HttpRefusal(404, "not_found", "this authority has no directory")
        return await trio.to_thread.run_sync(self._state)

    async def _sign(self, scope: Message, receive: Receive) -> SignAnswer:
        # Who calls comes first: a stranger's body is not even read.
        caller = await self._caller(scope)
        with self._in_hand():
            body = _decode(await read_body(receive, MAX_BODY_BYTES))
            csr_pem = body.csr.encode()
            issued = await self.issuance.sign(caller, csr_pem, self._reviewer.spend)
        trust = TrustDocument.of(self.issuance.trust)
        return SignAnswer(issued.chain_pem.decode(), trust)

    async def _acknowledge(
        self, scope: Message, receive: Receive
    ) -> AcknowledgedAnswer:
        caller = await self._caller(scope)
        with self._in_hand():
            report = TrustReport.parse(await read_body(receive, MAX_REPORT_BYTES))
            await self.issuance.acknowledge(caller, report)
        return AcknowledgedAnswer(self.issuance.trust.version)

    @contextmanager
    def _in_hand(self) -> Iterator[None]:
        if self._busy >= self._limits.concurrent:
            message = f"{self._busy} requests are in hand; ask again"
            raise HttpRefusal(503, "overloaded", message, [(b"retry-after", b"1")])
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1

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
        """
        Who asks, if not too often.

        Raises: TokenRefused, CallersUnknown, TooManyRequests.
        """
        address = _address(scope)
        self._strangers.take(address, trio.current_time())
        try:
            caller = await self._reviewer.review(_bearer(scope))
            self._strangers.give_back(address)
        except CallersUnknown:
            self._strangers.give_back(address)
            raise
        except TokenRefused as refused:
            self._log.warning(
                "caller refused",
                client=scope.get("client"),
                reason=refused.fault.value,
                detail=str(refused),
            )
            raise
        try:
            self._rates.take(name_of(caller), trio.current_time())
        except TooManyRequests as refused:
            self._log.warning("caller refused", reason="rate", detail=str(refused))
            raise
        return caller


STREAM: Final = ("GET", "/v1/bundle/stream")


def _address(scope: Message) -> str:
    host, _port = scope.get("client") or ("an unknown address", 0)
    return str(host)


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


async def _refuse(send: Send, refusal: HttpRefusal) -> None:
    document = ErrorAnswer(ErrorFacts(refusal.reason, str(refusal)))
    body = msgspec.json.encode(document)
    await send_json(send, refusal.status, body, refusal.headers)
