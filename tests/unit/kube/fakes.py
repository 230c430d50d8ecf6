"""An API server of values: what a test says that it has, and how it fails."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from agent.kube.client import ApiFailed, Query
from agent.kube.failure import Failure, FailureKind

CORE = ("pods", "nodes", "namespaces", "services")
SLICES = "/apis/discovery.k8s.io/v1"
AWAY = Failure(FailureKind.AWAY, "Connection refused")


def pod(name: str, node: str, *ips: str, **meta: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": f"u-{name}", **meta}
    status = {"podIPs": [{"ip": ip} for ip in ips]}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": status}


def _selected(document: dict[str, Any], query: Query) -> bool:
    """By node and by name as the agent's selectors do; labels by presence."""
    fields, labels = dict(query).get("fieldSelector"), dict(query).get("labelSelector")
    if labels:
        name, _, value = labels.partition("=")
        if document["metadata"].get("labels", {}).get(name) != value:
            return False
    if not fields:
        return True
    path, _, value = fields.partition("=")
    wanted = not path.endswith("!")
    section, _, name = path.rstrip("!").partition(".")
    return (document[section].get(name) == value) is wanted


@dataclass(slots=True)
class FakeApi:
    """
    Serves the core's kinds and EndpointSlices.

    `failing` answers each request for a path, or for "" every one, with a failure.
    """

    served: dict[str, list[str]] = field(
        default_factory=lambda: {"/api/v1": [*CORE], SLICES: ["endpointslices"]}
    )
    objects: dict[str, dict[str, dict[str, Any]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    failing: dict[str, Failure] = field(default_factory=dict)
    version: int = 100
    asked: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)
    sent: list[tuple[str, str, Any]] = field(default_factory=list)
    watchers: dict[str, dict[trio.MemorySendChannel[bytes], Query]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def put(self, path: str, document: dict[str, Any]) -> None:
        """Store an object and tell the watches."""
        self.version += 1
        name = document["metadata"]["name"]
        kind = "MODIFIED" if name in self.objects[path] else "ADDED"
        document["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path][name] = document
        self.tell(path, {"type": kind, "object": document})

    def delete(self, path: str, name: str) -> None:
        self.version += 1
        document = self.objects[path].pop(name)
        document["metadata"]["resourceVersion"] = str(self.version)
        self.tell(path, {"type": "DELETED", "object": document})

    def tell(self, path: str, event: dict[str, Any]) -> None:
        for channel, query in list(self.watchers[path].items()):
            if event["type"] == "ERROR" or _selected(event["object"], query):
                channel.send_nowait(json.dumps(event).encode() + b"\n")

    def cut(self) -> None:
        """End every watch, as a server that stops does."""
        for channels in self.watchers.values():
            for channel in list(channels):
                channel.close()

    def requests(self, path: str) -> list[dict[str, str]]:
        return [query for _, asked, query in self.asked if asked == path]

    async def get(self, path: str, query: Query = (), limit: int = 1 << 20) -> bytes:
        await self._note(path, query)
        if path == "/apis":
            return self._groups()
        if path in self.served:
            found = [{"name": name} for name in self.served[path]]
            return json.dumps({"resources": found}).encode()
        self._check_served(path)
        listed = [
            each for each in self.objects[path].values() if _selected(each, query)
        ]
        meta = {"resourceVersion": str(self.version)}
        return json.dumps({"metadata": meta, "items": listed}).encode()

    def _groups(self) -> bytes:
        groups: dict[str, list[dict[str, str]]] = defaultdict(list)
        for home in self.served:
            *_, group, version = home.split("/")
            groups[group].append({"version": version})
        found = [{"name": name, "versions": them} for name, them in groups.items()]
        return json.dumps({"groups": found}).encode()

    def _check_served(self, path: str) -> None:
        home, _, plural = path.rpartition("/")
        if plural not in self.served.get(home, ()):
            raise ApiFailed(Failure(FailureKind.ABSENT, "not found"))

    @asynccontextmanager
    async def stream(
        self, path: str, query: Query, seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        await self._note(path, query)
        self._check_served(path)
        sender, receiver = trio.open_memory_channel[bytes](1000)
        self.watchers[path][sender] = query
        try:
            with trio.move_on_after(seconds):
                yield receiver
        finally:
            self.watchers[path].pop(sender, None)

    async def send(
        self, method: str, path: str, body: bytes, kind: str = "application/json"
    ) -> bytes:
        await self._note(path, ())
        self.sent.append((method, path, json.loads(body)))
        return b"{}"

    async def _note(self, path: str, query: Query) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append((trio.current_time(), path, dict(query)))
        for place in ("", path):
            if place in self.failing:
                raise ApiFailed(self.failing[place])
