"""A service's address leads to its own ready backends, and to nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.addresses import SocketAddress, parse_ip
from agent.identity.spiffe import TrustDomain
from agent.workload.directory import Endpoint, Peer
from agent.workload.model import (
    EndpointSlice,
    NamedPort,
    Service,
    ServicePort,
    SliceEndpoint,
    Workload,
)
from agent.workload.services import Place, ServiceIndex, ServiceMemory
from tests.unit.workload.samples import pod, service

APP = {"app": "api"}
AT = SocketAddress.parse("10.96.0.1:80")


def index(*pods: Workload, slices: tuple[EndpointSlice, ...] = ()) -> ServiceIndex:
    peers = {
        ip: Peer(
            item.uid,
            item.key,
            item.identity(TrustDomain("td")),
            item.addresses,
            True,
            item.node,
        )
        for item in pods
        if not item.host_network
        for ip in item.addresses
    }
    return ServiceIndex(pods, slices, peers)


def backends(found: ServiceIndex, wanted: Service) -> list[tuple[str, str | None]]:
    """Delivery address and uid behind port 80 of the service's first address."""
    at = SocketAddress(wanted.addresses[0], 80)
    endpoints: tuple[Endpoint, ...] = found.virtual_services([wanted])[at].endpoints
    return [(str(item.address), item.peer) for item in endpoints]


def endpoint_slice(*endpoints: SliceEndpoint, port: str = "http") -> EndpointSlice:
    return EndpointSlice("shop", "api-x", "api", (NamedPort(port, 8080),), endpoints)


def at(ip: str, *, ready: bool = True, uid: str | None = None) -> SliceEndpoint:
    return SliceEndpoint((parse_ip(ip),), ready, uid)


class TestLimits:
    def test_ports_times_backends_have_an_end(self) -> None:
        """Two objects of a stranger fill no memory; each family keeps its share."""
        numbers = range(1, 101)
        some = tuple(at(f"10.{i // 250}.{i % 250}.1") for i in range(1_000))
        others = tuple(at(f"fd00::{i:x}") for i in range(1, 301))
        names = tuple(NamedPort(f"p{number}", number) for number in numbers)
        part = EndpointSlice("shop", "api-x", "api", names, (*some, *others))
        ports = tuple(ServicePort(f"p{n}", n, n) for n in numbers)
        wanted = replace(service("shop/api", "10.96.0.1", "fd01::1"), ports=ports)

        found = index(slices=(part,))
        made = found.virtual_services([wanted]).values()

        assert [len(each.endpoints) for each in made] == [100] * 200
        assert [problem.message for problem in found.problems] == [
            "has 1000 IPv4 backends; the first 100 are used",
            "has 300 IPv6 backends; the first 100 are used",
        ]

    def test_as_many_as_kubernetes_is_tested_with_are_used(self) -> None:
        """Of a service of two ports."""
        some = tuple(at(f"10.{i // 250}.{i % 250}.1") for i in range(5_000))
        ports = (ServicePort("http", 80, 80), ServicePort("https", 443, 443))
        wanted = replace(service("shop/api", "10.96.0.1"), ports=ports)
        found = index(slices=(endpoint_slice(*some),))
        assert len(backends(found, wanted)) == 5_000
        assert found.problems == []


class TestSelector:
    def test_selects_pods_of_its_namespace_by_all_labels(self) -> None:
        """Another namespace, another label and no label are others' pods."""
        found = index(
            pod("shop/a", "10.1.0.1", labels={"app": "api", "v": "1"}),
            pod("shop/b", "10.1.0.2", labels={"app": "web"}),
            pod("shop/c", "10.1.0.3", labels={}),
            pod("jobs/d", "10.1.0.4", labels=APP),
        )

        wanted = service("shop/api", "10.96.0.1", selector=APP)
        assert backends(found, wanted) == [("10.1.0.1:8080", "uid-shop-a")]

    def test_without_a_selector_there_is_nobody(self) -> None:
        """An empty selector of a service selects nothing, unlike a policy's."""
        found = index(pod("shop/a", "10.1.0.1", labels=APP))

        assert backends(found, service("shop/api", "10.96.0.1")) == []

    def test_a_named_target_is_what_each_pod_means_by_it(self) -> None:
        """Two versions may listen on two ports; one without the name is reported."""
        found = index(
            pod("shop/a", "10.1.0.1", labels=APP, ports={"http": 8080}),
            pod("shop/b", "10.1.0.2", labels=APP, ports={"http": 9090}),
            pod("shop/c", "10.1.0.3", labels=APP, ports={"admin": 1}),
        )

        wanted = service("shop/api", "10.96.0.1", target="http", selector=APP)
        assert backends(found, wanted) == [
            ("10.1.0.1:8080", "uid-shop-a"),
            ("10.1.0.2:9090", "uid-shop-b"),
        ]
        assert [item.object for item in found.problems] == ["Service shop/api"]
        assert "Pod shop/c" in found.problems[0].message

    def test_a_service_never_changes_the_family(self) -> None:
        """IPv4 leads to IPv4, IPv6 to IPv6."""
        found = index(pod("shop/a", "10.1.0.1", "fd00::1", labels=APP))

        for address, backend in (
            ("10.96.0.1", "10.1.0.1:8080"),
            ("fd00:96::1", "[fd00::1]:8080"),
        ):
            wanted = service("shop/api", address, selector=APP)
            assert backends(found, wanted) == [(backend, "uid-shop-a")]

    @pytest.mark.parametrize("publish", [False, True])
    def test_a_pod_that_is_not_ready(self, publish: bool) -> None:
        """Gets nothing, unless the service publishes such pods."""
        found = index(pod("shop/a", "10.1.0.1", labels=APP, ready=False))

        wanted = service(
            "shop/api", "10.96.0.1", selector=APP, publish_not_ready=publish
        )
        assert bool(backends(found, wanted)) is publish

    def test_a_host_network_pod_is_a_backend_without_identity(self) -> None:
        """Its node's address is no workload's."""
        found = index(pod("shop/a", "192.0.2.1", labels=APP, host_network=True))

        wanted = service("shop/api", "10.96.0.1", selector=APP)
        assert backends(found, wanted) == [("192.0.2.1:8080", None)]


