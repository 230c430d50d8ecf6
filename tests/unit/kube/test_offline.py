"""A directory that no agent watches: whole or not at all, and Deployments count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.kube.offline import InvalidManifests, read_directory, read_documents
from tests.unit.authz.samples import namespace, pod, policy


def write(directory: Path, **files: list[dict[str, Any]] | str) -> Path:
    for name, content in files.items():
        text = content if isinstance(content, str) else yaml.safe_dump_all(content)
        (directory / f"{name}.yaml").write_text(text)
    return directory


def controller(kind: str) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "api"}},
        "spec": {
            "serviceAccountName": "api",
            "containers": [{"ports": [{"name": "http", "containerPort": 80}]}],
        },
    }
    job = {"jobTemplate": {"spec": {"template": template}}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": job if kind == "CronJob" else {"template": template},
    }


def test_files_below_each_other(tmp_path: Path) -> None:
    """Every manifest counts, wherever it lies."""
    (tmp_path / "deeper").mkdir()
    write(tmp_path, a=[namespace("shop")])
    write(tmp_path / "deeper", b=[pod("shop/web")])
    found = read_directory(tmp_path)
    assert [each.key for each in found.workloads] == ["shop/web"]


@pytest.mark.parametrize(
    "kind",
    [
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSet",
        "ReplicationController",
        "Job",
        "CronJob",
    ],
)
def test_what_makes_pods(kind: str) -> None:
    """It stands for a pod with its name, and its template's labels and ports."""
    (made,) = read_documents([("f", controller(kind))]).workloads
    assert (made.key, made.service_account) == ("shop/api", "api")
    assert made.labels == {"app": "api"}
    assert [(port.name, port.port) for port in made.ports] == [("http", 80)]


def test_in_a_list() -> None:
    """As `kubectl get -o yaml` writes it."""
    document = {"apiVersion": "v1", "kind": "List", "items": [controller("Deployment")]}
    assert len(read_documents([("f", document)]).workloads) == 1


def test_other_kinds_are_passed_over() -> None:
    """A repository has many."""
    other = {"apiVersion": "apps/v1", "kind": "Widget", "metadata": {"name": "x"}}
    assert not read_documents([("f", other)]).workloads


class TestFaults:
    def test_all_of_them(self, tmp_path: Path) -> None:
        """Each with its file, object and field."""
        bad = policy("Server", "shop/a", podSelector={}, port=0)
        write(tmp_path, a=[bad], b="kind: Pod\nkind: Pod\n")
        with pytest.raises(InvalidManifests) as caught:
            read_directory(tmp_path)
        assert "b.yaml" in str(caught.value)
        with pytest.raises(
            InvalidManifests, match=r"a\.yaml:1: Server shop/a: spec\.port"
        ):
            read_directory(write(tmp_path, b=[namespace("shop")]))

    def test_defined_twice(self) -> None:
        """Nobody can tell which one will be in force."""
        twice = [("a", pod("shop/web")), ("b", pod("shop/web"))]
        with pytest.raises(
            InvalidManifests, match="b: Pod shop/web: is defined already"
        ):
            read_documents(twice)

    @pytest.mark.parametrize("there", [True, False])
    def test_nothing(self, tmp_path: Path, there: bool) -> None:
        """An empty directory answers nothing, and neither does one that is missing."""
        with pytest.raises(InvalidManifests):
            read_directory(tmp_path if there else tmp_path / "missing")

    @pytest.mark.parametrize("template", [None, 7, [], {"metadata": 7}])
    def test_a_template_that_is_none(self, template: object) -> None:
        """A controller that is broken is passed over or refused; nothing crashes."""
        document = controller("Deployment")
        document["spec"]["template"] = template
        try:
            found = read_documents([("f", document)])
        except InvalidManifests:
            return
        assert all(each.key == "shop/api" for each in found.workloads)
