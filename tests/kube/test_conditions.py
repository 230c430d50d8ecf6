"""Conditions on policies of a real API server."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from agent.identity.clock import utc_now
from agent.identity.spiffe import TrustDomain
from agent.kube.client import Client
from agent.kube.condition_writer import ConditionWriter
from agent.kube.conditions import CONDITION
from agent.workload.registry import Registry
from tests.kube.definitions import custom, define, undefine
from tests.kube.world import World, observed, written

pytestmark = pytest.mark.slow

GROUP, VERSION = "security.istio.io", "v1"
METHODS = {"to": [{"operation": {"methods": ["GET"]}}]}


async def test_what_cannot_be_enforced_is_said_in_the_object(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no more rights than these; others' conditions stay, ours goes with it."""
    monkeypatch.setattr("agent.kube.condition_writer.PAUSE_SECONDS", 0.1)
    path = await written(define, world, GROUP, VERSION, "AuthorizationPolicy")
    bodies = {
        "http": {"action": "ALLOW", "rules": [METHODS]},
        "unknown": {"action": "ALLOW", "rules": [{"form": []}]},
        "fine": {"action": "ALLOW", "rules": [{}]},
    }
    for name, spec in bodies.items():
        object_ = custom(f"{GROUP}/{VERSION}", "AuthorizationPolicy", name, spec)
        await written(world.post, path, object_)
    theirs = {"type": "ZtunnelAccepted", "status": "True"}
    patch = {"status": {"conditions": [theirs]}}
    await written(world.plane.admin, "PATCH", f"{path}/http/status", patch)
    await written(_agent, world)
    token = await written(world.token, "agent")
    registry = Registry(world.node, TrustDomain("cluster.local"), by_mark=True)
    async with (
        Client(world.as_account(token)) as client,
        observed(client, world.node) as seen,
        trio.open_nursery() as nursery,
    ):
        await seen.until(lambda: len(seen.objects.istio.authorization_policies) >= 2)
        writer = ConditionWriter(
            client, seen.source.policies, chance=lambda: 0.0, clock=utc_now
        )
        writer.judged(registry.apply(seen.objects).policy_problems)
        nursery.start_soon(writer.run)

        async def condition(name: str, status: str) -> Any:
            with trio.fail_after(30):
                while True:
                    told = await written(_conditions, world, f"{path}/{name}")
                    ours = [each for each in told if each["type"] == CONDITION]
                    if ours and ours[0]["status"] == status:
                        return ours[0], told
                    await trio.sleep(0.1)

        ours, told = await condition("http", "False")
        assert ours["reason"] == "NotWhollyEnforced"
        assert "spec.rules[0]" in ours["message"]
        assert theirs in told
        ours, _ = await condition("unknown", "False")
        assert ours["reason"] == "Unreadable"
        assert "form" in ours["message"]

        writer.judged(())
        await condition("http", "True")
        assert await written(_conditions, world, f"{path}/fine") == []
        assert writer.fault == ""
        nursery.cancel_scope.cancel()
    await written(undefine, world, f"authorizationpolicies.{GROUP}")


def _agent(world: World) -> None:
    world.account("agent")
    reads = "list,watch"
    world.grant(
        "agent",
        ("", "pods,nodes,namespaces,services", reads),
        ("discovery.k8s.io", "endpointslices", reads),
        ("policy.linkerd.io,security.istio.io", "*", reads),
        (GROUP, "authorizationpolicies/status", "patch"),
    )


def _conditions(world: World, path: str) -> list[Any]:
    status = world.plane.admin("GET", path).get("status", {})
    found: list[Any] = status.get("conditions", [])
    return found
