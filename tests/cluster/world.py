"""What runs in the mesh during a test: unmodified applications on both nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.cluster import images, machine
from tests.cluster.machine import Document
from tests.lab import system

SHOP: Final = "shop"
PORT: Final = 7000  # of the echo programs

NGINX: Final = ("nginx", "-g", "daemon off;")
REDIS: Final = ("redis-server", "--bind", "*", "--protected-mode", "no", "--save", "")
SLEEP: Final = ("sleep", "infinity")
ECHO: Final = ("python3", "-u", "/programs/pulse.py", "1", "serve", str(PORT))


@dataclass(frozen=True, slots=True)
class App:
    """A pod on one node, under a ServiceAccount; with a `port` it has a Service."""

    name: str
    node: int
    command: Sequence[str]
    account: str
    port: int | None = None
    probes: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def pod(self, namespace: str = SHOP) -> Document:
        """The Pod."""
        container: Document = {
            "name": "main",
            "image": images.APPLICATIONS,
            "command": list(self.command),
            **self.probes,
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "labels": {"app": self.name, **self.labels},
                "annotations": dict(self.annotations),
            },
            "spec": {
                "nodeSelector": {
                    "kubernetes.io/hostname": machine.node_name(self.node)
                },
                "serviceAccountName": self.account,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
            },
        }

    def objects(self, namespace: str = SHOP) -> list[Document]:
        """The Pod, its ServiceAccount, its Service."""
        meta = {"namespace": namespace}
        found = [
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {**meta, "name": self.account},
            },
            self.pod(namespace),
        ]
        if self.port:
            spec = {"selector": {"app": self.name}, "ports": [{"port": self.port}]}
            service = {"apiVersion": "v1", "kind": "Service", "spec": spec}
            found.append({**service, "metadata": {**meta, "name": self.name}})
        return found


SHOP_APPS: Final = (
    App("page", 2, NGINX, "page", 80),
    App("store", 1, REDIS, "store", 6379),
    App("caller-1", 1, SLEEP, "caller"),
    App("caller-2", 2, SLEEP, "caller"),
    App("intruder", 1, SLEEP, "intruder"),
)


@dataclass(slots=True)
class World:
    """What the steps share."""

    uids: dict[str, str] = field(default_factory=dict)
    """The shop's pods, as they were when they joined."""

    def address(self, pod: str) -> str:
        """A pod's address. Raises: LabError."""
        found = machine.get("-n", SHOP, "pod", pod)["status"]["podIP"]
        return str(found)

    def service(self, name: str) -> str:
        """A Service's address."""
        found = machine.get("-n", SHOP, "service", name)["spec"]["clusterIP"]
        return str(found)

    def curl(self, pod: str, url: str, *options: str) -> system.Finished:
        """Fetch a URL in a pod: prints the body, then the status."""
        form = ("-sS", "-m", "5", "-w", "\n%{http_code}")
        return machine.run_in(SHOP, pod, "curl", *form, *options, url)

    def is_served(self, pod: str, url: str) -> bool:
        """Whether a page comes back."""
        done = self.curl(pod, url)
        return done.returncode == 0 and done.stdout.endswith("\n200")


def namespace(name: str, labels: Mapping[str, str]) -> Document:
    """A Namespace."""
    metadata = {"name": name, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
