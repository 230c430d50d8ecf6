"""What a node makes of all objects: enrolment, identities and no stolen address."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import SocketAddress, parse_ip
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.compiler import InboundDefaults
from agent.policy.linkerd import Server
from agent.policy.rule import DEFAULT_ANNOTATION, DefaultPolicy
from agent.workload.model import (
    EndpointSlice,
    NamedPort,
    Namespace,
    Node,
    Objects,
    Service,
    SliceEndpoint,
    Workload,
    derived_uid,
)
from agent.workload.registry import NodeView, Registry
from tests.unit.policy.samples import authorization, policies, ref, server
from tests.unit.workload.samples import DISABLED, ENABLED, pod, service

TRUST_DOMAIN = TrustDomain("cluster.local")
SHARED = parse_ip("10.1.0.1")


def registry() -> Registry:
    return Registry("n1", TRUST_DOMAIN, InboundDefaults(DefaultPolicy.DENY))


def view(*pods: Workload, **others: object) -> NodeView:
    return registry().apply(replace(Objects(workloads=pods), **others))  # type: ignore[arg-type]


def identity(namespace: str, account: str = "default") -> SpiffeId:
    return SpiffeId.for_workload(TRUST_DOMAIN, namespace, account)


def said(found: NodeView) -> list[tuple[str, str]]:
    return [(problem.object, problem.field) for problem in found.problems]


class TestEnrolment:
    @pytest.mark.parametrize(
        ("namespace_labels", "pod_labels", "host_network", "enrolled"),
        [
            ({}, {}, False, False),
            (ENABLED, {}, False, True),
            ({}, ENABLED, False, True),
            (ENABLED, DISABLED, False, False),
            (DISABLED, ENABLED, False, True),
            (DISABLED, {}, False, False),
            (ENABLED, ENABLED, True, False),
        ],
    )
    def test_labels(
        self,
        namespace_labels: dict[str, str],
        pod_labels: dict[str, str],
        host_network: bool,
        enrolled: bool,
    ) -> None:
        """The pod's label wins over its namespace's; host-network pods never join."""
        api = pod("shop/a", "10.1.0.1", labels=pod_labels, host_network=host_network)
        found = view(api, namespaces=(Namespace("shop", namespace_labels),))

        assert bool(found.pods) is enrolled
        assert bool(found.policies) is enrolled
        assert found.identities == ({identity("shop")} if enrolled else set())
        assert found.problems == ()
        peer = found.directory.peer_at(SHARED)
        assert (peer is None) is host_network
        assert peer is None or peer.meshed is enrolled

    def test_a_static_pod_never_joins(self) -> None:
        """It is nobody's to wait for; its node made the object, and chose its name."""
        found = view(pod("shop/a", "10.1.0.1", static=True, netns=None))
        assert not found.pods
        assert not found.unplaced
        assert found.problems == ()

    def test_an_unknown_label_value_is_reported(self) -> None:
        """It has no effect, and nobody has to guess that."""
        wrong = {"podlock.io/mesh": "true"}
        found = view(
            pod("shop/a", "10.1.0.1", labels=wrong),
            namespaces=(Namespace("shop", wrong),),
        )

        assert found.pods == {}
        assert said(found) == [
            ("Namespace shop", "metadata.labels[podlock.io/mesh]"),
            ("Pod shop/a", "metadata.labels[podlock.io/mesh]"),
        ]

    def test_a_pod_of_another_node_is_located_only(self) -> None:
        """Known as a peer, not enrolled here, and no certificate asked for."""
        found = view(pod("shop/a", "10.1.0.1", node="n2", netns=None))

        assert not found.pods
        assert not found.identities
        assert found.problems == ()
        peer = found.directory.peer_at(SHARED)
        assert peer is not None
        assert (peer.name, peer.node, peer.meshed) == ("shop/a", "n2", True)
        assert peer.identity == identity("shop")

    def test_a_meshed_pod_without_a_network_namespace_is_reported(self) -> None:
        """It cannot be captured, and peers still expect a tunnel: closed."""
        found = view(pod("shop/a", "10.1.0.1", netns=None))

        assert found.pods == {}
        assert said(found) == [("Pod shop/a", "")]
        peer = found.directory.peer_at(SHARED)
        assert peer is not None
        assert peer.meshed

    def test_a_pod_on_no_node_is_reported(self) -> None:
        """A manifest that names a network namespace and forgets the node."""
        found = view(pod("shop/a", "10.1.0.1", node=""))

        assert found.pods == {}
        assert said(found) == [("Pod shop/a", "spec.nodeName")]

    def test_a_finished_pod_is_nobody(self) -> None:
        """Its status keeps an address that Kubernetes may have given away."""
        old = pod("shop/a", "10.1.0.1", finished=True)
        found = view(old, pod("shop/b", "10.1.0.1"))

        peer = found.directory.peer_at(SHARED)
        assert peer is not None
        assert peer.name == "shop/b"
        assert found.problems == ()


