"""What a test writes to the API server, and the parts of the agent that look at it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import trio

from agent.kube.access import Access, parse_kubeconfig
from agent.kube.client import ApiFailed, Client, Query
from agent.kube.failure import Failure, FailureKind
from agent.kube.manifests import Change
from agent.kube.reflector import Api
from agent.kube.resources import of_node
from agent.kube.source import Source
from agent.workload.model import Objects, Workload
from tests.cluster.control_plane import ControlPlane, Document

PATIENCE_SECONDS = 60.0

T = TypeVar("T")


class World:
    """One namespace of a control plane, and two nodes that only it has."""

    def __init__(self, plane: ControlPlane, number: int) -> None:
        self.plane = plane
        self.namespace = f"shop-{number}"
        self.node, self.elsewhere = f"here-{number}", f"there-{number}"
        labels = {"podlock.io/mesh": "enabled"}
        self.post(
            "/api/v1/namespaces",
            {"metadata": {"name": self.namespace, "labels": labels}},
        )

    def post(self, path: str, document: Document) -> Any:
        return self.plane.admin("POST", path, document)

    @property
    def home(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    def pod(
        self,
        name: str,
        node: str,
        *ips: str,
        marked: bool = False,
        account: str = "default",
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """The uid of a pod on `node`, as scheduler and kubelet would leave it."""
        mark = {"podlock.io/tunnel": "hbone"} if marked else {}
        created = self.post(
            f"{self.home}/pods",
            {
                "metadata": {
                    "name": name,
                    "labels": {"app": name, **mark, **(labels or {})},
                    "annotations": {**mark, "example.com/notes": "x" * 10_000},
                },
                "spec": {
                    "nodeName": node,
                    "serviceAccountName": account,
                    "automountServiceAccountToken": False,
                    "containers": [{"name": "c", "image": "none"}],
                },
            },
        )
        if ips:
            self.set_addresses(name, *ips)
        uid: str = created["metadata"]["uid"]
        return uid

    def set_addresses(self, name: str, *ips: str) -> None:
        status = {
            "phase": "Running",
            "podIP": ips[0],
            "podIPs": [{"ip": ip} for ip in ips],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        path = f"{self.home}/pods/{name}/status"
        self.plane.admin("PATCH", path, {"status": status})

    def read_pod(self, name: str) -> Any:
        return self.plane.admin("GET", f"{self.home}/pods/{name}")

    def delete_pod(self, name: str) -> None:
        """At once: there is no kubelet that would confirm it."""
        options = {"gracePeriodSeconds": 0}
        self.plane.admin("DELETE", f"{self.home}/pods/{name}", options)

    def account(self, name: str) -> None:
        self.post(f"{self.home}/serviceaccounts", {"metadata": {"name": name}})

    def token(
        self, account: str, audience: str = "", pod: tuple[str, str] | None = None
    ) -> str:
        """A token of an account, for an audience, bound to a pod (name, uid)."""
        spec: dict[str, Any] = {"expirationSeconds": 600}
        spec["audiences"] = [audience or self.plane.url]
        if pod:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1"}
            spec["boundObjectRef"] |= {"name": pod[0], "uid": pod[1]}
        path = f"{self.home}/serviceaccounts/{account}/token"
        token: str = self.post(path, {"spec": spec})["status"]["token"]
        return token

    def grant(self, account: str, *rules: tuple[str, str, str], role: str = "") -> None:
        """Rights to an account: (group, resources, verbs), each with commas."""
        name = f"{self.namespace}-{role or account}"
        home = "/apis/rbac.authorization.k8s.io/v1"
        keys = ("apiGroups", "resources", "verbs")
        granted = [
            dict(zip(keys, (part.split(",") for part in rule), strict=True))
            for rule in rules
        ]
        body = {"metadata": {"name": name}, "rules": granted}
        self.post(f"{home}/clusterroles", body)
        who = {"kind": "ServiceAccount", "name": account, "namespace": self.namespace}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole"}
        self.post(
            f"{home}/clusterrolebindings",
            {
                "metadata": {"name": name},
                "subjects": [who],
                "roleRef": {**reference, "name": name},
            },
        )

    def as_account(self, token: str | Path) -> Access:
        source = token if isinstance(token, Path) else token.encode()
        return Access(self.plane.url, ca=self.plane.authority.certificate, token=source)

    def as_admin(self, *, inline: bool = False) -> Access:
        path = self.plane.kubeconfig("admin", inline=inline)
        return parse_kubeconfig(path.read_bytes(), path.parent)


@dataclass(slots=True)
class Gate:
    """A client that can be cut off, and remembers what it was asked and told."""

    api: Api
    closed: bool = False
    asked: list[tuple[str, Query]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    _scopes: set[trio.CancelScope] = field(default_factory=set)

    def close(self) -> None:
        self.closed = True
        for scope in self._scopes:
            scope.cancel()

    async def get(self, path: str, query: Query = (), limit: int = 1 << 20) -> bytes:
        self._note(path, query)
        try:
            return await self.api.get(path, query, limit)
        except ApiFailed as error:
            self.failures.append(error.failure)
            raise

    @asynccontextmanager
    async def stream(
        self, path: str, query: Query, seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self._note(path, query)
        is_open = False
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with self.api.stream(path, query, seconds) as chunks:
                    is_open = True
                    yield chunks
            except ApiFailed as error:
                self.failures.append(error.failure)
                raise
            finally:
                self._scopes.discard(scope)
        if not is_open:  # closed before the answer came
            raise ApiFailed(Failure(FailureKind.AWAY, "the gate is closed"))

    def _note(self, path: str, query: Query) -> None:
        if self.closed:
            raise ApiFailed(Failure(FailureKind.AWAY, "the gate is closed"))
        self.asked.append((path, query))


@dataclass(slots=True)
class Observed:
    """A running source, and the last that it told."""

    source: Source
    change: Change | None = None

    @property
    def objects(self) -> Objects:
        return self.change.objects if self.change else Objects()

    def pods(self, namespace: str) -> dict[str, Workload]:
        found = self.objects.workloads
        return {pod.name: pod for pod in found if pod.namespace == namespace}

    async def until(self, check: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE_SECONDS):
            while not check():  # noqa: ASYNC110 - what is waited for is not ours
                await trio.sleep(0.02)


@asynccontextmanager
async def observed(api: Api, node: str) -> AsyncIterator[Observed]:
    """A source for `node` over `api`, running in this block."""
    seen = Observed(Source(api, of_node(node), chance=random.random))

    def told(change: Change) -> None:
        seen.change = change

    async with trio.open_nursery() as nursery:
        await nursery.start(seen.source.run, told)
        yield seen
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def watching(world: World) -> AsyncIterator[tuple[Observed, Gate]]:
    """The admin's source, behind a gate, once it has told of everything."""
    async with Client(world.as_admin()) as client:
        gate = Gate(client)
        async with observed(gate, world.node) as seen:
            await seen.until(lambda: seen.change)
            yield seen, gate


async def written(step: Callable[..., T], *arguments: Any) -> T:
    """A blocking step of the world, in a thread."""
    return await trio.to_thread.run_sync(lambda: step(*arguments))
