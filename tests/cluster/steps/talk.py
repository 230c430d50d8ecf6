"""Steps 3 and 4: mutual TLS across the nodes, and who may not."""

from __future__ import annotations

import secrets

from tests.cluster import machine
from tests.cluster.machine import Document
from tests.cluster.tap import Tap
from tests.cluster.world import SHOP, World
from tests.demo.report import Notes
from tests.lab import system

TRUST_DOMAIN = "cluster.local"


def across_nodes(world: World, notes: Notes) -> None:
    """nginx and redis, by Service and by pod address, with the wire captured."""
    secret = secrets.token_hex(8)
    page, store = world.service("page"), world.service("store")
    with Tap() as tap:
        notes.did("curl on node 1 to nginx on node 2; redis-cli on node 2 to node 1")
        for what, address in (("Service", page), ("pod", world.address("page"))):
            done = world.curl("caller-1", f"http://{address}/?{secret}")
            held = done.returncode == 0 and "Welcome to nginx" in done.stdout
            notes.saw(
                f"nginx by {what} address: {_last(done.stdout)}{done.stderr}", held
            )
        for what, address in (("Service", store), ("pod", world.address("store"))):
            cli = ("redis-cli", "-h", address)
            machine.run_in(SHOP, "caller-2", *cli, "set", "key", secret)
            got = machine.run_in(SHOP, "caller-2", *cli, "get", "key").stdout.strip()
            notes.saw(f"redis by {what} address gives back what was set", got == secret)
    tunnels, faults = tap.heard.tunnels(), tap.heard.plaintext()
    notes.saw(f"on the wire: {len(tunnels)} tunnels on port 15008, TLS 1.3", tunnels)
    notes.saw(f"and nothing else between pods{_more(faults)}", not faults)
    notes.saw("nobody there could read the secret", not tap.heard.readable(secret))
    _identities(notes)


def _identities(notes: Notes) -> None:
    for node, direction, pod, peer in (
        (1, "outbound", "caller-1", "page"),
        (2, "inbound", "caller-1", "caller"),
        (2, "outbound", "caller-2", "store"),
        (1, "inbound", "caller-2", "caller"),
    ):
        expected = f"spiffe://{TRUST_DOMAIN}/ns/{SHOP}/sa/{peer}"
        found = [
            each
            for each in connections(node)
            if each["direction"] == direction
            and each["source"]["workload"] == f"{SHOP}/{pod}"
            and each["peer"]
        ]
        seen = {each["peer"]["identity"] for each in found}
        notes.saw(f"node {node}, {direction}: the peer is {peer}", expected in seen)


def connections(node: int) -> list[Document]:
    """What a node's agent tells of, open and of late."""
    told = machine.ask_agent(node, "connections")
    found: list[Document] = [*told["open"], *told["recent"]]
    return found


def refused(world: World, notes: Notes) -> None:
    """A Server and who may open it: intruder may not, and both agents say why."""
    notes.did("a Server for nginx's port that lets in caller alone")
    machine.apply(*_policy())
    url = f"http://{world.service('page')}/"
    system.wait_until(
        lambda: not world.is_served("intruder", url), "intruder is refused", 15, 0.3
    )
    done = world.curl("intruder", url)
    notes.saw(f"intruder: {_first(done.stderr)}", done.returncode != 0)
    notes.saw("caller on node 1 is served", world.is_served("caller-1", url))
    notes.saw("caller on node 2 is served", world.is_served("caller-2", url))
    for node in (2, 1):
        told = [
            each["reason"]
            for each in connections(node)
            if each["outcome"] == "refused"
            and each["source"]["workload"] == f"{SHOP}/intruder"
        ]
        notes.saw(f"node {node}: {told[0] if told else 'tells of no refusal'}", told)
    notes.did("took the policy away")
    for policy in _policy():
        kind, name = policy["kind"], policy["metadata"]["name"]
        delete = ("delete", f"{kind}.policy.linkerd.io", name)
        machine.kubectl("-n", SHOP, *delete)
    system.wait_until(
        lambda: world.is_served("intruder", url), "intruder is served again", 15, 0.3
    )
    notes.saw("intruder is served again")


def _policy() -> list[Document]:
    meta = {"namespace": SHOP}
    group = "policy.linkerd.io"
    server = {
        "apiVersion": f"{group}/v1beta3",
        "kind": "Server",
        "metadata": {**meta, "name": "page"},
        "spec": {"podSelector": {"matchLabels": {"app": "page"}}, "port": 80},
    }
    callers = {
        "apiVersion": f"{group}/v1alpha1",
        "kind": "MeshTLSAuthentication",
        "metadata": {**meta, "name": "callers"},
        "spec": {"identityRefs": [{"kind": "ServiceAccount", "name": "caller"}]},
    }
    allowed = {
        "apiVersion": f"{group}/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {**meta, "name": "page"},
        "spec": {
            "targetRef": {"group": group, "kind": "Server", "name": "page"},
            "requiredAuthenticationRefs": [
                {"group": group, "kind": "MeshTLSAuthentication", "name": "callers"}
            ],
        },
    }
    return [server, callers, allowed]


def _first(text: str) -> str:
    return (text.splitlines() or ["nothing"])[0]


def _last(text: str) -> str:
    return (text.splitlines() or [""])[-1]


def _more(faults: list[str]) -> str:
    return f", but {faults[0]} and {len(faults) - 1} more" if faults else ""
