"""The manifests of a lab."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.lab import manifests, names, system
from tests.lab.manifests import ManifestDirectory
from tests.lab.pod import Pod

WEB = Pod(
    name="web",
    namespace="shop",
    service_account="web-account",
    node="n1",
    address=names.pod_address(1, 0),
    netns=Path("/run/netns/podlock-demo-n1-web"),
    cgroup=Path("/sys/fs/cgroup/podlock-demo/n1/web"),
    directory=Path("/run/podlock-demo/pods/web"),
    children=system.Children(),
)


def test_a_pod_tells_where_it_is() -> None:
    """Node, account, both addresses and the network namespace."""
    manifest = manifests.pod(WEB, annotations={"a": "b"}, tier="front")
    assert manifest["spec"] == {"nodeName": "n1", "serviceAccountName": "web-account"}
    assert manifest["status"]["podIPs"] == [
        {"ip": "10.244.1.10"},
        {"ip": "fd00:244:1::10"},
    ]
    assert manifest["metadata"]["labels"] == {"app": "web", "tier": "front"}
    assert manifest["metadata"]["annotations"] == {
        "podlock.io/netns": "/run/netns/podlock-demo-n1-web",
        "a": "b",
    }


def test_only_a_meshed_namespace_has_the_label() -> None:
    """Enrolment is asked for, never assumed."""
    assert manifests.namespace("shop")["metadata"]["labels"]
    assert not manifests.namespace("outside", meshed=False)["metadata"]["labels"]


def test_a_service_has_both_families() -> None:
    """The first of clusterIPs is the clusterIP, as the API server has it."""
    spec = manifests.service("api", "shop", 0, http=80, dual=8080)["spec"]
    assert spec["clusterIPs"] == ["10.96.0.10", "fd00:96::10"]
    assert spec["clusterIP"] == spec["clusterIPs"][0]
    assert [port["targetPort"] for port in spec["ports"]] == [80, 8080]


def test_policies_refer_to_each_other_by_name() -> None:
    """The authorization names its server and whom it lets in."""
    policy = manifests.authorization_policy("api-callers", "shop", "api-http", "web")
    assert policy["apiVersion"] == "policy.linkerd.io/v1alpha1"
    assert policy["spec"]["targetRef"]["name"] == "api-http"
    (reference,) = policy["spec"]["requiredAuthenticationRefs"]
    assert (reference["kind"], reference["name"]) == ("MeshTLSAuthentication", "web")
    who = manifests.mesh_tls_authentication("web", "shop", "web", "batch")
    assert who["spec"]["identityRefs"] == [
        {"kind": "ServiceAccount", "name": "web"},
        {"kind": "ServiceAccount", "name": "batch"},
    ]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Nothing but the named file is there afterwards, with all of its objects."""
    directory = ManifestDirectory(tmp_path / "manifests")
    directory.write("world", manifests.namespace("shop"))
    path = directory.write("world", manifests.namespace("shop"), manifests.pod(WEB))
    kinds = [each["kind"] for each in yaml.safe_load_all(path.read_text())]
    assert kinds == ["Namespace", "Pod"]
    assert list(directory.path.iterdir()) == [path]
    directory.remove("world")
    assert not list(directory.path.iterdir())
