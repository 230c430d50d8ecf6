"""`podlock run` beside a real API server: pods come, talk and leave."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cluster.control_plane import until
from tests.kube.definitions import custom, define, undefine
from tests.kube.machine import API, WEB, Machine, agent, ask, check, machine
from tests.kube.world import World

pytestmark = pytest.mark.slow


def marked(world: World, name: str) -> bool:
    meta = world.read_pod(name)["metadata"]
    halves = (meta.get("annotations", {}), meta.get("labels", {}))
    one, other = (half.get("podlock.io/tunnel") == "hbone" for half in halves)
    assert one is other
    return bool(one)


def expose(world: World) -> str:
    """A Service of the pod api; its address."""
    spec = {"ports": [{"port": 80, "targetPort": 8080}]}
    service = {"metadata": {"name": "api"}, "spec": spec}
    address: str = world.post(f"{world.home}/services", service)["spec"]["clusterIP"]
    endpoint = {"addresses": [API], "conditions": {"ready": True}}
    labels = {"kubernetes.io/service-name": "api"}
    path = f"/apis/discovery.k8s.io/v1beta1/namespaces/{world.namespace}/endpointslices"
    world.post(
        path,
        {
            "metadata": {"name": "api-1", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [endpoint],
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        },
    )
    return address


def test_pods_join_talk_and_leave(world: World, tmp_path: Path) -> None:
    """
    Captured by their uid, marked, told of by an Event; a Service reached by tunnel,
    also while the API server is away; unmarked, in plaintext, once the label is gone.
    """
    with machine(world, tmp_path) as here, agent(here):
        here.pod("web", WEB)
        here.pod("api", API)
        (tmp_path / "www").mkdir()
        (tmp_path / "www/index.html").write_text("it works\n")
        www = ("--bind", API, "--directory", str(tmp_path / "www"), "8080")
        here.start("api", "python3", "-m", "http.server", *www)
        address = expose(world)
        until(lambda: marked(world, "web") and marked(world, "api"), 120)
        told = {"web": "MeshCaptured", "api": "MeshCaptured"}
        until(lambda: _events(world) == told, 60)

        until(lambda: here.fetch(f"http://{address}/") == "it works\n", 60)
        assert _paths(here) >= {("outbound", "tunnel", f"{world.namespace}/api")}

        world.plane.stop_server()
        assert here.fetch(f"http://{address}/") == "it works\n"
        until(lambda: "cannot be reached" in str(_why_not_ready(here)), 60)
        world.plane.start_server()
        until(lambda: not _why_not_ready(here), 60)

        path = f"/api/v1/namespaces/{world.namespace}"
        patch = {"metadata": {"labels": {"podlock.io/mesh": None}}}
        world.plane.admin("PATCH", path, patch)
        until(lambda: not marked(world, "web") and not marked(world, "api"), 60)
        until(lambda: ask(here, "status")["counts"]["captured"] == 0, 60)
        assert here.fetch(f"http://{API}:8080/") == "it works\n"


def _events(world: World) -> dict[str, str]:
    """The reason of each pod's Event."""
    found = world.plane.admin("GET", f"{world.home}/events")["items"]
    return {each["involvedObject"]["name"]: each["reason"] for each in found}


def _paths(here: Machine) -> set[tuple[str, str, str | None]]:
    found = ask(here, "connections")
    return {
        (each["direction"], each["path"], each["destination"]["service"])
        for each in (*found["open"], *found["recent"])
    }


def _why_not_ready(here: Machine) -> list[str]:
    reasons: list[str] = ask(here, "status").get("not_ready_because", ["no answer"])
    return reasons


READS = (
    ("", "pods,nodes,namespaces", "list,watch"),
    ("discovery.k8s.io", "endpointslices", "list,watch"),
    ("policy.linkerd.io,security.istio.io", "*", "list,watch"),
    ("", "pods/status", "patch"),
    ("policy.linkerd.io", "servers/status", "patch"),
)


def test_what_is_wrong_is_listed(world: World, tmp_path: Path) -> None:
    """
    A right that is missing, a kind that is not installed, objects that do not fit:
    `podlock check` names each, a policy's status says it too, and once it is put right
    nothing is said any more.
    """
    world.account("agent")
    world.grant("agent", *READS)
    with machine(world, tmp_path) as here, agent(here, as_account(world, "agent")):
        until(lambda: "services is forbidden" in check(here)[1], 60)
        code, told = check(here)
        assert code == 1
        assert "agent: not ready: the API server does not permit it" in told
        assert "no pod joins the mesh before that" in told
        assert "note: peerauthentications.security.istio.io: " in told

        world.grant("agent", ("", "services", "list,watch"), role="more")
        until(lambda: not _told(here), 60)

        path = define(world, "policy.linkerd.io", "v1beta1", "Server")
        good = {"podSelector": {}, "port": 80}
        bad = {"podSelector": {}, "port": 0}
        for name, spec in (("good", good), ("bad", bad)):
            world.post(path, custom("policy.linkerd.io/v1beta1", "Server", name, spec))
        world.pod("web", world.elsewhere, WEB, marked=True)
        world.pod("web-2", world.elsewhere, WEB, marked=True)
        object_ = f"Server {world.namespace}/bad: spec.port: "
        until(lambda: object_ in check(here)[1], 90)
        _, told = check(here)
        assert f"Pod {world.namespace}/web-2: status.podIPs: {WEB} belongs to" in told
        assert f"Server {world.namespace}/good" not in told

        until(lambda: _accepted(world, f"{path}/bad") == "False", 60)
        assert _accepted(world, f"{path}/good") is None

        world.delete_pod("web-2")
        world.plane.admin("DELETE", f"{path}/bad")
        until(lambda: not _told(here), 60)
        undefine(world, "servers.policy.linkerd.io")


def _accepted(world: World, path: str) -> str | None:
    """What the object's own status says of it."""
    conditions = world.plane.admin("GET", path).get("status", {}).get("conditions", [])
    told: list[str] = [each["status"] for each in conditions]
    return told[0] if told else None


def _told(here: Machine) -> list[str]:
    """What is wrong with this test's objects, or with the agent."""
    about = ("agent: ", "API server: ", here.world.namespace)
    _, told = check(here)
    lines = told.splitlines() or ["no answer"]
    return [
        line
        for line in lines
        if any(each in line for each in about) and not line.startswith("note: ")
    ]


def as_account(world: World, account: str) -> Path:
    """A kubeconfig of a ServiceAccount."""
    whole = yaml.safe_load(world.plane.kubeconfig("admin").read_text())
    (user,) = whole["users"]
    user["user"] = {"token": world.token(account)}
    path = world.plane.kubeconfig("admin").with_name(f"{world.namespace}-{account}")
    path.write_text(yaml.safe_dump(whole))
    return path
