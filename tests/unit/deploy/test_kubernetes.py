"""deploy/kubernetes says what the code needs: settings, rights, and nothing beyond."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent import __version__
from agent.config import Config, resolve
from agent.kube.preflight import Right, rights
from agent.kube.resources import of_authority, of_node
from agent.workload.model import TUNNEL_MARK

DEPLOY = Path(__file__).parents[3] / "deploy/kubernetes"
READ = frozenset({"get", "list", "watch"})

Document = dict[str, Any]


@cache
def documents() -> dict[tuple[str, str], Document]:
    """Every object of the kustomization, by kind and name."""
    listed = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())["resources"]
    files = (yaml.safe_load_all((DEPLOY / name).read_text()) for name in listed)
    return {
        (each["kind"], each["metadata"]["name"]): each
        for file in files
        for each in file
    }


def pod_spec(kind: str, name: str) -> Document:
    spec: Document = documents()[kind, name]["spec"]["template"]["spec"]
    return spec


def config(name: str, **environment: str) -> Config:
    """What a process makes of its ConfigMap and environment."""
    text = documents()["ConfigMap", name]["data"]["podlock.yaml"]
    given = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", **environment}
    return resolve(yaml.safe_load(text), given)


def granted(role: str) -> set[Right]:
    return {
        Right(verb, group, resource)
        for rule in documents()["ClusterRole", role]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_every_file_is_in_the_kustomization() -> None:
    """Or `kubectl apply -k` would leave one out."""
    listed = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())["resources"]
    there = {path.name for path in DEPLOY.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == there


def test_the_agent_understands_its_settings() -> None:
    """With the variables that the kubelet gives it."""
    found = config(
        "podlock-agent",
        PODLOCK_NODE="n1",
        PODLOCK_IDENTITY__SERVICE="https://10.0.0.9:8443",
    )
    assert found.kubernetes.in_cluster
    assert str(found.status.readiness) == "127.0.0.1:15021"
    probes = pod_spec("DaemonSet", "podlock-agent")["containers"][0]
    assert probes["readinessProbe"]["httpGet"]["port"] == 15021
    seconds = pod_spec("DaemonSet", "podlock-agent")["terminationGracePeriodSeconds"]
    assert seconds > found.limits.drain_seconds + 5


def test_the_identity_service_understands_its_settings() -> None:
    """It serves where the Service looks for it, with the issuer that is mounted."""
    found = config("podlock-identity")
    container = pod_spec("Deployment", "podlock-identity")["containers"][0]
    assert container["ports"][0]["containerPort"] == found.authority.listen.port
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(found.authority.issuer) in mounts
    mounted = pod_spec("DaemonSet", "podlock-agent")["volumes"]
    (trust,) = [v["configMap"]["name"] for v in mounted if v["name"] == "trust"]
    assert found.authority.config_map == f"podlock/{trust}"
    account = pod_spec("DaemonSet", "podlock-agent")["serviceAccountName"]
    assert found.kubernetes.agent == f"podlock/{account}"


def test_the_agent_may_do_what_it_does_and_no_more() -> None:
    """`get` beside `list` and `watch` costs nothing; a write would."""
    needed = set(rights(of_node("n1")))
    given = granted("podlock-agent")
    assert needed <= given
    read = {(right.group, right.resource) for right in needed if right.verb in READ}
    beyond = {r for r in given - needed if (r.group, r.resource) not in read}
    assert {r.verb for r in beyond} <= READ
    # Older servers' kinds, and one that is read where Linkerd brings it.
    assert {r.resource for r in beyond} <= {"endpoints", "serverauthorizations"}


def test_the_identity_service_may_read_pods_and_review_tokens() -> None:
    """Nothing else; it has no Secret by the API."""
    watched = {right for right in rights(of_authority()) if right.verb in READ}
    given = granted("podlock-identity")
    assert watched <= given
    review = Right("create", "authentication.k8s.io", "tokenreviews")
    assert given - watched - {Right("get", "", "pods")} == {review}


@pytest.mark.parametrize(
    ("kind", "name", "capabilities"),
    [
        ("DaemonSet", "podlock-agent", {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"}),
        ("Deployment", "podlock-identity", set()),
    ],
)
def test_privileges(kind: str, name: str, capabilities: set[str]) -> None:
    """By name, and the root file system is read-only."""
    (container,) = pod_spec(kind, name)["containers"]
    context = container["securityContext"]
    assert not context.get("privileged")
    assert not context["allowPrivilegeEscalation"]
    assert context["readOnlyRootFilesystem"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert set(context["capabilities"].get("add", ())) == capabilities
    assert container["image"].endswith(f":{__version__}")


def test_what_of_the_node_is_mounted() -> None:
    """Two places, one of them to read."""
    spec = pod_spec("DaemonSet", "podlock-agent")
    mounts = spec["containers"][0]["volumeMounts"]
    read_only = {mount["name"]: mount.get("readOnly", False) for mount in mounts}
    paths = {
        volume["hostPath"]["path"]: read_only[volume["name"]]
        for volume in spec["volumes"]
        if "hostPath" in volume
    }
    assert paths == {"/sys/fs/bpf": False, "/sys/fs/cgroup": True}


def test_the_admission_policy_knows_the_agent_and_its_mark() -> None:
    """It judges by names that are written elsewhere."""
    file = DEPLOY / "admission" / "agent-marks.yaml"
    policy, binding = yaml.safe_load_all(file.read_text())
    spec = policy["spec"]
    account = pod_spec("DaemonSet", "podlock-agent")["serviceAccountName"]
    who = f"'system:serviceaccount:podlock:{account}'"
    assert who in spec["matchConditions"][0]["expression"]
    about_marks = [e for e in spec["validations"] if "labels" in e["expression"]]
    about_marks += [e for e in spec["validations"] if "annotations" in e["expression"]]
    assert len(about_marks) == 2
    assert all(f"'{TUNNEL_MARK}'" in each["expression"] for each in about_marks)
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