class TestOneAddress:
    A = pod("shop/a", "10.1.0.1", "fd00::1", account="a")
    B = pod("shop/b", "10.1.0.1", account="b")

    def test_two_pods_with_one_address_are_never_confused(self) -> None:
        """The first holds it; the other is captured, but not located by it."""
        found = view(self.B, self.A)

        peer = found.directory.peer_at(SHARED)
        assert peer is not None
        assert peer.identity == identity("shop", "a")
        assert said(found) == [("Pod shop/b", "status.podIPs")]
        assert found.pods[self.B.uid].addresses == ()
        assert found.pods[self.A.uid].addresses == self.A.addresses

    def test_who_held_it_before_keeps_it(self) -> None:
        """A later pod with a smaller name does not become the running one."""
        node = registry()
        node.apply(Objects(workloads=(self.B,)))
        found = node.apply(Objects(workloads=(self.A, self.B)))

        peer = found.directory.peer_at(SHARED)
        assert peer is not None
        assert peer.name == "shop/b"
        assert said(found) == [("Pod shop/a", "status.podIPs")]
        other = found.directory.peer_at(parse_ip("fd00::1"))
        assert other is not None
        assert other.addresses == (parse_ip("fd00::1"),)

    def test_one_with_a_deletion_timestamp_gives_way(self) -> None:
        """Its successor runs there; its own object may stay for long."""
        nodes = registry()
        old = pod("shop/a", str(SHARED), labels=ENABLED)
        new = pod("shop/b", str(SHARED), labels=ENABLED)
        nodes.apply(Objects(workloads=(old,)))

        found = nodes.apply(Objects(workloads=(replace(old, terminating=True), new)))

        peer = found.directory.peer_at(SHARED)
        assert peer is not None
        assert peer.name == "shop/b"
        assert found.pods[old.uid].addresses == ()  # enrolled, until its object is gone

    def test_an_address_is_free_when_its_pod_is_gone(self) -> None:
        """Reuse by a new pod is the normal course of things."""
        node = registry()
        node.apply(Objects(workloads=(self.A,)))
        found = node.apply(Objects(workloads=(self.B,)))

        peer = found.directory.peer_at(SHARED)
        assert peer is not None
        assert peer.name == "shop/b"
        assert found.problems == ()

    def test_a_copied_uid_takes_nothing_over(self) -> None:
        """Two pods with one uid are two pods, and the address stays where it was."""
        running = pod("shop/b", "10.1.0.1", account="b", uid="u")
        copy = pod("shop/a", "10.1.0.1", account="a", uid="u")
        node = registry()
        node.apply(Objects(workloads=(running,)))
        found = node.apply(Objects(workloads=(copy, running)))

        peer = found.directory.peer_at(SHARED)
        assert peer is not None
        assert peer.identity == identity("shop", "b")
        assert set(found.pods) == {"u", derived_uid("shop", "b")}
        assert ("Pod shop/b", "metadata.uid") in said(found)

    def test_two_pods_in_one_network_namespace_are_one(self) -> None:
        """Else one pod would speak under two identities."""
        other = pod("shop/b", "10.1.0.2", account="b", netns=self.A.netns)
        found = view(other, self.A)

        assert set(found.pods) == {self.A.uid}
        assert found.identities == {identity("shop", "a")}
        assert said(found) == [("Pod shop/b", "")]