class TestSlices:
    WANTED = service("shop/api", "10.96.0.1", selector=APP)

    def test_slices_are_asked_before_the_selector(self) -> None:
        """Even when they say that nobody is there."""
        labelled = pod("shop/a", "10.1.0.1", labels=APP)

        assert backends(index(labelled, slices=(endpoint_slice(),)), self.WANTED) == []

    def test_ready_backends_of_the_port_s_name(self) -> None:
        """Not ready and other ports are left out."""
        peer = pod("shop/a", "10.1.0.1")
        parts = (
            endpoint_slice(at("10.1.0.1"), at("10.1.0.2", ready=False)),
            endpoint_slice(at("10.1.0.1"), port="admin"),
            endpoint_slice(at("198.51.100.7")),
        )

        assert backends(index(peer, slices=parts), self.WANTED) == [
            ("10.1.0.1:8080", "uid-shop-a"),
            ("198.51.100.7:8080", None),
        ]

    def test_an_address_that_is_another_pod_s_by_now_is_left_out(self) -> None:
        """A slice that is behind must not lead to a stranger."""
        peer = pod("jobs/new", "10.1.0.1", uid="new")
        by_uid = endpoint_slice(at("10.1.0.1", uid="old"))
        by_name = endpoint_slice(
            SliceEndpoint((parse_ip("10.1.0.1"),), pod_name="gone")
        )

        assert backends(index(peer, slices=(by_uid,)), self.WANTED) == []
        assert backends(index(peer, slices=(by_name,)), self.WANTED) == []

    def test_the_named_pod_is_found(self) -> None:
        """By uid, or by name where the slice has no uid."""
        peer = pod("shop/a", "10.1.0.1", uid="u")
        by_uid = endpoint_slice(at("10.1.0.1", uid="u"))
        by_name = endpoint_slice(SliceEndpoint((parse_ip("10.1.0.1"),), pod_name="a"))

        for part in (by_uid, by_name):
            assert backends(index(peer, slices=(part,)), self.WANTED) == [
                ("10.1.0.1:8080", "u")
            ]


class TestTwoServices:
    def test_one_address_and_port_is_the_first_s(self) -> None:
        """The other is reported, whichever comes first."""
        services = [service("shop/a", "10.96.0.1"), service("shop/b", "10.96.0.1")]

        for order in (services, services[::-1]):
            found = index()
            assert found.virtual_services(order)[AT].name == "shop/a"
            assert [item.object for item in found.problems] == ["Service shop/b"]


def near(
    wanted: Service, *endpoints: SliceEndpoint, node: str = "n1", zone: str = "a"
) -> list[str]:
    """The backends of `wanted` for clients of a node in a zone."""
    part = endpoint_slice(*endpoints)
    found = ServiceIndex((), (part,), {}, place=Place(node, zone))
    return [address for address, _ in backends(found, wanted)]


def in_zones(ip: str, *zones: str, ready: bool = True) -> SliceEndpoint:
    return SliceEndpoint((parse_ip(ip),), ready, zones=frozenset(zones))


API = service("shop/api", "10.96.0.1")


