"""Step 5: the kubelet's probes of pods that let nobody in."""

from __future__ import annotations

import time

from tests.cluster import machine
from tests.cluster.world import NGINX, SHOP, App, World
from tests.demo.report import Notes
from tests.lab import system

WATCH_SECONDS = 15.0
PROBES = ({"httpGet": {"path": "/", "port": 80}}, {"tcpSocket": {"port": 80}})
EXEC = {"exec": {"command": ["curl", "-sSf", "-o", "/dev/null", "http://127.0.0.1/"]}}
POLICIES = ("deny", "all-authenticated")


def _apps() -> list[App]:
    often = {"periodSeconds": 1, "failureThreshold": 2, "timeoutSeconds": 2}
    return [
        App(
            f"{policy}-{node}",
            node,
            NGINX,
            "probed",
            probes={
                "livenessProbe": {**PROBES[0], **often},
                "readinessProbe": {**PROBES[1], **often},
                "startupProbe": {**EXEC, "periodSeconds": 1, "failureThreshold": 30},
            },
            annotations={"config.linkerd.io/default-inbound-policy": policy},
        )
        for policy in POLICIES
        for node in machine.NODES
    ]


def under_deny(world: World, notes: Notes) -> None:
    """HTTP, TCP and exec probes each second; nobody else on the node gets in."""
    apps = _apps()
    try:
        _look(world, notes, apps)
    finally:
        names = [app.name for app in apps]
        gone = ("delete", "pod", *names, "--grace-period=1", "--ignore-not-found")
        machine.kubectl("-n", SHOP, *gone, seconds=90)


def _look(world: World, notes: Notes, apps: list[App]) -> None:
    notes.did("nginx with HTTP, TCP and exec probes each second, under each policy")
    machine.apply(*(each for app in apps for each in app.objects()))
    machine.wait_ready(SHOP)
    system.wait_until(
        lambda: all(map(machine.is_marked, machine.pods_of(SHOP))), "marks", 30, 0.5
    )
    time.sleep(WATCH_SECONDS)
    for app in apps:
        pod = machine.get("-n", SHOP, "pod", app.name)
        held = machine.is_ready(pod) and not machine.restarts(pod)
        notes.saw(
            f"{app.name}: ready, {machine.restarts(pod)} restarts in "
            f"{WATCH_SECONDS:.0f} s of probes",
            held,
        )
        node, url = app.node, f"http://{pod['status']['podIP']}/"
        others = system.finished(
            machine.on_node(node, ["curl", "-sS", "-m", "5", "-o", "/dev/null", url]),
            f"curl on node {node}",
            15,
        )
        notes.saw(
            f"{app.name}: curl of the node itself: {others.stderr.strip() or 'served'}",
            others.returncode != 0,
        )
    served = world.is_served("caller-1", f"http://{world.address('deny-2')}/")
    notes.saw("a meshed pod is refused under deny", not served)
