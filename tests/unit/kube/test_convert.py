"""Pods, services and their backends from Kubernetes' own objects."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from agent.addresses import parse_ip
from agent.kube.convert import (
    MIRROR_ANNOTATION,
    NETNS_ANNOTATION,
    InvalidObject,
    endpoint_slice,
    endpoints,
    namespace,
    node,
    pod,
    service,
)
from agent.workload.model import (
    EndpointSlice,
    NamedPort,
    Namespace,
    Node,
    ServicePort,
    SliceEndpoint,
    derived_uid,
)

META = {"namespace": "shop", "name": "api"}


def a_pod(
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    return {"metadata": META | metadata, "spec": spec or {}, "status": status or {}}


class TestPodRefused:
    @pytest.mark.parametrize(
        ("document", "field"),
        [
            ({}, ""),
            ([], ""),
            (a_pod(name="Api"), "metadata.name"),
            (a_pod(name="../a"), "metadata.name"),
            (a_pod(namespace="a.b"), "metadata.namespace"),
            (a_pod(labels={"a": 1}), "metadata.labels[...]"),
            (a_pod({"serviceAccountName": "a/b"}), "spec.serviceAccountName"),
            (a_pod({"nodeName": 5}), "spec.nodeName"),
            (a_pod({"hostNetwork": "yes"}), "spec.hostNetwork"),
            (a_pod(status={"podIPs": [{"ip": "10.0.0"}]}), "status.podIPs"),
            (a_pod(status={"podIPs": ["10.0.0.1"]}), "status.podIPs[0]"),
            (a_pod(status={"podIP": "127.0.0.1"}), "status.podIPs"),
            (a_pod(status={"podIP": "::"}), "status.podIPs"),
            (a_pod(status={"podIP": "::ffff:127.0.0.1"}), "status.podIPs"),
            (a_pod(status={"podIP": "fe80::1"}), "status.podIPs"),
            (
                a_pod({"containers": [{"ports": [{"containerPort": 70000}]}]}),
                "spec.containers[0].ports[0].containerPort",
            ),
        ],
    )
    def test_names_the_field(self, document: object, field: str) -> None:
        """A wrong Pod is an error at a path."""
        with pytest.raises(InvalidObject) as caught:
            pod(document)

        assert caught.value.field == field

    @pytest.mark.parametrize(
        "path", ["", "/", "run/netns/a", "/run/../a", "/run//a", "/a/", "/a\0b", "/a\n"]
    )
    def test_a_network_namespace_is_a_plain_absolute_path(self, path: str) -> None:
        """One namespace has one spelling: two pods cannot share it unseen."""
        with pytest.raises(InvalidObject, match="absolute path"):
            pod(a_pod(annotations={NETNS_ANNOTATION: path}))


class TestPod:
    def test_all_that_we_read(self) -> None:
        """Identity, place, addresses, ports, labels."""
        found = pod(
            a_pod(
                {
                    "nodeName": "n1",
                    "serviceAccountName": "web",
                    "containers": [
                        {
                            "ports": [
                                {"name": "http", "containerPort": 8080},
                                {"containerPort": 9},
                                {"name": "d", "containerPort": 53, "protocol": "UDP"},
                            ]
                        }
                    ],
                    "initContainers": [
                        {"ports": [{"name": "init", "containerPort": 1}]},
                        {
                            "restartPolicy": "Always",
                            "ports": [{"name": "side", "containerPort": 2}],
                        },
                    ],
                },
                {
                    "podIP": "10.1.0.1",
                    "podIPs": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}],
                },
                uid="u",
                labels={"podlock.io/mesh": "enabled"},
                annotations={NETNS_ANNOTATION: "/run/netns/web"},
            )
        )

        assert (found.uid, found.key, found.node) == ("u", "shop/api", "n1")
        assert (found.service_account, found.netns) == ("web", "/run/netns/web")
        assert found.addresses == (parse_ip("10.1.0.1"), parse_ip("fd00::1"))
        assert found.ports == (NamedPort("http", 8080), NamedPort("side", 2))
        assert found.meshed
        assert found.ready

    @pytest.mark.parametrize(
        ("spec", "account"),
        [
            ({"serviceAccount": "web"}, "web"),
            ({"serviceAccount": "old", "serviceAccountName": "web"}, "web"),
            ({}, "default"),
        ],
    )
    def test_the_older_spelling_of_the_account(
        self, spec: dict[str, str], account: str
    ) -> None:
        """An API server fills in both; a manifest may have the deprecated one only."""
        assert pod(a_pod(spec)).service_account == account

    def test_the_picture_of_a_static_pod(self) -> None:
        """Its annotation says so, whatever the value is: it names no ServiceAccount."""
        assert pod(a_pod(annotations={MIRROR_ANNOTATION: ""})).static
        assert not pod(a_pod()).static

    def test_defaults(self) -> None:
        """The default ServiceAccount, a derived uid, no node, no address."""
        found = pod({"metadata": {"name": "api"}})

        assert found.uid == derived_uid("default", "api")
        assert (found.service_account, found.node) == ("default", "")
        assert (found.addresses, found.netns) == ((), None)
        assert not found.meshed

    @pytest.mark.parametrize(
        ("status", "metadata", "ready", "finished"),
        [
            ({}, {}, True, False),
            ({"conditions": [{"type": "Ready", "status": "True"}]}, {}, True, False),
            ({"conditions": [{"type": "Ready", "status": "False"}]}, {}, False, False),
            ({"conditions": [{"type": "X", "status": "False"}]}, {}, True, False),
            ({}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}, False, False),
            ({"phase": "Succeeded"}, {}, True, True),
            ({"phase": "Failed"}, {}, True, True),
        ],
    )
    def test_state(
        self,
        status: dict[str, Any],
        metadata: dict[str, Any],
        ready: bool,
        finished: bool,
    ) -> None:
        """Ready unless it says otherwise; finished pods hold nothing."""
        found = pod(a_pod(status=status, **metadata))

        assert (found.ready, found.finished) == (ready, finished)
        assert found.terminating == ("deletionTimestamp" in metadata)


class TestService:
    def test_all_that_we_read(self) -> None:
        """Addresses, TCP ports with their targets, selector."""
        found = service(
            {
                "metadata": META,
                "spec": {
                    "clusterIPs": ["10.96.0.1", "fd00::a"],
                    "selector": {"app": "api"},
                    "publishNotReadyAddresses": True,
                    "ports": [
                        {"name": "http", "port": 80, "targetPort": "web"},
                        {"name": "raw", "port": 81},
                        {"name": "dns", "port": 53, "protocol": "UDP"},
                    ],
                },
            }
        )

        assert found.addresses == (parse_ip("10.96.0.1"), parse_ip("fd00::a"))
        assert found.ports == (
            ServicePort("http", 80, "web"),
            ServicePort("raw", 81, 81),
        )
        assert found.selector == {"app": "api"}
        assert found.publish_not_ready

    def test_headless_and_external_have_no_address(self) -> None:
        """Nothing to translate: clients reach the pods themselves, or elsewhere."""
        headless = service({"metadata": META, "spec": {"clusterIP": "None"}})
        external = service(
            {
                "metadata": META,
                "spec": {"type": "ExternalName", "externalName": "db.example"},
            }
        )

        assert (headless.headless, headless.addresses) == (True, ())
        assert (external.external_name, external.addresses) == ("db.example", ())

    def test_a_wrong_address_names_its_field(self) -> None:
        """An address that is none."""
        with pytest.raises(InvalidObject, match="clusterIPs"):
            service({"metadata": META, "spec": {"clusterIP": "10.96.0"}})


class TestEndpointSlice:
    SLICE: ClassVar[dict[str, Any]] = {
        "metadata": {**META, "labels": {"kubernetes.io/service-name": "api"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "any"}],
        "endpoints": [
            {
                "addresses": ["10.1.0.1"],
                "targetRef": {"kind": "Pod", "name": "a", "uid": "u"},
            },
            {"addresses": ["10.1.0.2"], "conditions": {"ready": False}},
            {"addresses": ["10.1.0.3"], "targetRef": {"kind": "Node", "name": "n"}},
        ],
    }

    def test_all_that_we_read(self) -> None:
        """Backends are ready unless it says otherwise, and pods where it says so."""
        assert endpoint_slice(self.SLICE) == EndpointSlice(
            "shop",
            "api",
            "api",
            (NamedPort("http", 8080),),
            (
                SliceEndpoint((parse_ip("10.1.0.1"),), True, "u", "a"),
                SliceEndpoint((parse_ip("10.1.0.2"),), False),
                SliceEndpoint((parse_ip("10.1.0.3"),)),
            ),
        )

    @pytest.mark.parametrize(
        ("conditions", "ready", "draining"),
        [
            ({}, True, False),
            ({"ready": False, "serving": True, "terminating": True}, False, True),
            ({"ready": False, "serving": False, "terminating": True}, False, False),
            ({"ready": False, "terminating": True}, False, False),
            ({"ready": False, "serving": True, "terminating": False}, False, False),
            ({"ready": None, "serving": None, "terminating": None}, True, False),
        ],
    )
    def test_conditions(
        self, conditions: dict[str, Any], ready: bool, draining: bool
    ) -> None:
        """Serving is what ready says where it is not set (KEP-1672)."""
        part = {"addresses": ["10.1.0.1"], "conditions": conditions}
        (found,) = endpoint_slice({**self.SLICE, "endpoints": [part]}).endpoints
        assert (found.ready, found.draining) == (ready, draining)

    @pytest.mark.parametrize(
        "change",
        [{"metadata": META}, {"addressType": "DNS"}, {"endpoints": [{}]}],
    )
    def test_refused(self, change: dict[str, Any]) -> None:
        """A slice of no service, of an unknown kind, or without addresses."""
        with pytest.raises(InvalidObject):
            endpoint_slice(self.SLICE | change)

    def test_json_straight_from_the_wire(self) -> None:
        """The same value as from a document, with a null here and there."""
        made = endpoint_slice(self.SLICE)
        assert endpoint_slice(json.dumps(self.SLICE).encode()) == made
        holes = self.SLICE | {"endpoints": None, "hints": None}
        empty = endpoint_slice(json.dumps(holes).encode())
        assert empty == replace(made, endpoints=())

    def test_node_and_zones(self) -> None:
        """In v1, and the node as v1beta1 had it."""
        one: dict[str, Any] = {"addresses": ["10.1.0.1"], "nodeName": "n1"}
        one |= {"hints": {"forZones": [{"name": "a"}, {"name": "b"}]}}
        two = {"addresses": ["10.1.0.2"], "topology": {"kubernetes.io/hostname": "n2"}}
        made = endpoint_slice(self.SLICE | {"endpoints": [one, two]}).endpoints
        assert [(each.node, each.zones) for each in made] == [
            ("n1", {"a", "b"}),
            ("n2", frozenset()),
        ]

    def test_names_lead_nowhere(self) -> None:
        """A slice of DNS names is valid; nothing can be reached through it here."""
        named = {"addressType": "FQDN", "endpoints": [{"addresses": ["db.example"]}]}
        assert endpoint_slice(self.SLICE | named).endpoints == ()


class TestNamespace:
    def test_labels_and_annotations(self) -> None:
        """What enrolment and the default policy need."""
        meta = {"name": "shop", "labels": {"a": "b"}, "annotations": {"c": "d"}}

        assert namespace({"metadata": meta}) == Namespace(
            "shop", {"a": "b"}, {"c": "d"}
        )


class TestEndpoints:
    def test_each_brings_its_subsets_ports(self) -> None:
        """The kind of servers before EndpointSlices."""
        target = {"kind": "Pod", "name": "a", "uid": "u"}
        ready = [{"ip": "10.1.0.1", "nodeName": "n1", "targetRef": target}]
        ports = [
            {"name": "http", "port": 8080},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]
        subsets = [
            {
                "addresses": ready,
                "notReadyAddresses": [{"ip": "10.1.0.2"}],
                "ports": ports,
            },
            {"addresses": [{"ip": "10.1.0.3"}], "ports": [{"port": 9090}]},
        ]
        made = endpoints({"metadata": {"name": "api"}, "subsets": subsets})
        assert (made.service, made.ports) == ("api", ())
        http = (NamedPort("http", 8080),)
        ips = [parse_ip(f"10.1.0.{n}") for n in (1, 2, 3)]
        assert made.endpoints == (
            SliceEndpoint((ips[0],), True, "u", "a", node="n1", ports=http),
            SliceEndpoint((ips[1],), False, ports=http),
            SliceEndpoint((ips[2],), True, ports=(NamedPort("", 9090),)),
        )


class TestNode:
    def test_its_zone(self) -> None:
        """Where topology hints are read from; many nodes have none."""
        meta = {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}}
        assert node({"metadata": meta}) == Node("n1", "a")
        assert node({"metadata": {"name": "n1"}}) == Node("n1")


class TestAffinity:
    def test_by_client_address(self) -> None:
        """Three hours unless the Service says otherwise; none unless it asks."""
        spec = {"clusterIP": "10.96.0.1", "sessionAffinity": "ClientIP"}
        config = {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
        meta = {"metadata": {"name": "api"}}
        assert service(meta | {"spec": spec}).affinity_seconds == 10_800
        assert service(meta | {"spec": spec | config}).affinity_seconds == 60
        assert service(meta | {"spec": {}}).affinity_seconds is None

    def test_what_passes_through(self) -> None:
        """NodePorts and load balancers have addresses that are no Service's here."""
        spec: dict[str, Any] = {"type": "LoadBalancer", "clusterIP": "10.96.0.1"}
        spec |= {"externalIPs": ["203.0.113.9"], "loadBalancerIP": "203.0.113.8"}
        status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
        made = service({"metadata": {"name": "api"}, "spec": spec, "status": status})
        assert made.addresses == (parse_ip("10.96.0.1"),)
