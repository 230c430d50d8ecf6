"""A token makes its bearer the agent of one node, or nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.reviewing import CallersUnknown
from agent.identity.token import NodeCaller, TokenFault, TokenRefused
from agent.kube.client import ApiFailed, Query
from agent.kube.failure import Failure, FailureKind
from agent.kube.token_review import (
    CREDENTIAL_ID,
    NODE_NAME,
    POD_NAME,
    POD_UID,
    InvalidReview,
    TokenReviews,
    bound_pod,
    node_of,
    review_document,
)

AGENT = "podlock/podlock-agent"
NOTHING: Final[Mapping[str, str]] = {}
USER = "system:serviceaccount:podlock:podlock-agent"


def review(
    *,
    user: str = USER,
    audiences: tuple[str, ...] = ("podlock",),
    authenticated: bool = True,
    error: str = "",
    extra: Mapping[str, str] = NOTHING,
) -> bytes:
    claims = {POD_NAME: "agent-x", POD_UID: "u1", **extra}
    status = {
        "authenticated": authenticated,
        "error": error,
        "audiences": list(audiences),
        "user": {
            "username": user,
            "extra": {name: [value] for name, value in claims.items() if value},
        },
    }
    return json.dumps({"kind": "TokenReview", "status": status}).encode()


def pod(uid: str = "u1", node: str = "n1") -> bytes:
    document = {"metadata": {"uid": uid}, "spec": {"nodeName": node}}
    return json.dumps(document).encode()


class FakeApi:
    def __init__(self, review: bytes | Failure, pod: bytes | Failure = b"") -> None:
        self.review, self.pod = review, pod
        self.asked: list[Any] = []

    async def send(self, method: str, path: str, body: bytes, kind: str = "") -> bytes:
        self.asked.append(json.loads(body)["spec"])
        return self._answer(self.review)

    async def get(self, path: str, query: Query = (), limit: int = 0) -> bytes:
        self.asked.append(path)
        return self._answer(self.pod)

    @staticmethod
    def _answer(answer: bytes | Failure) -> bytes:
        if isinstance(answer, Failure):
            raise ApiFailed(answer)
        return answer


async def caller(api: FakeApi, token: str = "token") -> object:  # noqa: S107
    return await TokenReviews(api, AGENT).review(token)


class TestRefused:
    @pytest.mark.parametrize(
        ("answer", "fault"),
        [
            (review(authenticated=False), TokenFault.NOT_AUTHENTICATED),
            (review(audiences=()), TokenFault.AUDIENCE),
            (review(audiences=("https://kubernetes",)), TokenFault.AUDIENCE),
            (review(user="system:serviceaccount:shop:web"), TokenFault.SUBJECT),
            (review(user="system:serviceaccount:podlock:other"), TokenFault.SUBJECT),
            (review(user="system:node:n1"), TokenFault.SUBJECT),
            (review(user="podlock-agent"), TokenFault.SUBJECT),
            (review(extra={POD_NAME: ""}), TokenFault.SUBJECT),
            (review(extra={POD_UID: ""}), TokenFault.SUBJECT),
        ],
    )
    def test_tokens_of_others_and_for_others(
        self, answer: bytes, fault: TokenFault
    ) -> None:
        """Not known, for another purpose, of another account, bound to no pod."""
        with pytest.raises(TokenRefused) as caught:
            bound_pod(answer, AGENT)
        assert caught.value.fault is fault

    def test_the_servers_reason_is_told(self) -> None:
        """An expired token says so."""
        with pytest.raises(TokenRefused, match="token has expired"):
            bound_pod(review(authenticated=False, error="token has expired"), AGENT)

    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            (pod(uid="u2"), "is another one by now"),
            (pod(node=""), "runs on no node"),
            (pod(node="n2"), "is for node n1, its pod runs on n2"),
        ],
    )
    def test_pods_that_are_not_what_the_token_says(
        self, answer: bytes, why: str
    ) -> None:
        """Another pod of that name, one without a node, another node than claimed."""
        bound = bound_pod(review(extra={NODE_NAME: "n1"}), AGENT)
        with pytest.raises(TokenRefused, match=why):
            node_of(answer, bound)

    async def test_a_token_whose_pod_is_gone(self) -> None:
        """It dies with its pod, also where the API server has not noticed."""
        gone = Failure(FailureKind.ABSENT, "not found")
        with pytest.raises(TokenRefused, match="is gone"):
            await caller(FakeApi(review(), gone))

    @pytest.mark.parametrize("token", ["x" * 9000, "ü"])
    async def test_a_token_that_can_be_none(self, token: str) -> None:
        """Is not even asked about."""
        api = FakeApi(review())
        with pytest.raises(TokenRefused):
            await caller(api, token)
        assert api.asked == []

    @given(st.binary())
    def test_any_answer(self, body: bytes) -> None:
        """Bytes are no proof."""
        with pytest.raises(InvalidReview):
            bound_pod(body, AGENT)


class TestUnknown:
    @pytest.mark.parametrize("kind", [FailureKind.AWAY, FailureKind.FORBIDDEN])
    async def test_an_api_server_that_does_not_answer(self, kind: FailureKind) -> None:
        """Is no verdict about the caller: it may try again."""
        with pytest.raises(CallersUnknown):
            await caller(FakeApi(Failure(kind, "why")))
        with pytest.raises(CallersUnknown):
            await caller(FakeApi(review(), Failure(kind, "why")))

    async def test_an_answer_that_cannot_be_read(self) -> None:
        """Neither."""
        with pytest.raises(CallersUnknown):
            await caller(FakeApi(b"<html>"))


class TestTaken:
    async def test_the_node_of_its_pod(self) -> None:
        """With and without the claim of newer servers."""
        for extra in (NOTHING, {NODE_NAME: "n1"}):
            api = FakeApi(review(extra=extra), pod())
            assert await caller(api) == NodeCaller("n1", "pod-uid=u1")
            assert api.asked == [
                {"token": "token", "audiences": ["podlock"]},
                "/api/v1/namespaces/podlock/pods/agent-x",
            ]

    async def test_the_tokens_own_id(self) -> None:
        """Where a server gives one, the log can follow it."""
        api = FakeApi(review(extra={CREDENTIAL_ID: "JTI=7"}), pod())
        assert await caller(api) == NodeCaller("n1", "JTI=7")

    def test_asks_for_our_audience(self) -> None:
        """And for no other."""
        spec = json.loads(review_document("t"))["spec"]
        assert spec == {"token": "t", "audiences": ["podlock"]}
