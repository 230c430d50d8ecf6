"""What is kept of an object is small, and a broken one keeps its last good state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.kube.failure import FailureKind
from agent.kube.objects import ObjectKey
from agent.kube.resources import Served
from agent.kube.store import Store, merged
from agent.kube.trim import (
    MAX_FAR_BYTES,
    Trim,
    authorized_pod,
    far_pod,
    own_pod,
    policy,
)
from agent.kube.watch import Failed, Item, Key, Listed, Removed, Stored, Watch
from agent.workload.model import EndpointSlice, Service, Workload

VECTORS = Path(__file__).parents[2] / "vectors" / "kube"

PODS = Served("", "v1", "pods", "Pod")
SERVICES = Served("", "v1", "services", "Service")
SERVERS = Served("policy.linkerd.io", "v1beta1", "servers", "Server")


def item(name: str, version: int, kind: str = "Pod", **fields: Any) -> Item:
    meta = {"name": name, "namespace": "shop", "uid": f"u-{name}"}
    meta |= fields.pop("metadata", {})
    document = {"apiVersion": "v1", "kind": kind, "metadata": meta} | fields
    raw = json.dumps(document).encode()
    return Item(Key("shop", name), f"u-{name}", version, raw)


def values(store: Store) -> list[object]:
    return [entry.value for entry in store.entries.values()]


class TestKept:
    META: dict[str, Any] = {  # noqa: RUF012 - read only
        "labels": {"app": "web", "podlock.io/tunnel": "hbone"},
        "annotations": {
            "podlock.io/tunnel": "hbone",
            "podlock.io/netns": "/run/netns/victim",
            "config.linkerd.io/default-inbound-policy": "deny",
            "example.com/notes": "x" * 100_000,
        },
    }

    def test_of_a_pod_of_this_node(self) -> None:
        """Labels, our annotations; no network namespace that somebody wrote there."""
        store = Store(own_pod)
        store.apply(Listed((item("web", 1, metadata=self.META),)), PODS)
        (pod,) = values(store)
        assert isinstance(pod, Workload)
        assert pod.labels == self.META["labels"]
        assert sorted(pod.annotations) == [
            "config.linkerd.io/default-inbound-policy",
            "podlock.io/tunnel",
        ]
        assert pod.netns is None

    def test_of_a_pod_of_another_node(self) -> None:
        """Who it is, where, and what a policy could select it by."""
        store = Store(far_pod)
        spec = {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}
        store.apply(Listed((item("web", 1, metadata=self.META, spec=spec),)), PODS)
        (pod,) = values(store)
        assert isinstance(pod, Workload)
        assert (pod.labels, pod.netns) == (self.META["labels"], None)
        assert "config.linkerd.io/default-inbound-policy" in pod.annotations
        assert len(pod.annotations) == 2
        assert [(port.name, port.port) for port in pod.ports] == [("http", 8080)]
        assert pod.marked

    def test_pods_of_one_workload_share_their_labels(self) -> None:
        """A thousand of them have one set in memory."""
        store = Store(far_pod)
        pods = tuple(item(name, 1, metadata=self.META) for name in ("a", "b"))
        store.apply(Listed(pods), PODS)
        one, other = (pod for pod in values(store) if isinstance(pod, Workload))
        assert one.labels is other.labels
        assert one.annotations is other.annotations

    @pytest.mark.parametrize("trim", [own_pod, far_pod])
    def test_no_annotation_keeps_a_finished_pod_alive(self, trim: Trim) -> None:
        """Its address is another pod's by now, which would be cut off by it."""
        store = Store(trim)
        store.apply(Stored(item("job", 1)), PODS)
        evil = {"annotations": {"podlock.io/netns": "not a path"}}
        over = item("job", 2, metadata=evil, status={"phase": "Succeeded"})
        store.apply(Stored(over), PODS)
        (pod,) = values(store)
        assert isinstance(pod, Workload)
        assert pod.finished
        assert list(store.problems) == []

    def test_enormous_labels_leave_nothing_behind(self) -> None:
        """Ten thousand labels of another node's pod cost no memory here, and say so."""
        labels = {f"example.com/l{number}": "x" * 63 for number in range(10_000)}
        store = Store(far_pod)
        store.apply(Stored(item("web", 1, metadata={"labels": labels})), PODS)
        (pod,) = values(store)
        assert isinstance(pod, Workload)
        assert pod.labels == {}
        (problem,) = store.problems
        assert problem.object == "API server: Pod shop/web"
        assert f"over {MAX_FAR_BYTES} characters" in problem.message

    def test_for_the_identity_service(self) -> None:
        """Who and where: it asks for nothing else of a pod."""
        store = Store(authorized_pod)
        spec = {"nodeName": "n1", "serviceAccountName": "web"}
        status = {"podIP": "10.1.0.1"}
        one = item("web", 1, metadata=self.META, spec=spec, status=status)
        store.apply(Listed((one,)), PODS)
        (pod,) = values(store)
        assert isinstance(pod, Workload)
        assert (pod.node, pod.service_account) == ("n1", "web")
        assert (pod.labels, pod.annotations, pod.addresses) == ({}, {}, ())

    def test_a_policy_whose_status_changes_is_the_same_policy(self) -> None:
        """Nothing is compiled again for what a controller writes into it."""
        store = Store(policy)
        spec = {"podSelector": {}, "port": 80}
        one = {"resourceVersion": "7", "managedFields": [{"manager": "a"}]}
        other = {"resourceVersion": "8", "managedFields": [{"manager": "b"}]}
        version = "policy.linkerd.io/v1beta1"
        common: dict[str, Any] = {"apiVersion": version, "spec": spec}
        store.apply(Stored(item("api", 7, "Server", metadata=one, **common)), SERVERS)
        before = values(store)[0]
        again = item("api", 8, "Server", metadata=other, status={"a": 1}, **common)
        assert store.apply(Stored(again), SERVERS) is False
        assert values(store)[0] is before

    def test_the_same_again_is_the_same_object(self) -> None:
        """A status that changed in what nobody reads changes nothing downstream."""
        store = Store(own_pod)
        store.apply(Listed((item("web", 1),)), PODS)
        before = values(store)[0]
        told = store.apply(Stored(item("web", 2, status={"message": "ok"})), PODS)
        assert told is False
        assert values(store)[0] is before