class TestNear:
    def test_hints_for_our_zone(self) -> None:
        """Where every ready backend has one, ours are used alone."""
        hinted = (in_zones("10.1.0.1", "a"), in_zones("10.1.0.2", "b"))
        assert near(API, *hinted) == ["10.1.0.1:8080"]
        assert near(API, *hinted, zone="b") == ["10.1.0.2:8080"]

    @pytest.mark.parametrize(
        ("other", "zone"),
        [
            (in_zones("10.1.0.2"), "a"),  # one without a hint: between two states
            (in_zones("10.1.0.2", "b"), "c"),  # none for our zone
            (in_zones("10.1.0.2", "b"), ""),  # nobody says where we are
        ],
    )
    def test_hints_that_do_not_count(self, other: SliceEndpoint, zone: str) -> None:
        """All are used, as kube-proxy does."""
        assert len(near(API, in_zones("10.1.0.1", "a"), other, zone=zone)) == 2

    def test_a_hint_of_a_backend_that_is_not_ready(self) -> None:
        """Counts for nothing: nobody is sent to a zone without a ready backend."""
        away = in_zones("10.1.0.1", "a", ready=False)
        assert near(API, away, in_zones("10.1.0.2", "b")) == ["10.1.0.2:8080"]

    def test_local_only(self) -> None:
        """Backends of this node, and none where it has none."""
        local = replace(API, local_only=True)
        here = SliceEndpoint((parse_ip("10.1.0.1"),), node="n1")
        there = SliceEndpoint((parse_ip("10.1.0.2"),), node="n2")
        assert near(local, here, there) == ["10.1.0.1:8080"]
        assert near(local, there) == []

    def test_local_only_by_selector(self) -> None:
        """The same where pods are found by their labels."""
        pods = (
            pod("shop/a", "10.1.0.1", labels=APP, node="n1"),
            pod("shop/b", "10.1.0.2", labels=APP, node="n2"),
        )
        found = ServiceIndex(pods, (), {}, place=Place("n2"))
        wanted = replace(
            service("shop/api", "10.96.0.1", selector=APP), local_only=True
        )
        assert [address for address, _ in backends(found, wanted)] == ["10.1.0.2:8080"]


def draining(ip: str, node: str = "", *zones: str) -> SliceEndpoint:
    """One that serves still, and ends."""
    return SliceEndpoint(
        (parse_ip(ip),), False, node=node, zones=frozenset(zones), draining=True
    )


class TestDraining:
    """KEP-1669, as kube-proxy: better one that ends than none."""

    def test_where_none_is_ready(self) -> None:
        """Those that serve; not one that is not ready for another reason."""
        other = at("10.1.0.2", ready=False)
        assert near(API, draining("10.1.0.1"), other) == ["10.1.0.1:8080"]

    def test_not_beside_a_ready_one(self) -> None:
        """New connections go where they can stay."""
        assert near(API, draining("10.1.0.1"), at("10.1.0.2")) == ["10.1.0.2:8080"]

    def test_hints_count_for_nothing(self) -> None:
        """All that serve are used, of any zone."""
        found = near(API, draining("10.1.0.1", "", "a"), draining("10.1.0.2", "", "b"))
        assert len(found) == 2

    def test_local_only(self) -> None:
        """This node's, though another node has a ready one."""
        local = replace(API, local_only=True)
        ready = SliceEndpoint((parse_ip("10.1.0.2"),), node="n2")
        assert near(local, draining("10.1.0.1", "n1"), ready) == ["10.1.0.1:8080"]

    def test_each_family_for_itself(self) -> None:
        """A ready IPv6 address serves no client of the IPv4 one."""
        six = SliceEndpoint((parse_ip("fd00::1"),))
        assert near(API, draining("10.1.0.1"), six) == ["10.1.0.1:8080"]


class TestEndpointsOfOlderServers:
    def test_bring_their_own_ports(self) -> None:
        """Subsets of one object may differ in theirs."""
        one = SliceEndpoint((parse_ip("10.1.0.1"),), ports=(NamedPort("http", 80),))
        two = SliceEndpoint((parse_ip("10.1.0.2"),), ports=(NamedPort("http", 81),))
        assert near(API, one, two) == ["10.1.0.1:80", "10.1.0.2:81"]


class TestAffinity:
    def test_is_told_with_the_service(self) -> None:
        """Whoever picks an endpoint must know."""
        sticky = replace(API, affinity_seconds=600)
        made = index(slices=(endpoint_slice(at("10.1.0.1")),)).virtual_services(
            [sticky]
        )
        assert made[AT].affinity_seconds == 600


class TestMemory:
    def test_slices_that_did_not_change(self) -> None:
        """Come out as the same object, which costs nothing to compare."""
        memory = ServiceMemory()
        part = endpoint_slice(at("10.1.0.1"))
        made = []
        for _ in range(2):
            found = ServiceIndex((), (part,), {}, memory)
            made.append(found.virtual_services([API])[AT])
            memory.end_round()
        assert made[0] is made[1]

    def test_an_address_that_passed_to_another_pod(self) -> None:
        """Is seen, though service and slices are what they were."""
        memory, part = ServiceMemory(), endpoint_slice(at("10.1.0.1", uid="u1"))
        for uid, count in (("u1", 1), ("u2", 0)):
            ip = parse_ip("10.1.0.1")
            holder = Peer(uid, "shop/a", SPIFFE, (ip,), True, "n1")
            found = ServiceIndex((), (part,), {ip: holder}, memory)
            assert len(found.virtual_services([API])[AT].endpoints) == count
            memory.end_round()


SPIFFE = pod("shop/a").identity(TrustDomain("td"))
