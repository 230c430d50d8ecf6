"""
Who bears a ServiceAccount token: the API server is asked, and nobody else.

A node's agent proves its node by its own pod: the token is bound to that pod, which
runs on one node (and newer servers write the node into the token too). So a token that
was stolen on a node speaks for that node alone, and dies with the pod.
Source: TokenReview (authentication.k8s.io/v1); KEP-1205, KEP-4193 for the claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import msgspec
import trio

from agent.errors import InputError
from agent.identity.reviewing import CallersUnknown
from agent.identity.token import (
    AUDIENCE,
    MAX_TOKEN_BYTES,
    Caller,
    InvalidTokenRequest,
    NodeCaller,
    TokenFault,
    TokenRefused,
)
from agent.kube.client import ApiFailed, Query
from agent.kube.failure import FailureKind

PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
USER_PREFIX: Final = "system:serviceaccount:"
POD_NAME: Final = "authentication.kubernetes.io/pod-name"
POD_UID: Final = "authentication.kubernetes.io/pod-uid"
NODE_NAME: Final = "authentication.kubernetes.io/node-name"
CREDENTIAL_ID: Final = "authentication.kubernetes.io/credential-id"
# Asked at the same time; a flood of bad tokens waits here and not at the API server.
REVIEWS_AT_ONCE: Final = 8


class InvalidReview(InputError):
    """An answer of the API server that is not what its kind says."""


_Decoded = TypeVar("_Decoded", bound=msgspec.Struct)


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    extra: dict[str, tuple[str, ...]] = {}


class _ReviewStatus(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = msgspec.field(default_factory=_User)
    audiences: tuple[str, ...] = ()
    error: str = ""


class _Review(msgspec.Struct, frozen=True):
    status: _ReviewStatus


class _PodMeta(msgspec.Struct, frozen=True):
    uid: str


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    node_name: str = ""


class _Pod(msgspec.Struct, frozen=True):
    metadata: _PodMeta
    spec: _PodSpec


@dataclass(frozen=True, slots=True)
class BoundPod:
    """The pod that a token is bound to; `node` is the token's own claim, if any."""

    namespace: str
    name: str
    uid: str
    node: str | None
    token_id: str

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"


def review_document(token: str) -> bytes:
    """The question."""
    spec = {"token": token, "audiences": [AUDIENCE]}
    return msgspec.json.encode(
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": spec,
        }
    )


def bound_pod(body: bytes, agent: str) -> BoundPod:
    """
    The pod of a token that is `agent`'s, a ServiceAccount as `namespace/name`.

    Raises: TokenRefused, InvalidReview.
    """
    status = _decode(body, _Review).status
    if not status.authenticated:
        reason = status.error[:200] or "the API server does not know it"
        raise TokenRefused(TokenFault.NOT_AUTHENTICATED, reason)
    if AUDIENCE not in status.audiences:
        # A server that ignores audiences takes every token for every purpose.
        found = ", ".join(status.audiences) or "none"
        text = f"audience: expected {AUDIENCE}, the API server vouches for {found}"
        raise TokenRefused(TokenFault.AUDIENCE, text)
    user = status.user
    if user.username != USER_PREFIX + agent.replace("/", ":"):
        text = f"{user.username[:300]} is not the agent ({agent})"
        raise TokenRefused(TokenFault.SUBJECT, text)
    name, uid = _only(user, POD_NAME), _only(user, POD_UID)
    if not name or not uid:
        text = "is not bound to a pod; expected a projected ServiceAccount token"
        raise TokenRefused(TokenFault.SUBJECT, text)
    namespace = agent.partition("/")[0]
    token_id = _only(user, CREDENTIAL_ID) or f"pod-uid={uid}"
    return BoundPod(namespace, name, uid, _only(user, NODE_NAME), token_id)


def node_of(body: bytes, bound: BoundPod) -> str:
    """
    The node that the pod runs on, which must be the one in the token.

    Raises: TokenRefused, InvalidReview.
    """
    pod = _decode(body, _Pod)
    if pod.metadata.uid != bound.uid:
        text = f"pod {bound.namespace}/{bound.name} is another one by now"
        raise TokenRefused(TokenFault.SUBJECT, text)
    if not pod.spec.node_name:
        text = f"pod {bound.namespace}/{bound.name} runs on no node"
        raise TokenRefused(TokenFault.SUBJECT, text)
    if bound.node is not None and bound.node != pod.spec.node_name:
        text = f"is for node {bound.node}, its pod runs on {pod.spec.node_name}"
        raise TokenRefused(TokenFault.SUBJECT, text)
    return pod.spec.node_name


def _only(user: _User, name: str) -> str | None:
    values = user.extra.get(name, ())
    return values[0] if len(values) == 1 else None


def _decode(body: bytes, kind: type[_Decoded]) -> _Decoded:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReview(f"the API server's answer: {error}") from error


class Asked(Protocol):
    """What is asked of a client."""

    async def get(self, path: str, query: Query = (), limit: int = ...) -> bytes:
        """Raises: ApiFailed."""

    async def send(self, method: str, path: str, body: bytes, kind: str = ...) -> bytes:
        """Raises: ApiFailed."""


class TokenReviews:
    """A `TokenReviewer` by the API server."""

    def __init__(self, api: Asked, agent: str) -> None:
        """`agent`: the ServiceAccount of the agents, as `namespace/name`."""
        self._api = api
        self._agent = agent
        self._limit = trio.CapacityLimiter(REVIEWS_AT_ONCE)

    async def review(self, token: str) -> Caller:
        """Raises: TokenRefused, CallersUnknown."""
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            text = f"expected at most {MAX_TOKEN_BYTES} bytes of ASCII"
            raise TokenRefused(TokenFault.MALFORMED, text)
        async with self._limit:
            try:
                return await self._ask(token)
            except ApiFailed as error:
                raise CallersUnknown(f"TokenReview: {error}") from error
            except (InvalidReview, InvalidTokenRequest) as error:
                raise CallersUnknown(f"TokenReview: {error}") from error

    async def spend(self, caller: Caller) -> None:
        """Nothing to do: none of these tokens is for single use."""
        del caller
        await trio.lowlevel.checkpoint()

    async def _ask(self, token: str) -> Caller:
        answer = await self._api.send("POST", PATH, review_document(token))
        bound = bound_pod(answer, self._agent)
        try:
            pod = await self._api.get(bound.path)
        except ApiFailed as error:
            if error.failure.kind is FailureKind.ABSENT:
                text = f"pod {bound.namespace}/{bound.name} is gone"
                raise TokenRefused(TokenFault.SUBJECT, text) from error
            raise
        return NodeCaller(node_of(pod, bound), bound.token_id)