class TestBadObjects:
    def test_a_pod_without_an_address(self) -> None:
        """Is a pod that has not got one yet."""
        store = Store(own_pod)
        store.apply(Stored(item("web", 1, status={"podIP": ""})), PODS)
        (pod,) = values(store)
        assert isinstance(pod, Workload)
        assert pod.addresses == ()
        assert list(store.problems) == []

    @pytest.mark.parametrize(
        "port", [{"port": 0}, {"port": 80, "name": 7}, {"name": "http"}]
    )
    def test_a_service_with_a_port_that_is_none(self, port: dict[str, Any]) -> None:
        """Keeps its last good state, which a Problem names with the field."""
        store = Store()
        good = {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}
        store.apply(Listed((item("api", 1, "Service", spec=good),)), SERVICES)
        bad = {"clusterIP": "10.96.0.1", "ports": [port]}
        store.apply(Stored(item("api", 2, "Service", spec=bad)), SERVICES)
        (service,) = values(store)
        assert isinstance(service, Service)
        assert [each.port for each in service.ports] == [80]
        first, second = store.problems
        assert first.object == "API server: Service shop/api"
        assert first.field.startswith("spec.ports")
        assert "last good state" in second.message
        # And is forgotten once it is good again, or gone.
        store.apply(Stored(item("api", 3, "Service", spec=good)), SERVICES)
        assert list(store.problems) == []

    def test_a_port_without_a_name(self) -> None:
        """One port needs none."""
        store = Store()
        spec = {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "name": ""}]}
        store.apply(Stored(item("api", 1, "Service", spec=spec)), SERVICES)
        assert list(store.problems) == []

    def test_null_is_absent(self) -> None:
        """As Go writes empty lists and maps of some kinds."""
        store = Store(own_pod)
        labels, spec = {"labels": None}, {"containers": None}
        store.apply(Stored(item("web", 1, metadata=labels, spec=spec)), PODS)
        assert list(store.problems) == []

    def test_a_server_that_never_could_be_read(self) -> None:
        """There when we started: what it would close stays closed. Later: it is new."""
        spec = {"podSelector": {}, "port": 0}
        store = Store()
        store.apply(Listed((item("old", 1, "Server", spec=spec),)), SERVERS)
        store.apply(Stored(item("new", 2, "Server", spec=spec)), SERVERS)
        assert list(store.lost) == [
            ObjectKey("Server.policy.linkerd.io", "shop", "old")
        ]
        store.apply(Removed(Key("shop", "old")), SERVERS)
        assert list(store.lost) == []


class TestPages:
    def test_count_once_the_last_has_come(self) -> None:
        """Half a list is nobody's state; what was before it holds till then."""
        store = Store(own_pod)
        store.apply(Listed((item("old", 1),)), PODS)
        assert not store.apply(Listed((item("a", 2),), is_last=False), PODS)
        assert [key.name for key in store.entries] == ["old"]
        # That list broke off; another one begins.
        store.apply(Listed((item("b", 3),), is_last=False), PODS)
        assert store.apply(Listed((item("c", 4),), is_first=False), PODS)
        assert [key.name for key in store.entries] == ["b", "c"]


