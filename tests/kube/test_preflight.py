"""What an agent would meet, asked of a real API server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from agent.kube.client import Client
from agent.kube.preflight import look
from agent.kube.resources import of_node
from tests.kube.world import World, written

pytestmark = pytest.mark.slow


async def test_rights_are_asked_for(world: World) -> None:
    """The admin has all of them; an account has what its role says."""
    now = datetime.now(UTC)
    async with Client(world.as_admin()) as client:
        found = await look(client, of_node(world.node), now)
    assert [each for each in found if not each.is_well] == []

    await written(world.account, "agent")
    await written(
        world.grant, "agent", ("", "pods,services", "list"), ("", "pods", "patch")
    )
    token = await written(world.token, "agent")
    async with Client(world.as_account(token)) as client:
        found = await look(client, of_node(world.node), now)
    bad = {each.subject for each in found if not each.is_well}
    assert "right to list pods" not in bad
    assert {
        "right to watch pods",
        "right to list namespaces",
        "right to patch pods/status",
    } <= bad
