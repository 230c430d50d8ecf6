"""Steps 6 to 9: agents are replaced and killed, kubelet and API server go away."""

from __future__ import annotations

import time

from tests.cluster import machine, traffic
from tests.cluster.absence import Absences
from tests.cluster.tap import Tap
from tests.cluster.world import NGINX, SHOP, App, World
from tests.demo.report import Notes
from tests.lab import system

API_OUTAGE_SECONDS = 60.0
KUBELET_OUTAGE_SECONDS = 5.0


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
