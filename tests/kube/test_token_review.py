"""Callers by their tokens, as a real API server judges them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.identity.reviewing import CallersUnknown
from agent.identity.token import NodeCaller, TokenFault, TokenRefused
from agent.kube.client import Client
from agent.kube.token_review import TokenReviews
from tests.kube.world import World, written

pytestmark = pytest.mark.slow


@asynccontextmanager
async def reviews(world: World) -> AsyncIterator[TokenReviews]:
    """By an identity service with no more rights than it needs."""
    await written(world.account, "identity")
    await written(
        world.grant,
        "identity",
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("", "pods", "get"),
    )
    token = await written(world.token, "identity")
    async with Client(world.as_account(token)) as client:
        yield TokenReviews(client, f"{world.namespace}/agent")


async def fault(checks: TokenReviews, token: str) -> TokenFault:
    with pytest.raises(TokenRefused) as caught:
        await checks.review(token)
    return caught.value.fault


async def test_an_agents_token_is_its_node(world: World) -> None:
    """While its pod lives, for our audience, and only the agent's own account."""
    for name in ("agent", "web"):
        await written(world.account, name)
    uid = await written(
        lambda: world.pod("agent-x", world.node, "10.1.0.1", account="agent")
    )
    other = await written(
        lambda: world.pod("web-x", world.node, "10.1.0.2", account="web")
    )
    async with reviews(world) as checks:
        token = await written(world.token, "agent", "podlock", ("agent-x", uid))
        caller = await checks.review(token)
        assert isinstance(caller, NodeCaller)
        assert caller.node == world.node

        unbound = await written(world.token, "agent", "podlock")
        assert await fault(checks, unbound) is TokenFault.SUBJECT
        elsewhere = await written(world.token, "agent", "", ("agent-x", uid))
        assert await fault(checks, elsewhere) is TokenFault.NOT_AUTHENTICATED
        theirs = await written(world.token, "web", "podlock", ("web-x", other))
        assert await fault(checks, theirs) is TokenFault.SUBJECT
        assert await fault(checks, f"{token}x") is TokenFault.NOT_AUTHENTICATED
        assert await fault(checks, "nonsense") is TokenFault.NOT_AUTHENTICATED

        await written(world.delete_pod, "agent-x")
        assert await fault(checks, token) in {
            TokenFault.NOT_AUTHENTICATED,
            TokenFault.SUBJECT,
        }


async def test_an_api_server_that_is_away(world: World) -> None:
    """Nobody is called a stranger for that."""
    async with reviews(world) as checks:
        await written(world.plane.stop_server)
        with pytest.raises(CallersUnknown, match="cannot be reached"):
            await checks.review("token")
        await written(world.plane.start_server)
        assert await fault(checks, "token") is TokenFault.NOT_AUTHENTICATED


async def test_without_the_right_to_ask(world: World) -> None:
    """The reason names what the role lacks."""
    await written(world.account, "identity")
    token = await written(world.token, "identity")
    async with Client(world.as_account(token)) as client:
        with pytest.raises(CallersUnknown, match="tokenreviews"):
            await TokenReviews(client, "podlock/agent").review("token")