class TestRunsOn:
    def test_a_node_speaks_for_its_own_pods(self) -> None:
        """Not for those of another node, nor for host-network or finished ones."""
        node = registry()
        node.apply(
            Objects(
                workloads=(
                    pod("shop/a", "10.1.0.1", account="here"),
                    pod("shop/b", "10.1.0.2", account="there", node="n2", netns=None),
                    pod("shop/c", "192.0.2.1", account="host", host_network=True),
                    pod("shop/d", "10.1.0.3", account="gone", finished=True),
                    pod("shop/e", account="nowhere", node=""),
                )
            )
        )

        asked = ["here", "there", "host", "gone", "nowhere", "unknown"]
        for where, expected in (("n1", ["here"]), ("n2", ["there"]), ("", [])):
            answers = [
                account
                for account in asked
                if node.runs_on(where, identity("shop", account))
            ]
            assert answers == expected

    def test_nobody_runs_before_the_first_object(self) -> None:
        """An empty registry vouches for nobody."""
        assert not registry().runs_on("n1", identity("shop"))


class TestPolicies:
    def test_each_pod_has_its_own(self) -> None:
        """Named ports and annotations of the pod, its namespace and the default."""
        objects = policies(
            server("shop/s", "http", app="api"),
            authorization("shop/x", ref("Pod", "y")),
        )
        labels = {**ENABLED, "app": "api"}
        found = view(
            pod("shop/a", "10.1.0.1", labels=labels, ports={"http": 8080}),
            pod("shop/b", "10.1.0.2"),
            pod("jobs/c", "10.1.0.3"),
            namespaces=(
                Namespace("shop", {}, {DEFAULT_ANNOTATION: "all-authenticated"}),
            ),
            linkerd=objects,
        )

        assert set(found.policies["uid-shop-a"].ports) == {8080}
        assert found.policies["uid-shop-b"].default is DefaultPolicy.ALL_AUTHENTICATED
        assert found.policies["uid-shop-b"].default_from == "Namespace shop"
        assert found.policies["uid-jobs-c"].default is DefaultPolicy.DENY
        assert said(found) == [("AuthorizationPolicy shop/x", "spec.targetRef")]


class TestServices:
    def test_a_service_leads_to_its_pods(self) -> None:
        """And its address is owned on every port."""
        labels = {**ENABLED, "app": "api"}
        found = view(
            pod("shop/a", "10.1.0.1", labels=labels),
            services=(service("shop/api", "10.96.0.1", selector={"app": "api"}),),
        )

        at = found.directory.service_at(SocketAddress.parse("10.96.0.1:80"))
        assert at is not None
        assert [item.peer for item in at.endpoints] == ["uid-shop-a"]
        assert found.directory.owns(parse_ip("10.96.0.1"))

    def test_a_pod_is_no_backend_by_an_address_it_does_not_hold(self) -> None:
        """The holder of the address is somebody else."""
        labels = {**ENABLED, "app": "api"}
        found = view(
            pod("shop/a", "10.1.0.1"),
            pod("shop/b", "10.1.0.1", labels=labels),
            services=(service("shop/api", "10.96.0.1", selector={"app": "api"}),),
        )

        at = found.directory.service_at(SocketAddress.parse("10.96.0.1:80"))
        assert at is not None
        assert at.endpoints == ()


PODS = (
    pod("shop/a", "10.1.0.1", account="a"),
    pod("shop/b", "10.1.0.1", account="b"),
    pod("shop/c", "10.1.0.2", netns="/run/netns/shop-a"),
    pod("jobs/d", "10.1.0.3", node="n2", netns=None, uid="uid-shop-a"),
    pod("jobs/e", "10.1.0.4", labels={"podlock.io/mesh": "yes"}),
)
SERVICES = (service("shop/x", "10.96.0.1"), service("shop/y", "10.96.0.1"))
NAMESPACES = (Namespace("shop", ENABLED), Namespace("jobs", {"podlock.io/mesh": "?"}))
POLICIES = (server("shop/s"), server("shop/t"))


