"""The last steps: pods leave the mesh, and Podlock leaves the nodes."""

from __future__ import annotations

import secrets

from tests.cluster import installation, machine
from tests.cluster.tap import Tap
from tests.cluster.world import SHOP, World
from tests.demo.report import Notes
from tests.lab import system


def unlabelled(world: World, notes: Notes) -> None:
    """The namespace loses its label: pods go on as if there were no mesh."""
    notes.did(f"kubectl label namespace {SHOP} podlock.io/mesh-")
    machine.kubectl("label", "namespace", SHOP, "podlock.io/mesh-")
    system.wait_until(
        lambda: not any(map(machine.is_marked, machine.pods_of(SHOP))), "marks", 30, 0.5
    )
    pods = {p["metadata"]["name"]: p for p in machine.pods_of(SHOP)}
    same = all(pods[n]["metadata"]["uid"] == uid for n, uid in world.uids.items())
    notes.saw(
        "the marks are gone, the pods the same and not restarted",
        same and not sum(map(machine.restarts, pods.values())),
    )
    secret = secrets.token_hex(8)
    with Tap() as tap:
        url = f"http://{world.service('page')}/?{secret}"
        served = world.is_served("caller-1", url)
    notes.saw("nginx is served across the nodes", served)
    notes.saw("now in plaintext, as without a mesh", tap.heard.readable(secret))
    left = {
        node: [w for w in _workloads(node) if w["state"] == "captured"]
        for node in machine.NODES
    }
    notes.saw("no agent has a captured pod", not any(left.values()))


def _workloads(node: int) -> list[machine.Document]:
    found: list[machine.Document] = machine.ask_agent(node, "workloads")["workloads"]
    return found


def removed(world: World, notes: Notes) -> None:
    """kubectl delete -k, with pods in the mesh: nothing is left on the nodes."""
    notes.did("the namespace labelled once more, then kubectl delete -k")
    machine.kubectl(
        "label", "namespace", SHOP, "podlock.io/mesh=enabled", "--overwrite"
    )
    system.wait_until(
        lambda: all(map(machine.is_marked, machine.pods_of(SHOP))), "marks", 30, 0.5
    )
    installation.delete()
    system.wait_until(lambda: not _agents(), "the agents to end", 90, 0.5)
    pins = [path.name for path in machine.pins()]
    notes.saw(f"pins under {machine.BPFFS}: {', '.join(pins) or 'none'}", not pins)
    served = world.is_served("caller-1", f"http://{world.service('page')}/")
    notes.saw("pods that were in the mesh are served, in plaintext", served)
    pods = machine.pods_of(SHOP)
    notes.saw("none was restarted", not sum(map(machine.restarts, pods)))


def _agents() -> list[str]:
    found = machine.kubectl_try("-n", machine.MESH, "get", "pods", "-o", "name")
    return found.stdout.split()
