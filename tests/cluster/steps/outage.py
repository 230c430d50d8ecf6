"""Steps 6 to 9: agents are replaced and killed, kubelet and API server go away."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.cluster import machine, traffic
from tests.cluster.absence import Absences
from tests.cluster.tap import Tap
from tests.cluster.world import NGINX, SHOP, App, World
from tests.demo.report import Notes
from tests.lab import system

API_OUTAGE_SECONDS = 60.0
KUBELET_OUTAGE_SECONDS = 5.0
SUCCESSOR = "podlock-successor"
GAP_WATCH_SECONDS = 12.0
GAP_SECONDS = 3.0  # the goal


def rolling_restart(_world: World, notes: Notes) -> None:
    """New connections all the while: which failed, and was anything in plaintext."""
    notes.did(f"{traffic.RATE} new connections a second on each of four paths")
    traffic.start()
    notes.did("kubectl rollout restart daemonset/podlock-agent")
    with Tap() as tap, Absences() as absences:
        began = traffic.settle(3)
        rollout = ("-n", machine.MESH, "rollout")
        machine.kubectl(*rollout, "restart", "daemonset/podlock-agent")
        status = ("status", "daemonset/podlock-agent", "--timeout=180s")
        machine.kubectl(*rollout, *status, seconds=190)
        ended = traffic.settle(3)
    for node in machine.NODES:
        times = absences.of(node)
        seconds = sum(back - gone for gone, back in times)
        notes.saw(f"node {node}: no ready agent for {seconds:.1f} s", len(times) == 1)
        for gone, back in times:
            for tally in traffic.tallies(gone, back):
                if not tally.path.touches(node):
                    held = tally.answered and not tally.failed
                    notes.saw(f"meanwhile on the other node, {tally}", held)
    for tally in traffic.tallies(began, ended):
        why = f" ({'; '.join(tally.reasons)})" if tally.reasons else ""
        notes.did(f"over all, {tally}{why}")
    _no_plaintext(tap, notes)
    _all_answer(notes)


def takeover(_world: World, notes: Notes) -> None:
    """As a surge has it, which this old server has not: one waits beside another."""
    traffic.start()
    notes.did("a second agent on node 2, by hand, from the DaemonSet's template")
    machine.apply(_successor())
    try:
        system.wait_until(lambda: _says("waiting"), "the second agent", 60, 0.2)
        notes.saw("it waits: another has the node")
        with Tap() as tap:
            first = machine.agent_pod(2)["metadata"]["name"]
            notes.did("the first one deleted; the DaemonSet's next one waits in turn")
            delete = ("-n", machine.MESH, "delete", "pod", "--wait=false")
            _gap(notes, lambda: machine.kubectl(*delete, first))
            notes.saw("the second one serves", _says("serving"))
            system.wait_until(
                lambda: machine.agent_is_ready(2), "its successor", 90, 0.5
            )
            notes.did("the second one deleted")
            _gap(notes, lambda: machine.kubectl(*delete, SUCCESSOR))
        _no_plaintext(tap, notes)
        _all_answer(notes)
    finally:
        gone = ("delete", "pod", SUCCESSOR, "--ignore-not-found")
        machine.kubectl("-n", machine.MESH, *gone, seconds=120)


def _gap(notes: Notes, change: Callable[[], object]) -> None:
    """For how long new connections of node 2 fail after a change."""
    began = traffic.settle(1)
    change()
    ended = traffic.settle(GAP_WATCH_SECONDS)
    time.sleep(1)
    for tally in traffic.tallies(began, ended + GAP_WATCH_SECONDS):
        seconds = tally.failed / traffic.RATE
        if tally.path.touches(2):
            notes.saw(f"{tally}, as in {seconds:.1f} s", seconds <= GAP_SECONDS)
        else:
            notes.saw(f"{tally}", tally.answered and not tally.failed)


def _successor() -> machine.Document:
    found = machine.get("-n", machine.MESH, "daemonset", "podlock-agent")
    template = found["spec"]["template"]
    metadata = {
        "name": SUCCESSOR,
        "namespace": machine.MESH,
        "annotations": {
            name: text
            for name, text in template["metadata"]["annotations"].items()
            if "apparmor" in name
        },
    }
    spec = {**template["spec"], "nodeName": machine.node_name(2)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _says(event: str) -> bool:
    log = machine.kubectl_try("-n", machine.MESH, "logs", SUCCESSOR).stdout
    return f'"event": "{event}"' in log


def killed(_world: World, notes: Notes) -> None:
    """SIGKILL to an agent: closed, not open, and back by itself."""
    traffic.start()
    notes.did("SIGKILL to every process of the agent of node 2")
    restarts = machine.restarts(machine.agent_pod(2))
    with Tap() as tap:
        began = traffic.settle(1)
        machine.kill_containers(machine.agent_pod(2), 2)
        system.wait_until(
            lambda: machine.restarts(machine.agent_pod(2)) > restarts,
            "restart",
            60,
            0.2,
        )
        system.wait_until(lambda: machine.agent_is_ready(2), "agent ready", 60, 0.2)
        ready = time.monotonic()
        ended = traffic.settle(3)
    notes.saw(f"its kubelet says that it is ready {ready - began - 1:.1f} s later")
    for tally in traffic.tallies(began, ended):
        if tally.path.touches(2):
            notes.did(f"{tally}")
        else:
            notes.saw(f"{tally}", tally.answered and not tally.failed)
    _no_plaintext(tap, notes)
    _all_answer(notes)


def kubelet_restarted(_world: World, notes: Notes) -> None:
    """Pods and their connections do not depend on it; later ones join as before."""
    traffic.start()
    notes.did(f"kubelet of node 2 away for {KUBELET_OUTAGE_SECONDS:.0f} s")
    before = _probes_told(2)
    began = traffic.settle(1)
    machine.script("daemon", "stop", "node2/kubelet")
    time.sleep(KUBELET_OUTAGE_SECONDS)
    machine.script("daemon", "start", "node2/kubelet")
    _joins(notes, "late", 2)
    ended = traffic.settle(2)
    _nothing_failed(notes, began, ended)
    notes.saw("the agent recognises its probes again", _probes_told(2) > before)


def api_server_stopped(_world: World, notes: Notes) -> None:
    """What was heard last stays in force."""
    traffic.start()
    notes.did(f"API server away for {API_OUTAGE_SECONDS:.0f} s")
    began = traffic.settle(1)
    machine.script("daemon", "stop", "kube-apiserver")
    time.sleep(API_OUTAGE_SECONDS)
    machine.script("daemon", "start", "kube-apiserver")
    system.wait_until(machine.api_answers, "the API server", 60, 0.5)
    back = time.monotonic()
    system.wait_until(
        lambda: all(map(machine.agent_is_ready, machine.NODES)), "agents", 90, 0.5
    )
    took = time.monotonic() - back
    _joins(notes, "later", 1)
    ended = traffic.settle(2)
    notes.saw(f"both agents are ready {took:.1f} s after it is back")
    _nothing_failed(notes, began, ended)
    traffic.stop()


def _nothing_failed(notes: Notes, began: float, ended: float) -> None:
    for tally in traffic.tallies(began, ended):
        notes.saw(f"{tally}", tally.answered and not tally.failed)


def _all_answer(notes: Notes) -> None:
    ended = traffic.settle(4)
    tallies = traffic.tallies(ended, ended + 4)
    held = all(each.answered and not each.failed for each in tallies)
    notes.saw("after that all paths answer", held)


def _joins(notes: Notes, name: str, node: int) -> None:
    began = time.monotonic()
    machine.apply(*App(name, node, NGINX, "page").objects())
    system.wait_until(
        lambda: machine.is_marked(machine.get("-n", SHOP, "pod", name)), name, 60, 0.2
    )
    took = time.monotonic() - began
    notes.saw(f"a new pod is in the mesh {took:.1f} s after it was asked for")
    machine.kubectl("-n", SHOP, "delete", "pod", name, "--wait=false")


def _no_plaintext(tap: Tap, notes: Notes) -> None:
    faults = tap.heard.plaintext()
    streams = len(tap.heard.streams())
    text = f"on the wire: {streams} streams, {len(faults)} not in a tunnel"
    notes.saw(text + (f": {faults[0]}" if faults else ""), streams and not faults)


def _probes_told(node: int) -> int:
    events = machine.ask_agent(node, "events")["events"]
    return sum(each["kind"] == "probes" for each in events)
