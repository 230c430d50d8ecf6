"""The source against a real API server: what it hears, loses and gets back."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from agent.kube.client import Client
from tests.kube.definitions import custom, define, undefine
from tests.kube.world import Observed, World, observed, watching, written

pytestmark = pytest.mark.slow

SLICE = "/apis/discovery.k8s.io/v1beta1/namespaces/{}/endpointslices"


def service(name: str) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": "http"}]
    return {
        "metadata": {"name": name},
        "spec": {"ports": ports, "sessionAffinity": "ClientIP"},
    }


def endpoint_slice(name: str, *, empty: bool = False) -> dict[str, Any]:
    endpoint = {
        "addresses": ["10.1.0.9"],
        "conditions": {"ready": True},
        "topology": {"kubernetes.io/hostname": "there"},
    }
    return {
        "metadata": {
            "name": f"{name}-1",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [] if empty else [endpoint],
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
    }


async def test_hears_of_what_concerns_its_node(world: World) -> None:
    """Its own pods; of others the marked ones, without what nobody asks for."""
    await written(world.pod, "web", world.node, "10.1.0.1")
    await written(lambda: world.pod("api", world.elsewhere, "10.1.0.2", marked=True))
    await written(world.pod, "plain", world.elsewhere, "10.1.0.3")
    async with watching(world) as (seen, _):
        pods = seen.pods(world.namespace)
        assert sorted(pods) == ["api", "web"]
        assert pods["web"].labels == {"app": "web"}
        assert pods["web"].annotations == {}
        assert pods["api"].marked
        assert pods["api"].labels["app"] == "api"
        assert str(pods["api"].addresses[0]) == "10.1.0.2"

        await written(world.pod, "late", world.node)
        await seen.until(lambda: "late" in seen.pods(world.namespace))
        await written(world.set_addresses, "late", "10.1.0.4", "fd00::4")
        await seen.until(lambda: seen.pods(world.namespace)["late"].addresses)
        await written(world.delete_pod, "api")
        await seen.until(lambda: "api" not in seen.pods(world.namespace))
        # A mark that is put on brings the pod in, one that is taken off takes it out.
        for value in ("hbone", None):
            mark = {"podlock.io/tunnel": value}
            patch = {"metadata": {"labels": mark, "annotations": mark}}
            path = f"{world.home}/pods/plain"
            await written(world.plane.admin, "PATCH", path, patch)
            wanted = {"late", "plain", "web"} if value else {"late", "web"}
            await seen.until(partial(_has_pods, seen, world.namespace, wanted))


def _has_pods(seen: Observed, namespace: str, names: set[str]) -> bool:
    return set(seen.pods(namespace)) == names


async def test_services_and_their_slices(world: World) -> None:
    """Slices of the older version; one without endpoints comes with a null."""
    await written(world.post, f"{world.home}/services", service("api"))
    path = SLICE.format(world.namespace)
    await written(world.post, path, endpoint_slice("api"))
    async with watching(world) as (seen, _):
        here = [s for s in seen.objects.services if s.namespace == world.namespace]
        assert [(s.name, s.affinity_seconds) for s in here] == [("api", 10_800)]
        mine = [
            s for s in seen.objects.endpoint_slices if s.namespace == world.namespace
        ]
        assert [(s.service, len(s.endpoints)) for s in mine] == [("api", 1)]
        assert mine[0].endpoints[0].node == "there"

        await written(world.post, path, endpoint_slice("none", empty=True))
        await seen.until(
            lambda: any(
                s.service == "none" and s.namespace == world.namespace
                for s in seen.objects.endpoint_slices
            )
        )
        assert seen.change is not None
        assert not [p for p in seen.change.problems if world.namespace in p.object]


async def test_the_api_server_restarts(world: World) -> None:
    """What was heard stays while it is away, and what happens after is heard."""
    await written(world.pod, "web", world.node, "10.1.0.1")
    async with watching(world) as (seen, _):
        await written(world.plane.stop_server)
        await seen.until(lambda: seen.source.faults(0))
        assert "cannot be reached" in seen.source.faults(0)[0]
        assert "stays in force" in seen.source.faults(0)[0]
        assert "web" in seen.pods(world.namespace)

        await written(world.plane.start_server)
        await written(world.pod, "late", world.node)
        await seen.until(lambda: "late" in seen.pods(world.namespace))
        await seen.until(lambda: not seen.source.faults(0))


async def test_a_version_that_is_forgotten(world: World) -> None:
    """
    Away while pods come and go, etcd compacts and the server's memory is new: the watch
    answers 410, and the list that follows is no older than what was known.
    """
    await written(world.pod, "stays", world.node)
    await written(world.pod, "goes", world.node)
    async with watching(world) as (seen, gate):
        gate.close()
        await seen.until(lambda: seen.source.faults(0))
        await written(world.delete_pod, "goes")
        await written(world.pod, "comes", world.node)
        await written(world.plane.stop_server)
        await written(world.plane.compact)
        await written(world.plane.start_server)
        gate.asked.clear()
        gate.closed = False
        await seen.until(
            lambda: sorted(seen.pods(world.namespace)) == ["comes", "stays"]
        )
    own = ("fieldSelector", f"spec.nodeName={world.node}")
    mine = [dict(query) for _, query in gate.asked if own in query]
    assert [("watch" in query) for query in mine[:3]] == [True, False, True]
    relist = mine[1]
    assert relist["resourceVersionMatch"] == "NotOlderThan"
    assert relist["resourceVersion"] == mine[0]["resourceVersion"] != "0"


async def test_a_right_that_is_missing(world: World) -> None:
    """Nothing is told before all is known; the reason names it; it is retried."""
    await written(world.account, "agent")
    rest = "pods,nodes,namespaces"
    await written(
        world.grant,
        "agent",
        ("", rest, "list,watch"),
        ("discovery.k8s.io", "endpointslices", "list,watch"),
        ("policy.linkerd.io,security.istio.io", "*", "list,watch"),
    )
    token = await written(world.token, "agent")
    async with (
        Client(world.as_account(token)) as client,
        observed(client, world.node) as seen,
    ):
        await seen.until(lambda: seen.source.missing() and not _unlisted(seen.source))
        (reason,) = seen.source.missing()
        assert "does not permit it" in reason
        assert "services" in reason
        assert "no pod joins the mesh before that" in reason
        assert seen.change is None

        await written(world.account, "more")
        await written(_grant_services, world)
        await seen.until(lambda: seen.change)
        assert seen.source.missing() == []


def _unlisted(source: Any) -> bool:
    return any("not listed yet" in reason for reason in source.missing())


def _grant_services(world: World) -> None:
    home = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    name = f"{world.namespace}-agent"
    role = world.plane.admin("GET", f"{home}/{name}")
    role["rules"][0]["resources"].append("services")
    world.plane.admin("PUT", f"{home}/{name}", role)


async def test_a_custom_resource_that_comes_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the definition there are no such policies; with it they are heard of."""
    monkeypatch.setattr("agent.kube.failure.SLOW_PAUSE_SECONDS", 1.0)
    async with watching(world) as (seen, _):
        assert not seen.objects.linkerd.servers
        assert seen.source.missing() == []
        assert "servers.policy.linkerd.io" in seen.source.not_installed()
        path = await written(define, world, "policy.linkerd.io", "v1beta1", "Server")
        spec = {"podSelector": {}, "port": 80}
        http = custom("policy.linkerd.io/v1beta1", "Server", "http", spec)
        await written(world.post, path, http)
        await seen.until(lambda: seen.objects.linkerd.servers)
        (server,) = seen.objects.linkerd.servers
        assert server.title == f"Server {world.namespace}/http"
        # And where it is taken away, its objects are gone with it.
        await written(undefine, world, "servers.policy.linkerd.io")
        await seen.until(lambda: not seen.objects.linkerd.servers)
