"""Step 11: pods that connect in their first millisecond, and a gate before them."""

from __future__ import annotations

import os
import secrets
import signal
import time

from tests.cluster import crowd, machine
from tests.cluster.tap import Tap
from tests.cluster.world import ECHO, PORT, SHOP, App, World
from tests.demo.report import Notes
from tests.lab import system

ROUNDS = 5
STOPPED_SECONDS = 3.0
# bash is there in two milliseconds; it counts how often it was refused at first.
PROGRAM = """
until { exec 3<>/dev/tcp/$0/$1; } 2>/dev/null; do n=$((n + 1)); done
echo "ask $2" >&3
echo "refused ${n:-0} times"
exec sleep infinity
"""


def shut(_world: World, notes: Notes) -> None:
    """Five hundred starts: nothing of what they say may be readable on the wire."""
    machine.apply(*App("early", 1, ECHO, "echo").objects())
    system.wait_until(_target_is_meshed, "the server in the mesh", 60, 0.5)
    try:
        notes.did("gate open: an agent is stopped for a while, and a pod starts")
        refused, words = _hasty()
        notes.saw("without the gate its words are readable", words and not refused)
        notes.did("enrolment.gate: strict, and the agents restarted; the same again")
        _set_gate("strict")
        refused, words = _hasty()
        notes.saw(f"with it the pod is refused, {refused} times, until", refused)
        notes.saw("the agent goes on, and nothing was readable", not words)
        _pods_without_mesh(notes)
        _crowds(notes)
    finally:
        _set_gate("open")
        gone = ("delete", "pod", "early", "hasty", "--grace-period=1")
        machine.kubectl("-n", SHOP, *gone, "--ignore-not-found", seconds=90)


def _hasty() -> tuple[int, list[str]]:
    """
    A pod that starts while its node's agent is stopped.

    How often it was refused before it got through, and what of it could be read.
    """
    address = machine.get("-n", SHOP, "pod", "early")["status"]["podIP"]
    secret = _number()
    command = ("bash", "-c", PROGRAM, address, str(PORT), secret)
    agent = machine.processes_of(machine.agent_pod(crowd.NODE), crowd.NODE)
    with Tap() as tap:
        for pid in agent:
            os.kill(pid, signal.SIGSTOP)
        try:
            machine.apply(*App("hasty", crowd.NODE, command, "caller").objects())
            system.wait_until(_hasty_is_ready, "the pod to start", 60, 0.2)
            time.sleep(STOPPED_SECONDS)
        finally:
            for pid in agent:
                os.kill(pid, signal.SIGCONT)
        told = system.wait_until(_hasty_told, "the pod to get through", 60, 0.5)
    machine.kubectl("-n", SHOP, "delete", "pod", "hasty", "--grace-period=1")
    return int(told.split()[1]), tap.heard.readable(secret)


def _hasty_is_ready() -> bool:
    return machine.is_ready(machine.get("-n", SHOP, "pod", "hasty"))


def _hasty_told() -> str:
    return machine.kubectl("-n", SHOP, "logs", "hasty").strip()


def _number() -> str:
    """A word for the echo program, which takes numbers, and for nothing else."""
    return str(secrets.randbelow(10**15) + 10**15)


def _crowds(notes: Notes) -> None:
    address = machine.get("-n", SHOP, "pod", "early")["status"]["podIP"]
    notes.did(
        f"{ROUNDS} times {crowd.SIZE} pods on node {crowd.NODE} that connect to node 1 "
        "in a loop from their first moment"
    )
    starts = refused = 0
    faults: list[str] = []
    leaked = 0
    for _ in range(ROUNDS):
        secret = _number()
        with Tap() as tap:
            try:
                crowd.start(("bash", "-c", PROGRAM, address, str(PORT), secret))
                crowd.wait_in_mesh()
                told = _told()
                starts += len(told)
                refused += sum(count > 0 for count in told)
            finally:
                crowd.end()
        faults += tap.heard.plaintext()
        leaked += len(tap.heard.readable(secret))
    notes.saw(f"{starts} pods started and got through", starts == ROUNDS * crowd.SIZE)
    notes.saw(f"{refused} of them were refused at first")
    notes.saw(f"streams in plaintext on the wire: {len(faults)}", not faults)
    notes.saw(f"rounds with a readable word of theirs: {leaked}", not leaked)


def _pods_without_mesh(notes: Notes) -> None:
    """A namespace that stays outside: its pods connect once they were looked at."""
    name = "outside"
    app = App(name, 2, ("sleep", "infinity"), "default")
    machine.apply({**_namespace(name)})
    system.wait_until(
        lambda: (
            machine.kubectl_try(
                *("-n", name, "get", "serviceaccount", "default")
            ).returncode
            == 0
        ),
        *("the default ServiceAccount", 30, 0.5),
    )
    machine.apply(app.pod(name))
    machine.wait_ready(name)
    server = machine.get("-n", SHOP, "service", "page")["spec"]["clusterIP"]
    done = machine.run_in(name, name, "curl", "-sS", "-m", "5", f"http://{server}/")
    held = done.returncode == 0 and "nginx" in done.stdout
    notes.saw(f"a pod outside the mesh connects{done.stderr.strip()}", held)
    machine.kubectl("delete", "namespace", name, "--wait=false")


def _namespace(name: str) -> machine.Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _target_is_meshed() -> bool:
    pod = machine.get("-n", SHOP, "pod", "early")
    # A pod is captured before its kubelet tells its address.
    return machine.is_marked(pod) and machine.is_ready(pod)


def _told() -> list[int]:
    """How often each pod was refused before it got through, once all have."""

    def all_told() -> list[int] | None:
        log = ("-n", SHOP, "logs", "-l", "app=crowd", "--tail=1")
        most = f"--max-log-requests={crowd.SIZE}"
        # Fails while a container is not there yet.
        lines = machine.kubectl_try(*log, most).stdout.splitlines()
        counts = [int(line.split()[1]) for line in lines if line.startswith("refused")]
        return counts if len(counts) >= crowd.SIZE else None

    return system.wait_until(all_told, "every pod to get through", 240, 2.0)


def _set_gate(value: str) -> None:
    """In the agents' settings, and in force."""
    found = machine.get("-n", machine.MESH, "configmap", "podlock-agent")
    text = found["data"]["podlock.yaml"]
    lines = [line for line in text.splitlines() if not line.startswith("enrolment:")]
    found["data"]["podlock.yaml"] = "\n".join([*lines, f"enrolment: {{gate: {value}}}"])
    machine.apply(found)
    rollout = ("-n", machine.MESH, "rollout")
    machine.kubectl(*rollout, "restart", "daemonset/podlock-agent")
    time.sleep(1)
    status = ("status", "daemonset/podlock-agent", "--timeout=240s")
    machine.kubectl(*rollout, *status, seconds=250)
