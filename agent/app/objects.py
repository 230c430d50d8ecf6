"""Where objects come from: a directory of manifests, or an API server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import trio

from agent.app.announcing import Announcer, Silent
from agent.config import Config, ConfigError
from agent.identity.clock import chance, utc_now
from agent.kube import directory
from agent.kube.access import Access, InvalidAccess, in_cluster, parse_kubeconfig
from agent.kube.announcer import Announcer as ApiAnnouncer
from agent.kube.client import Client
from agent.kube.condition_writer import ConditionWriter
from agent.kube.manifests import Change
from agent.kube.resources import of_authority, of_node
from agent.kube.source import Source
from agent.policy.problem import Problem
from agent.redirect.pod_namespaces import PodNamespaces
from agent.status import documents

OnChange = Callable[[Change], None]

# How soon a pod whose sandbox was not there yet is looked for again.
LOOK_SECONDS: Final = 0.1


class ObjectSource(Protocol):
    """What control and the identity service ask of a source."""

    async def run(
        self,
        on_change: OnChange,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Call `on_change` with all that is in force, at first and after changes."""

    def missing(self) -> list[str]:
        """Why what was told is not all that there is, for people."""


class NodeSource(ObjectSource, Protocol):
    """What the agent of a node asks besides."""

    def description(self) -> documents.ObjectsFrom:
        """Where objects come from, and which kinds cannot come from there."""


class Manifests:
    """A directory of manifests."""

    def __init__(self, path: Path, kept: Path | None = None) -> None:
        """`kept` is a directory for the last good content of each file."""
        self._path = path
        self._kept = kept
        self._is_called = False
        self._faults: tuple[Problem, ...] = ()
        self._was_complete = False

    async def run(
        self,
        on_change: OnChange,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Started once the directory was read."""

        def told(change: Change) -> None:
            self._is_called = True
            self._was_complete = self._was_complete or change.complete
            self._faults = () if self._was_complete else change.problems
            on_change(change)

        await directory.run(self._path, told, kept=self._kept, task_status=task_status)

    def missing(self) -> list[str]:
        """Why the manifests were never read completely since the start."""
        if not self._is_called:
            return ["the manifests have not been read yet"]
        if self._was_complete:
            return []
        first = next(iter(self._faults), None)
        why = f": {first.object}: {first.message}" if first else ""
        return [f"the manifests were not read completely since the start{why}"]

    def description(self) -> documents.ObjectsFrom:
        """Every kind may be in a file."""
        place = str(self._path)
        return {"source": "manifests", "place": place, "not_installed": []}


class ApiServer:
    """An API server, and this machine, which knows where its pods live."""

    def __init__(
        self,
        url: str,
        source: Source,
        namespaces: PodNamespaces,
        announcer: ApiAnnouncer,
    ) -> None:
        self._url = url
        self._source = source
        self._namespaces = namespaces
        self._announcer = announcer

    async def run(
        self,
        on_change: OnChange,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Started before the first Change: the API server may be away."""

        def told(change: Change) -> None:
            on_change(change)
            # Only now: what is captured holds its namespace by itself. A Job's pod is
            # there for hours after its end, and would keep its namespace for as long.
            pods = self._source.own_pods()
            self._namespaces.keep({pod.uid for pod in pods if not pod.finished})

        async with trio.open_nursery() as nursery:
            await nursery.start(self._source.run, told)
            task_status.started()
            while True:
                await trio.sleep(LOOK_SECONDS)
                if self._namespaces.look_again():
                    self._source.touch()

    def missing(self) -> list[str]:
        """What cannot be heard of now; and what others cannot, for want of marks."""
        fault = self._announcer.fault
        unmarked = [f"captured pods are not marked: {fault}"] if fault else []
        return self._source.missing() + unmarked

    def description(self) -> documents.ObjectsFrom:
        """Policy kinds may not be installed: then nobody can have such a policy."""
        absent = self._source.not_installed()
        return {"source": "api-server", "place": self._url, "not_installed": absent}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a node's objects come from, and who is told what became of its pods."""

    source: NodeSource
    announcer: Announcer


@asynccontextmanager
async def node_objects(config: Config) -> AsyncIterator[Surroundings]:
    """For the agent of a node. Raises: ConfigError."""
    if not config.kubernetes.is_used:
        kept = config.state_dir / "manifests"
        yield Surroundings(Manifests(config.manifests, kept), Silent())
        return
    namespaces = PodNamespaces.of_this_machine()
    async with api_client(config) as client, trio.open_nursery() as nursery:
        source = Source(
            client,
            of_node(config.node),
            chance=chance,
            netns_of=namespaces.netns_of,
            addresses_of=namespaces.addresses_of,
            agent=config.kubernetes.agent,
        )
        conditions = ConditionWriter(
            client, source.policies, chance=chance, clock=utc_now
        )
        announcer = ApiAnnouncer(
            *(client, config.node, source.own_pods),
            chance=chance,
            clock=utc_now,
            judged=conditions.judged,
            advise=conditions.advise,
        )
        nursery.start_soon(conditions.run)
        nursery.start_soon(announcer.run)
        try:
            api_server = ApiServer(client.server, source, namespaces, announcer)
            yield Surroundings(api_server, announcer)
        finally:
            namespaces.close()
        nursery.cancel_scope.cancel()


def authority_objects(config: Config, client: Client | None) -> ObjectSource:
    """For the identity service; `client` where objects come from an API server."""
    if client is None:
        return Manifests(config.manifests)
    return Source(client, of_authority(), chance=chance)


@asynccontextmanager
async def api_client(config: Config) -> AsyncIterator[Client]:
    """The API server that the configuration names. Raises: ConfigError."""
    try:
        client = Client(await trio.to_thread.run_sync(access_of, config))
    except InvalidAccess as error:
        where = config.kubernetes.kubeconfig or config.kubernetes.credentials
        raise ConfigError(f"kubernetes: {where}: {error}") from error
    async with client:
        yield client


def access_of(config: Config) -> Access:
    """Raises: InvalidAccess, ConfigError."""
    kubernetes = config.kubernetes
    path = kubernetes.kubeconfig
    if path is None:
        assert kubernetes.server is not None
        return in_cluster(kubernetes.server, kubernetes.credentials)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise ConfigError(f"kubernetes.kubeconfig: {path}: {reason}") from error
    return parse_kubeconfig(data, path.parent)