class TestMerged:
    def test_a_pod_that_moved(self) -> None:
        """In two stores under one name, the newer one counts."""
        own, far = Store(own_pod), Store(far_pod)
        own.apply(Listed((item("db-0", 7, spec={"nodeName": "n1"}),)), PODS)
        far.apply(Listed((item("db-0", 9, spec={"nodeName": "n2"}),)), PODS)
        for stores in ((own, far), (far, own)):
            (pod,) = merged(stores).values()
            assert isinstance(pod, Workload)
            assert pod.node == "n2"

    def test_of_a_resource_that_is_gone(self) -> None:
        """Nothing of it is left, once that is said again."""
        store = Store(own_pod)
        store.apply(Listed((item("web", 1),)), PODS)
        assert store.clear()
        assert merged([store])
        assert "not installed any more, and 1 objects were known" in (store.doubt or "")
        assert store.clear()
        assert (merged([store]), store.synced, store.doubt) == ({}, True, None)
        assert not store.clear()

    def test_one_that_never_was_is_not_doubted(self) -> None:
        store = Store(own_pod)
        assert store.clear()
        assert (store.synced, store.doubt) == (True, None)


class TestDoubt:
    """What an API server says that lost its data."""

    def test_an_empty_list_is_believed_the_second_time(self) -> None:
        store = Store(own_pod)
        store.apply(Listed((item("a", 1), item("b", 2))), PODS)
        store.apply(Listed(()), PODS)
        assert len(store.entries) == 2
        assert "the list is empty, and 2 objects were known" in (store.doubt or "")
        store.apply(Listed(()), PODS)
        assert (store.entries, store.doubt) == ({}, None)

    def test_one_that_is_not_empty_ends_it(self) -> None:
        store = Store(own_pod)
        store.apply(Listed((item("a", 1), item("b", 2))), PODS)
        store.apply(Listed(()), PODS)
        store.apply(Listed((item("b", 2),)), PODS)
        assert [key.name for key in store.entries] == ["b"]
        assert store.doubt is None
        store.apply(Listed(()), PODS)
        assert store.doubt is not None

    def test_the_first_list_may_be_empty(self) -> None:
        store = Store(own_pod)
        store.apply(Listed(()), PODS)
        assert (store.synced, store.doubt) == (True, None)

    def test_a_list_without_what_must_be_there_is_never_believed(self) -> None:
        store = Store(own_pod, lambda e: e.key is not None and e.key.name == "agent")
        store.apply(Listed((item("web", 1),)), PODS)  # no pod of an agent: a VM, say
        assert store.doubt is None
        store.apply(Listed((item("web", 1), item("agent", 2))), PODS)
        for _ in range(3):
            store.apply(Listed((item("other", 9),)), PODS)
            assert "lacks this agent's own pod" in str(store.doubt)
            assert sorted(key.name for key in store.entries) == ["agent", "web"]
        store.apply(Listed((item("web", 1), item("agent", 2))), PODS)
        assert store.doubt is None


class TestRecorded:
    """What a real API server sent, byte by byte (see tests/vectors)."""

    OWN = Served("", "v1", "pods", "Pod")
    SLICES = Served("discovery.k8s.io", "v1beta1", "endpointslices", "EndpointSlice")

    @pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
    def test_pods(self, size: int) -> None:
        """In chunks of any size, the same pods are there at the end."""
        machine, store = Watch(), Store(own_pod)
        machine.next_request(0.0)
        first = machine.page((VECTORS / "pods.list.json").read_bytes())
        assert isinstance(first, Listed)
        store.apply(first, self.OWN)
        assert [key.name for key in store.entries] == ["web"]
        machine.next_request(0.0)
        stream = (VECTORS / "pods.watch.ndjson").read_bytes()
        for start in range(0, len(stream), size):
            for event in machine.receive(stream[start : start + size]):
                assert not isinstance(event, Failed)
                store.apply(event, self.OWN)
        (pod,) = values(store)
        assert isinstance(pod, Workload)
        assert (pod.name, pod.marked, pod.ready) == ("api", True, True)
        assert [str(ip) for ip in pod.addresses] == ["10.1.0.1"]
        assert [(port.name, port.port) for port in pod.ports] == [("http", 8080)]
        assert machine.position == 200

    def test_slices(self) -> None:
        """Nulls in them are nothing wrong."""
        machine, store = Watch(), Store()
        machine.next_request(0.0)
        listed = machine.page((VECTORS / "slices.list.json").read_bytes())
        assert isinstance(listed, Listed)
        store.apply(listed, self.SLICES)
        assert list(store.problems) == []
        counts = {
            value.service: len(value.endpoints)
            for value in values(store)
            if isinstance(value, EndpointSlice)
        }
        assert counts == {"api": 1, "none": 0}

    def test_gone(self) -> None:
        """The status comes as an event, in a stream that began well."""
        machine = Watch()
        machine.next_request(0.0)
        machine.page((VECTORS / "pods.list.json").read_bytes())
        machine.next_request(0.0)
        (event,) = machine.receive((VECTORS / "gone.watch.ndjson").read_bytes())
        assert isinstance(event, Failed)
        assert event.failure.kind is FailureKind.EXPIRED
        assert machine.is_listing
