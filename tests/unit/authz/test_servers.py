"""Which pods are behind a Service, of whatever kind; and what is there instead."""

from __future__ import annotations

from typing import Any

import pytest

from agent.authz.check import check
from agent.authz.party import clients, servers
from agent.authz.servers import NoSuchParty

from .samples import Manifest, pod, shop, survey


def service(name: str, *ports: Manifest, **spec: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"app": "api"}, "ports": list(ports), **spec},
    }


def endpoint_slice(name: str, *endpoints: Manifest) -> Manifest:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-1",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


PORT = {"port": 8000, "targetPort": 80}


def found(documents: list[Manifest], text: str, port: int) -> list[tuple[str, int]]:
    at = servers(text, port, survey(documents))
    return [(each.pod.key, each.port) for each in at]


class TestHeadless:
    HEADLESS = service("db", PORT, clusterIP="None")

    @pytest.mark.parametrize("port", [8000, 80])
    def test_at_the_target_port(self, port: int) -> None:
        """By the Service's port, or by the pods' own, which its clients use."""
        assert found(shop(self.HEADLESS), "db", port) == [("shop/api", 80)]

    def test_by_slices(self) -> None:
        """One without a selector has what its EndpointSlices say."""
        documents = shop(
            service("db", PORT, clusterIP="None", selector={}),
            endpoint_slice("db", {"addresses": ["10.0.1.2"]}),
        )
        assert found(documents, "db", 8000) == [("shop/batch", 80)]

    def test_another_port(self) -> None:
        """With those that it has."""
        with pytest.raises(NoSuchParty, match="has no port 81, only 8000"):
            found(shop(self.HEADLESS), "db", 81)


class TestOthers:
    def test_without_an_address(self) -> None:
        """As in a repository: the API server gives it one later."""
        assert found(shop(service("db", PORT)), "db", 8000) == [("shop/api", 80)]

    def test_of_the_clients_node_only(self) -> None:
        """The question is asked from no node, so every backend counts."""
        local = service(
            "db", PORT, clusterIP="10.96.0.9", internalTrafficPolicy="Local"
        )
        assert found(shop(local), "db", 8000) == [("shop/api", 80)]

    @pytest.mark.parametrize("sliced", [False, True])
    def test_before_pods_of_the_host_network(self, sliced: bool) -> None:
        """They are outside the mesh; that is the answer."""
        host = pod("shop/agent", "192.168.0.1")
        host["spec"]["hostNetwork"] = True
        documents = shop(
            host,
            service("node", PORT, clusterIP="10.96.0.9", selector={"app": "agent"}),
        )
        if sliced:
            target = {"kind": "Pod", "name": "agent", "namespace": "shop"}
            backend = {"addresses": ["192.168.0.1"], "targetRef": target}
            documents.append(endpoint_slice("node", backend))
        at = survey(documents)
        (server,) = servers("node", 8000, at)
        assert (server.pod.key, server.port) == ("shop/agent", 80)
        (client,) = clients("batch", at)
        (answer,) = check(client, server, at)
        assert answer.verdict.allowed
        assert "is on the host network, outside the mesh" in answer.verdict.reason


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            [service("db", PORT, type="ExternalName", externalName="db.example.com")],
            "is an ExternalName: DNS answers with db.example.com",
        ),
        (
            [
                service("db", PORT, selector={}),
                endpoint_slice("db", {"addresses": ["192.0.2.7"]}),
            ],
            "it leads to 192.0.2.7:80, which is no pod and outside the mesh",
        ),
        (
            [
                service("db", PORT, selector={}),
                endpoint_slice(
                    "db", {"addresses": ["10.0.1.2"], "conditions": {"ready": False}}
                ),
            ],
            "its EndpointSlices have no ready endpoint with this port",
        ),
        ([service("db", PORT, selector={})], "it has no selector"),
        (
            [service("db", PORT, selector={"app": "nosuch"})],
            "its selector app=nosuch matches no pod of its namespace",
        ),
        (
            [service("db", {"port": 8000, "targetPort": "http"})],
            "its selector matches shop/api, which are not ready or have no port",
        ),
    ],
)
def test_no_pod(more: list[Manifest], said: str) -> None:
    """What is there instead, and not that a pod is missing."""
    with pytest.raises(NoSuchParty, match=said):
        found(shop(*more), "db", 8000)