class TestOrder:
    @given(
        st.permutations(PODS),
        st.permutations(SERVICES),
        st.permutations(NAMESPACES),
        st.permutations(POLICIES),
    )
    def test_order_of_objects_never_matters(
        self,
        pods: list[Workload],
        services: list[Service],
        namespaces: list[Namespace],
        servers: list[Server],
    ) -> None:
        """The same objects in any order are the same view, problems and all."""
        shuffled = Objects(
            workloads=tuple(pods),
            namespaces=tuple(namespaces),
            services=tuple(services),
            linkerd=policies(*servers),
        )

        assert registry().apply(shuffled) == registry().apply(
            Objects(PODS, NAMESPACES, SERVICES, (), policies(*POLICIES))
        )

    def test_applying_the_same_again_changes_nothing(self) -> None:
        """`apply` is a function of the objects once addresses are held."""
        node = registry()
        objects = Objects(workloads=PODS, services=SERVICES)

        assert node.apply(objects) == node.apply(objects)


class TestByMark:
    """With an API server a peer takes HBONE when its node's agent says so."""

    def view(self, *pods: Workload) -> NodeView:
        shop = Namespace("shop", ENABLED)
        registry = Registry("n1", TrustDomain("td"), by_mark=True)
        return registry.apply(Objects(workloads=pods, namespaces=(shop,)))

    def meshed(self, view: NodeView, ip: str) -> bool:
        peer = view.directory.peer_at(parse_ip(ip))
        assert peer is not None
        return peer.meshed

    def test_a_label_alone_makes_no_peer(self) -> None:
        """It may not be captured yet: no tunnel would be answered."""
        view = self.view(pod("shop/web", "10.1.0.1"), pod("shop/api", "10.1.0.2"))
        assert not self.meshed(view, "10.1.0.1")
        assert sorted(each.name for each in view.pods.values()) == ["api", "web"]

    def test_a_marked_pod_is_one_whatever_its_labels_say(self) -> None:
        """Also one that is about to leave: until the mark is off it takes tunnels."""
        away = replace(
            pod("jobs/far", "10.2.0.1", node="n2", labels={}, netns=None), marked=True
        )
        leaving = replace(pod("shop/old", "10.1.0.3", labels=DISABLED), marked=True)
        view = self.view(away, leaving)
        assert self.meshed(view, "10.2.0.1")
        assert self.meshed(view, "10.1.0.3")
        assert view.pods == {}


def test_a_pod_whose_namespace_is_not_found_yet() -> None:
    """Is to be enrolled, and said to be; one of another node is not ours to find."""
    lost = pod("shop/lost", "10.1.0.1", netns=None)
    away = pod("shop/away", "10.2.0.1", node="n2", netns=None)
    plain = pod("shop/plain", "10.1.0.2", labels=DISABLED, netns=None)
    found = view(lost, away, plain)
    assert found.unplaced == {lost.uid}
    assert not found.pods
    assert said(found) == [("Pod shop/lost", "")]


def test_zones_are_of_this_node() -> None:
    """Topology hints are read from where we are."""
    ready = [
        SliceEndpoint((parse_ip(f"10.2.0.{n}"),), zones=frozenset({zone}))
        for n, zone in ((1, "a"), (2, "b"))
    ]
    part = EndpointSlice("shop", "api-x", "api", (NamedPort("http", 8080),), (*ready,))
    objects = Objects(
        services=(service("shop/api", "10.96.0.1"),),
        endpoint_slices=(part,),
        nodes=(Node("n1", "b"), Node("n2", "a")),
    )
    view = Registry("n1", TrustDomain("td")).apply(objects)
    at = SocketAddress.parse("10.96.0.1:80")
    found = view.directory.services[at].endpoints
    assert [str(each.address) for each in found] == ["10.2.0.2:8080"]
