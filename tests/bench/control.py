"""
What one changed pod costs control: milliseconds a step, and bytes a worker.

Ten thousand pods on a hundred nodes, a Service for every ten, a Server with its
AuthorizationPolicy for every hundred. Needs no root and no agent:
`python -m tests.bench.control [PODS]`.
"""

from __future__ import annotations

import ipaddress
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from agent.identity.spiffe import TrustDomain
from agent.kube.objects import read
from agent.policy.linkerd import AuthorizationPolicy, LinkerdPolicies, Server
from agent.proxy.instructions import WorldChanged, WorldUpdated, decode, encode
from agent.workload.delta import Snapshot, apply, diff
from agent.workload.model import Namespace, Objects, Service, ServicePort, Workload
from agent.workload.registry import Registry

NODES: Final = 100
PODS: Final = 10_000
ROUNDS: Final = 9
FIRST_POD: Final = int(ipaddress.IPv4Address("10.244.0.1"))
FIRST_SERVICE: Final = int(ipaddress.IPv4Address("10.96.0.1"))
NAMESPACES: Final = tuple(f"team-{number}" for number in range(20))

T = TypeVar("T")


class Stopwatch:
    """Milliseconds by step, in the order in which the steps came."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = {}

    def time(self, step: str, work: Callable[[], T]) -> T:
        """What `work` returns, and note how long it took."""
        began = time.perf_counter()
        result = work()
        taken = (time.perf_counter() - began) * 1000
        self.steps.setdefault(step, []).append(taken)
        return result

    def medians(self) -> dict[str, float]:
        """The median of each step, in milliseconds."""
        return {step: statistics.median(taken) for step, taken in self.steps.items()}


def measure(pods: int, watch: Stopwatch) -> tuple[int, int]:
    """One pod moves, nine times. The bytes of a whole world, and of one change."""
    objects = cluster(pods)
    registry = Registry("node-0", TrustDomain("cluster.local"))
    view = watch.time("control, first: view", lambda: registry.apply(objects))
    world = Snapshot(1, view.directory, view.policies)
    whole = watch.time("control, first: encode", lambda: encode(WorldUpdated(world)))
    told = watch.time("worker, first: decode", lambda: decode(whole))
    assert isinstance(told, WorldUpdated)
    theirs, frame = told.snapshot, b""
    for number in range(ROUNDS):
        # Far apart, so that each move is another pod of another service.
        objects = moved(objects, number * 997 % pods, number)
        view = watch.time("control: view", lambda: registry.apply(objects))  # noqa: B023
        new = Snapshot(world.version + 1, view.directory, view.policies)
        delta = watch.time("control: compare", lambda: diff(world, new))  # noqa: B023
        frame = watch.time("control: encode", lambda: encode(WorldChanged(delta)))  # noqa: B023
        change = watch.time("worker: decode", lambda: decode(frame))  # noqa: B023
        assert isinstance(change, WorldChanged)
        theirs = watch.time("worker: apply", lambda: apply(theirs, change.delta))  # noqa: B023
        world = new
    assert theirs == world
    return len(whole), len(frame)


def main(pods: int) -> None:
    """Print a line for each step."""
    watch = Stopwatch()
    whole, change = measure(pods, watch)
    lines = [f"{pods} pods on {NODES} nodes, one moves"]
    for step, milliseconds in watch.medians().items():
        lines.append(f"{step:24} {milliseconds:8.2f} ms")
    lines.append(f"{'a whole world':24} {whole:8} bytes")
    lines.append(f"{'one change':24} {change:8} bytes")
    sys.stdout.write("\n".join(lines) + "\n")


def cluster(pods: int = PODS) -> Objects:
    """A cluster of so many pods, the same one every time."""
    return Objects(
        workloads=tuple(_pod(number) for number in range(pods)),
        namespaces=tuple(
            Namespace(name, {"podlock.io/mesh": "enabled"}) for name in NAMESPACES
        ),
        services=tuple(_service(number) for number in range(pods // 10)),
        linkerd=LinkerdPolicies(
            servers=tuple(_server(number) for number in range(pods // 100)),
            authorization_policies=tuple(
                _rule(number) for number in range(pods // 100)
            ),
        ),
    )


def moved(objects: Objects, number: int, address: int) -> Objects:
    """The same with another address for one pod."""
    pods = list(objects.workloads)
    ip = ipaddress.IPv4Address(FIRST_POD + 100_000 + address)
    pods[number] = replace(pods[number], addresses=(ip,))
    return replace(objects, workloads=tuple(pods))


def _pod(number: int) -> Workload:
    node, application = number % NODES, number // 10
    return Workload(
        uid=f"00000000-0000-4000-8000-{number:012x}",
        namespace=_namespace(application),
        name=f"app-{application}-{number % 10}",
        node=f"node-{node}",
        service_account=f"app-{application}",
        addresses=(ipaddress.IPv4Address(FIRST_POD + number),),
        labels={"app": f"app-{application}", "tier": "backend", "version": "v1"},
        netns=f"/run/netns/{number}" if node == 0 else None,
    )


def _namespace(application: int) -> str:
    return NAMESPACES[application % len(NAMESPACES)]


def _service(application: int) -> Service:
    return Service(
        _namespace(application),
        f"app-{application}",
        (ipaddress.IPv4Address(FIRST_SERVICE + application),),
        (ServicePort("http", 80, 8080),),
        {"app": f"app-{application}"},
    )


def _object(kind: str, version: str, application: int, spec: object) -> object:
    document = {
        "apiVersion": f"policy.linkerd.io/{version}",
        "kind": kind,
        "metadata": {
            "name": f"app-{application}",
            "namespace": _namespace(application),
        },
        "spec": spec,
    }
    reading = read(document, "cluster")
    assert not reading.faults, reading.faults
    ((_, value),) = reading.objects
    return value


def _server(number: int) -> Server:
    application = number * 10
    selector = {"matchLabels": {"app": f"app-{application}"}}
    made = _object(
        "Server", "v1beta3", application, {"podSelector": selector, "port": 8080}
    )
    assert isinstance(made, Server)
    return made


def _rule(number: int) -> AuthorizationPolicy:
    application = number * 10
    spec = {
        "targetRef": {
            "group": "policy.linkerd.io",
            "kind": "Server",
            "name": f"app-{application}",
        },
        "requiredAuthenticationRefs": [
            {"kind": "ServiceAccount", "name": f"app-{application}"}
        ],
    }
    made = _object("AuthorizationPolicy", "v1alpha1", application, spec)
    assert isinstance(made, AuthorizationPolicy)
    return made


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PODS)
