"""What is exported is read back as the same objects."""

from __future__ import annotations

import json
from typing import Any

from agent.kube.export import manifests
from agent.kube.offline import read_documents
from agent.workload.model import Objects
from tests.unit.authz.samples import api_policy, pod, policy, rule, shop


def objects(*documents: dict[str, Any]) -> Objects:
    return read_documents(("test", document) for document in documents)


def through(found: Objects) -> Objects:
    """Exported, as JSON over a socket, and read."""
    told = json.loads(json.dumps(list(manifests(found))))
    return objects(*told)


def istio(kind: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {
            "name": "api",
            "namespace": "shop",
            "annotations": {"istio.io/dry-run": "true"},
        },
        "spec": spec,
    }


def test_a_whole_cluster() -> None:
    """Pods, namespaces, services and every policy kind, with all that is read."""
    named = pod("shop/named", "10.0.3.1")
    named["spec"]["containers"] = [{"ports": [{"name": "http", "containerPort": 80}]}]
    named["metadata"]["annotations"] = {"podlock.io/netns": "/run/netns/named"}
    found = objects(
        *shop(*api_policy("web", cidr="10.0.0.0/8")),
        named,
        pod("shop/done", "10.0.3.2") | {"status": {"phase": "Failed"}},
        policy("Server", "shop/by-name", podSelector={}, port="http"),
        policy("Server", "shop/old", podSelector={}, port=7)
        | {"apiVersion": "policy.linkerd.io/v1beta1"},
        policy(
            "MeshTLSAuthentication",
            "shop/names",
            identities=["*", "spiffe://cluster.local/ns/a/sa/b"],
        ),
        policy(
            "NetworkAuthentication",
            "shop/holes",
            networks=[{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}],
        ),
        rule("shop/names", "by-name", "MeshTLSAuthentication", "names"),
        istio(
            "AuthorizationPolicy",
            selector={"matchLabels": {"app": "api"}},
            action="DENY",
            rules=[
                {
                    "from": [{"source": {"notPrincipals": ["cluster.local/*"]}}],
                    "to": [{"operation": {"ports": ["80"]}}],
                    "when": [{"key": "source.ip", "values": ["10.0.0.0/8"]}],
                }
            ],
        ),
        istio(
            "PeerAuthentication",
            selector={"matchLabels": {"app": "api"}},
            mtls={"mode": "STRICT"},
            portLevelMtls={"80": {"mode": "DISABLE"}},
        ),
    )
    assert through(found) == found


def test_services() -> None:
    """Headless, external, by named port; and slices of both families."""
    service = {"apiVersion": "v1", "kind": "Service"}
    endpoints = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}
    label = {"kubernetes.io/service-name": "api"}
    found = objects(
        service
        | {
            "metadata": {"name": "headless", "namespace": "shop"},
            "spec": {
                "clusterIP": "None",
                "selector": {"app": "api"},
                "ports": [{"port": 80, "name": "http", "targetPort": "web"}],
                "publishNotReadyAddresses": True,
            },
        },
        service
        | {
            "metadata": {"name": "external", "namespace": "shop"},
            "spec": {"type": "ExternalName", "externalName": "example.org"},
        },
        endpoints
        | {
            "metadata": {"name": "api-6", "namespace": "shop", "labels": label},
            "addressType": "IPv6",
            "ports": [{"port": 80, "name": "http"}],
            "endpoints": [
                {"addresses": ["fd00::1"], "conditions": {"ready": False}},
                {
                    "addresses": ["fd00::3"],
                    "conditions": {
                        "ready": False,
                        "serving": True,
                        "terminating": True,
                    },
                },
                {
                    "addresses": ["fd00::2"],
                    "targetRef": {"kind": "Pod", "name": "api", "uid": "u"},
                },
            ],
        },
    )
    assert through(found) == found


def test_the_older_kind_of_endpoints() -> None:
    """Which is a slice whose endpoints bring their own ports: one for each set."""
    found = objects(
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "api", "namespace": "shop"},
            "subsets": [
                {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]},
                {"addresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 81}]},
            ],
        }
    )
    read = {
        (endpoint.addresses, port.port)
        for part in through(found).endpoint_slices
        for endpoint in part.endpoints
        for port in part.ports
    }
    assert part_names(found) == ["api"]
    assert {(str(ip), port) for (ip,), port in read} == {
        ("10.0.0.1", 80),
        ("10.0.0.2", 81),
    }


def part_names(found: Objects) -> list[str]:
    return [part.name for part in found.endpoint_slices]
