"""
The identity service's HTTP endpoints, as an ASGI application.

    POST /v1/sign     Authorization: Bearer TOKEN    {"csr": PEM}
                      200 {"chain": PEM, "bundle": PEM}
    GET  /v1/bundle   200 {"trust_domain": NAME, "bundle": PEM}
    otherwise         {"error": {"reason": CODE, "message": TEXT}}
                      400, 401, 403, 404, 405, 408, 413, 500, 503
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Protocol, cast

import msgspec
import trio
from cryptography import x509

from agent.errors import PodlockError
from agent.identity.audit import record_issued, record_refused
from agent.identity.authority import Authority, InvalidAuthority
from agent.identity.clock import Clock, utc_now
from agent.identity.signing import (
    NodeRegistry,
    SigningReason,
    SigningRefused,
    sign_request,
)
from agent.identity.token import Caller, TokenFault, TokenRefused
from agent.log import logger

# A PEM request of the largest CSR that check_csr takes.
MAX_BODY_BYTES: Final = 32 * 1024

# All that msgspec raises for bytes that are not the wanted JSON.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Message, Receive], Awaitable[Mapping[str, str]]]


class CallersUnknown(PodlockError):
    """Nobody can be asked who bears a token now; a later try may tell."""


class CallerCheck(Protocol):
    """Finds out who bears a token."""

    async def caller_of(self, token: str) -> Caller:
        """Raises: TokenRefused, CallersUnknown."""


class HttpRefusal(PodlockError):
    """A request that ends in an error document."""

    def __init__(
        self, status: int, reason: str, message: str, allow: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.allow = allow


class SignBody(msgspec.Struct, frozen=True):
    """The body of POST /v1/sign."""

    csr: str


class IdentityService:
    """
    The ASGI application.

    `authority` may be replaced at any time; the next request uses the new one.
    """

    def __init__(
        self,
        authority: Authority,
        registry: NodeRegistry,
        callers: CallerCheck,
        *,
        clock: Clock = utc_now,
        request_deadline: timedelta = timedelta(seconds=10),
    ) -> None:
        self.authority = authority
        self._registry = registry
        self._callers = callers
        self._clock = clock
        self._deadline = request_deadline
        self._log = logger(part="identity", mode="service")
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/sign": ("POST", self._sign),
            "/v1/bundle": ("GET", self._bundle),
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the server's start and end."""
        match scope["type"]:
            case "lifespan":
                await _lifespan(receive, send)
            case "http":
                await self._answer(scope, receive, send)
            case kind:
                raise HttpRefusal(404, "not_found", f"{kind}: only HTTP is served")

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        headers: list[tuple[bytes, bytes]] = []
        status, document = 200, cast("Mapping[str, object]", {})
        try:
            with trio.fail_after(self._deadline.total_seconds()):
                document = await self._dispatch(scope, receive)
        except Exception as error:  # noqa: BLE001 - one bad request ends no service
            refusal = _refusal_of(error)
            if refusal.status == 500:
                self._log.exception("request failed", path=scope["path"])
            status = refusal.status
            document = {"error": {"reason": refusal.reason, "message": str(refusal)}}
            if refusal.allow:
                headers.append((b"allow", refusal.allow.encode()))
            if status == 401:
                headers.append((b"www-authenticate", b"Bearer"))
        await _send(send, status, headers, document)

    async def _dispatch(self, scope: Message, receive: Receive) -> Mapping[str, str]:
        path = scope["path"]
        if path not in self._routes:
            raise HttpRefusal(404, "not_found", f"{path}: no such endpoint")
        method, handler = self._routes[path]
        if scope["method"] != method:
            message = f"{path}: {scope['method']}, expected {method}"
            raise HttpRefusal(405, "method_not_allowed", message, allow=method)
        return await handler(scope, receive)

    async def _bundle(self, scope: Message, receive: Receive) -> Mapping[str, str]:
        del scope, receive  # the anchors are public
        bundle = self.authority.bundle
        return {"trust_domain": str(bundle.trust_domain), "bundle": bundle.pem.decode()}

    async def _sign(self, scope: Message, receive: Receive) -> Mapping[str, str]:
        # Who calls comes first: a stranger's body is not even read.
        caller = await self._caller(scope)
        body = _decode(await _read_body(receive))
        try:
            issued = sign_request(
                self.authority,
                self._registry,
                caller,
                body.csr.encode(),
                now=self._clock(),
                serial=x509.random_serial_number(),
            )
        except SigningRefused as refused:
            record_refused(self._log, caller, refused)
            raise
        record_issued(self._log, caller, issued)
        return {
            "chain": issued.chain_pem.decode(),
            "bundle": issued.bundle_pem.decode(),
        }

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


def _bearer(scope: Message) -> str:
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    scheme, _, token = values[0].partition(b" ") if len(values) == 1 else (b"",) * 3
    if scheme.lower() != b"bearer" or not token:
        message = "expected one header 'Authorization: Bearer TOKEN'"
        raise TokenRefused(TokenFault.MISSING, message)
    return str(token.strip(), "latin-1")


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HttpRefusal(400, "malformed_request", "body: ended early")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise HttpRefusal(413, "too_large", f"body: over {MAX_BODY_BYTES} bytes")
    return bytes(body)


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
            return HttpRefusal(401, error.fault.value, str(error))
        case SigningRefused(reason=SigningReason.MALFORMED_CSR):
            return HttpRefusal(400, error.reason.value, str(error))
        case SigningRefused():
            return HttpRefusal(403, error.reason.value, str(error))
        case InvalidAuthority():
            return HttpRefusal(503, "authority_unusable", str(error))
        case CallersUnknown():
            return HttpRefusal(503, "callers_unknown", str(error))
        case trio.TooSlowError():
            return HttpRefusal(408, "too_slow", "the request did not come in time")
        case _:
            return HttpRefusal(500, "internal", "see the identity service's log")


async def _send(
    send: Send,
    status: int,
    headers: list[tuple[bytes, bytes]],
    document: Mapping[str, object],
) -> None:
    body = msgspec.json.encode(document)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        match (await receive())["type"]:
            case "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            case "lifespan.shutdown":
                await send({"type": "lifespan.shutdown.complete"})
                return
