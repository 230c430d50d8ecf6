"""Where objects come from follows from the settings, and a wrong one is named."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import cast

import pytest
import trio

from agent.app.announcing import Silent
from agent.app.objects import ApiServer, Manifests, access_of, api_client, node_objects
from agent.config import ConfigError, resolve
from agent.kube.access import InvalidAccess
from agent.kube.announcer import Announcer
from agent.kube.manifests import Change
from agent.kube.source import Source
from agent.policy.problem import Problem
from agent.redirect.pod_namespaces import PodNamespaces
from agent.workload.model import Workload
from tests.cluster.credentials import Authority
from tests.unit.workload.samples import pod


class FakeSource:
    """Tells of one Change and has these pods."""

    def __init__(self, pods: list[Workload]) -> None:
        self._pods = pods

    async def run(
        self,
        on_change: Callable[[Change], None],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await trio.lowlevel.checkpoint()
        on_change(Change())
        task_status.started()

    def own_pods(self) -> list[Workload]:
        return self._pods


class FakeNamespaces:
    """Remembers whose are to be held."""

    def __init__(self) -> None:
        self.uids: set[str] = set()

    def keep(self, uids: Collection[str]) -> None:
        self.uids = set(uids)


class TestManifests:
    async def test_are_missing_until_they_are_read(self, tmp_path: Path) -> None:
        """Then what is wrong with them is in the Change."""
        manifests, changes = Manifests(tmp_path), list[Change]()
        assert manifests.missing() == ["the manifests have not been read yet"]
        async with trio.open_nursery() as nursery:
            await nursery.start(manifests.run, changes.append)
            assert (manifests.missing(), len(changes)) == ([], 1)
            assert manifests.description()["place"] == str(tmp_path)
            nursery.cancel_scope.cancel()

    async def test_nobody_is_told_of_captures(self) -> None:
        """Somebody's files are not written to."""
        async with node_objects(resolve({"node": "n1"})) as surroundings:
            assert isinstance(surroundings.source, Manifests)
            assert isinstance(surroundings.announcer, Silent)


class TestApiServer:
    async def test_in_a_pod(self, tmp_path: Path) -> None:
        """The files of its ServiceAccount; a source and somebody to tell."""
        authority = Authority(tmp_path)
        (tmp_path / "ca.crt").write_bytes(authority.certificate.read_bytes())
        kubernetes = {
            "in_cluster": True,
            "server": "https://127.0.0.1:1",
            "credentials": str(tmp_path),
        }
        config = resolve({"node": "n1", "kubernetes": kubernetes})
        access = access_of(config)
        assert (access.server, access.token) == (
            "https://127.0.0.1:1",
            tmp_path / "token",
        )
        async with node_objects(config) as surroundings:
            assert isinstance(surroundings.source, ApiServer)
            assert isinstance(surroundings.announcer, Announcer)
            told = surroundings.source.description()
            assert (told["source"], told["place"]) == (
                "api-server",
                "https://127.0.0.1:1",
            )
            problem = Problem("Server shop/api", "spec.port", "why")
            surroundings.announcer.judged([problem])
            surroundings.announcer.fault = "the API server does not permit it"
            (*_, last) = surroundings.source.missing()
            assert last == (
                "captured pods are not marked: the API server does not permit it"
            )

    async def test_a_finished_pod_holds_no_namespace(self) -> None:
        """The kernel frees it when the pod ends, not when its object is deleted."""
        pods = [pod("shop/web"), pod("shop/job", finished=True)]
        source, kept = FakeSource(pods), FakeNamespaces()
        server = ApiServer(
            "https://api",
            cast("Source", source),
            cast("PodNamespaces", kept),
            cast("Announcer", None),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run, lambda _: None)
            nursery.cancel_scope.cancel()
        assert kept.uids == {"uid-shop-web"}

    async def test_a_kubeconfig_that_cannot_be_used(self, tmp_path: Path) -> None:
        """Missing, unreadable as such, or naming files that are not there."""
        path = tmp_path / "kubeconfig"
        config = resolve({"node": "n1", "kubernetes": {"kubeconfig": str(path)}})
        with pytest.raises(
            ConfigError, match=r"kubernetes\.kubeconfig: .*No such file"
        ):
            access_of(config)
        path.write_text("{}")
        with pytest.raises(InvalidAccess):
            access_of(config)
        with pytest.raises(ConfigError, match="no kubeconfig"):
            async with api_client(config):
                raise AssertionError
