"""Steps 1 and 2: Podlock arrives on the nodes, and pods join the mesh."""

from __future__ import annotations

import re
import time

from tests.cluster import images, installation, machine
from tests.cluster.world import SHOP, SHOP_APPS, World, namespace
from tests.demo.report import Notes
from tests.lab import system


def installed(_world: World, notes: Notes) -> None:
    """kubectl apply -k, and nothing by hand on a node."""
    notes.did("kubectl apply -f deploy/crds, -k deploy/kubernetes (for this cluster)")
    began = time.monotonic()
    installation.apply()
    rollout = ("-n", machine.MESH, "rollout", "status", "--timeout=240s")
    machine.kubectl(*rollout, "daemonset/podlock-agent", seconds=250)
    notes.saw(f"an agent is ready on both nodes after {time.monotonic() - began:.0f} s")
    machine.kubectl(*rollout, "deployment/podlock-identity", seconds=250)
    notes.saw("two replicas of the identity service are ready")
    size = images.ALL[0].archive.stat().st_size
    notes.saw(f"the image has {size / 1e6:.0f} MB, not compressed")
    for node in machine.NODES:
        status = machine.ask_agent(node, "status")
        redirect = status["redirect"]
        own = redirect["pins"].endswith(machine.node_name(node))
        notes.saw(
            f"node {node}: {redirect['pins']}, on {redirect['cgroup']}",
            own and machine.node_name(node) in redirect["cgroup"],
        )
        _privileges(node, notes)


def _privileges(node: int, notes: Notes) -> None:
    """What the kernel says that the agent may do."""
    name = machine.agent_pod(node)["metadata"]["name"]
    text = machine.run_in(machine.MESH, name, "cat", "/proc/self/status").stdout
    found = re.search(r"^CapBnd:\s+([0-9a-f]+)$", text, re.MULTILINE)
    bits = int(found[1], 16) if found else -1
    # capabilities(7): NET_ADMIN 12, SYS_PTRACE 19, SYS_ADMIN 21.
    expected = 1 << 12 | 1 << 19 | 1 << 21
    seccomp = re.search(r"^Seccomp:\s+(\d)$", text, re.MULTILINE)
    notes.saw(
        f"node {node}: three capabilities, seccomp filter "
        f"{'on' if seccomp and seccomp[1] == '2' else 'off'}",
        bits == expected,
    )


def meshed(world: World, notes: Notes) -> None:
    """A label on the namespace, and pods that know nothing of it."""
    notes.did("a namespace with podlock.io/mesh: enabled; nginx, redis, curl in it")
    machine.apply(
        namespace(SHOP, {}), *(each for app in SHOP_APPS for each in app.objects())
    )
    machine.wait_ready(SHOP)
    before = {
        p["metadata"]["name"]: p["metadata"]["uid"] for p in machine.pods_of(SHOP)
    }
    notes.saw(f"{len(before)} pods run before the namespace is labelled")
    began = time.monotonic()
    machine.kubectl(
        "label", "namespace", SHOP, "podlock.io/mesh=enabled", "--overwrite"
    )
    system.wait_until(_all_marked, "the mark on every pod", 30, 0.2)
    notes.saw(
        f"all are marked podlock.io/tunnel {time.monotonic() - began:.1f} s after that"
    )
    pods = machine.pods_of(SHOP)
    world.uids = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}
    notes.saw(
        "none was restarted",
        world.uids == before and not sum(map(machine.restarts, pods)),
    )
    told = system.wait_until(_events, "an Event of each pod", 30, 0.5)
    notes.saw(f"Events MeshCaptured, such as: {told[0]}")


def _all_marked() -> bool:
    return all(map(machine.is_marked, machine.pods_of(SHOP)))


def _events() -> list[str]:
    found = machine.get("-n", SHOP, "events", "--field-selector=reason=MeshCaptured")
    items = {e["involvedObject"]["name"]: e["message"] for e in found["items"]}
    names = [app.name for app in SHOP_APPS]
    return [items[name] for name in names] if items.keys() >= set(names) else []
