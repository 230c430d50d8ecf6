"""
How soon a changed file holds on two nodes, and ends a thousand live connections.

Each node has a pod that is asked again and again by one of the other node; the policy
of both stands in one file, which shuts them and opens them by turns.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.demo.calls import Program
from tests.lab import apps, manifests, system
from tests.lab.identity import IdentityService
from tests.lab.manifests import ManifestDirectory
from tests.lab.node import Agent
from tests.lab.pod import Pod
from tests.lab.topology import Lab, random_run

NAMESPACE: Final = "shop"
SERVERS: Final = {"n1": "left", "n2": "right"}
CALLERS: Final = {"n1": "lea", "n2": "rob"}
CONNECTIONS: Final = 1000
WORKERS: Final = 2
SECONDS: Final = 10.0


@dataclass(slots=True)
class Bench:
    """Two nodes, a server and a caller on each, and who may call."""

    pods: dict[str, Pod]
    directory: ManifestDirectory
    agents: dict[str, Agent]

    def admit(self, *accounts: str) -> None:
        """One file says who may call both servers."""
        self.directory.write(
            "policy",
            *(
                made
                for name in SERVERS.values()
                for made in (
                    manifests.server(name, NAMESPACE, name, apps.HTTP_PORT),
                    manifests.authorization_policy(name, NAMESPACE, name, name),
                    manifests.mesh_tls_authentication(name, NAMESPACE, *accounts),
                )
            ),
        )


@contextlib.contextmanager
def built() -> Iterator[Bench]:
    """Everything up and ready, and gone afterwards."""
    with Lab(random_run()) as lab:
        pods = {
            name: lab.nodes[node].add_pod(name, NAMESPACE)
            for node in lab.nodes
            for name in (SERVERS[node], CALLERS[node])
        }
        directory = ManifestDirectory(lab.directory / "manifests")
        identity = IdentityService(lab, directory.path)
        settings = {"workers": WORKERS}
        agents = {
            name: Agent(lab, node, directory.path, identity, settings=settings)
            for name, node in lab.nodes.items()
        }
        bench = Bench(pods, directory, agents)
        objects = [manifests.pod(pod) for pod in pods.values()]
        directory.write("world", manifests.namespace(NAMESPACE), *objects)
        bench.admit(*CALLERS.values())
        identity.start()
        for name in SERVERS.values():
            apps.start_nginx(pods[name], {"index.html": "hello\n"})
        for agent in agents.values():
            agent.start()
            system.wait_until(
                lambda agent=agent: agent.ask("status")["counts"]["captured"] == 2,  # type: ignore[misc]
                "pods captured",
                SECONDS,
            )
        yield bench


def enforcement(bench: Bench, rounds: int) -> list[float]:
    """Seconds from the file to the last node that refuses, or serves, by it."""
    asking = [
        Program(
            bench.pods[CALLERS[node]],
            "knock",
            bench.pods[SERVERS[other]].address.v4,
            80,
        )
        for node, other in (("n1", "n2"), ("n2", "n1"))
    ]
    found: list[float] = []
    for number in range(rounds):
        event, told = (
            ("refused", ("nobody",))
            if number % 2 == 0
            else ("served", CALLERS.values())
        )
        count = number // 2 + 1
        if number == 0:
            for program in asking:
                program.wait("served", seconds=SECONDS)
            count = 1
        elif event == "served":
            count += 1  # the one before the first change
        # Not in step with whoever looks at the directory.
        time.sleep(0.3 + 0.2 * number / rounds)
        began = time.monotonic()
        bench.admit(*told)
        ends = [p.wait(event, count, seconds=SECONDS)["at"] for p in asking]
        found.append(max(ends) - began)
    for program in asking:
        program.kill()
    bench.admit(*CALLERS.values())
    return found


def closing(bench: Bench, rounds: int) -> list[float]:
    """Seconds from the file to the end of the last of a thousand connections."""
    found: list[float] = []
    for _ in range(rounds):
        caller = bench.pods[CALLERS["n1"]]
        to = bench.pods[SERVERS["n2"]].address.v4
        system.wait_until(lambda: _serves(caller, to), "policy as before", SECONDS)  # noqa: B023
        crowd = Program(caller, "crowd", to, apps.HTTP_PORT, CONNECTIONS, "once")
        crowd.wait("open", seconds=60)
        began = time.monotonic()
        bench.admit("nobody")

        def all_closed() -> float | None:
            told = crowd.told("closed")  # noqa: B023
            done = told and told[-1]["count"] == CONNECTIONS
            return float(told[-1]["at"]) if done else None

        found.append(system.wait_until(all_closed, "all closed", 30) - began)
        bench.admit(*CALLERS.values())
    return found


def _serves(caller: Pod, to: str) -> bool:
    return caller.run("curl", "-sf", "-o", "/dev/null", f"http://{to}/").returncode == 0
