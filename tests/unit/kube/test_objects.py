"""Any document is read, reported as a fault, or noted as not ours; never dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube.convert import without_nulls
from agent.kube.objects import ObjectKey, read, read_json

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
SERVER: dict[str, Any] = {
    "apiVersion": "policy.linkerd.io/v1beta3",
    "kind": "Server",
    "metadata": {"namespace": "shop", "name": "api"},
    "spec": {"podSelector": {}, "port": 80},
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["apiVersion", "kind", "metadata", "spec", "status", "items", "name"]
            )
            | st.text(max_size=8),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
HEADERS = st.sampled_from(
    [
        ("v1", "Pod"),
        ("v1", "Namespace"),
        ("v1", "Service"),
        ("v1", "List"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("policy.linkerd.io/v1beta3", "Server"),
        ("policy.linkerd.io/v1alpha1", "AuthorizationPolicy"),
        ("policy.linkerd.io/v1alpha1", "MeshTLSAuthentication"),
        ("policy.linkerd.io/v1alpha1", "NetworkAuthentication"),
    ]
)


class TestFaults:
    @pytest.mark.parametrize(
        ("document", "object_", "field", "message"),
        [
            ("text", "f:1: document", "", "expected an object, got str"),
            ({}, "f:1: object", "apiVersion", "expected a version"),
            ({"apiVersion": "v1"}, "f:1: object", "kind", "expected a kind"),
            ({**POD, "kind": 5}, "f:1: object a", "kind", "expected a kind"),
            (
                {**POD, "apiVersion": "v2"},
                "f:1: Pod a",
                "apiVersion",
                "v2 is not known",
            ),
            (
                {**SERVER, "spec": {"podSelector": {}, "port": "80"}},
                "f:1: Server shop/api",
                "spec.port",
                "Expected 'str' matching",
            ),
            (
                {**SERVER, "spec": {**SERVER["spec"], "prot": 1}},
                "f:1: Server shop/api",
                "spec",
                "unknown field 'prot'",
            ),
            ({**SERVER, "spec": None}, "f:1: Server shop/api", "", "'spec'"),
            ({**POD, "metadata": {"name": 5}}, "f:1: Pod", "metadata.name", "'int'"),
        ],
    )
    def test_name_source_object_and_field(
        self, document: object, object_: str, field: str, message: str
    ) -> None:
        """Where to look, and what was expected there."""
        reading = read(document, "f:1")

        (fault,) = reading.faults
        assert reading.objects == ()
        assert (fault.problem.object, fault.problem.field) == (object_, field)
        assert message in fault.problem.message

    def test_a_broken_object_is_known_by_its_key(self) -> None:
        """So that its last good state can be found."""
        (fault,) = read({**SERVER, "spec": {}}, "f:1").faults

        assert fault.key == ObjectKey("Server.policy.linkerd.io", "shop", "api")


class TestNotes:
    @pytest.mark.parametrize(
        ("version", "kind"),
        [
            ("v1", "ConfigMap"),
            ("apps/v1", "Deployment"),
            ("security.istio.io/v1", "RequestAuthentication"),
            ("policy.linkerd.io/v1beta3", "HTTPRoute"),
        ],
    )
    def test_a_kind_of_others_is_said_to_be_unused(
        self, version: str, kind: str
    ) -> None:
        """By group and kind; it is no fault of the file's."""
        reading = read({**POD, "apiVersion": version, "kind": kind}, "f:1")

        assert (reading.objects, reading.faults) == ((), ())
        assert [str(note) for note in reading.notes] == [
            f"f:1: {kind} a: kind: kind {kind} is not used by podlock"
        ]


class TestRead:
    def test_an_empty_document_is_nothing(self) -> None:
        """As between two separators."""
        assert read(None, "f:1").faults == ()

    def test_one_object(self) -> None:
        """With its key; the namespace is default where none is written."""
        ((key, _),) = read(POD, "f:1").objects

        assert key == ObjectKey("Pod", "default", "a")

    def test_a_list_is_its_items_each_on_its_own(self) -> None:
        """A broken item does not take the others with it."""
        items = [POD, {**SERVER, "spec": {}}, SERVER, {**POD, "kind": "Secret"}]
        reading = read({"apiVersion": "v1", "kind": "List", "items": items}, "f:1")

        assert len(reading.objects) == 2
        assert len(reading.faults) == len(reading.notes) == 1

    def test_null_is_absent(self) -> None:
        """A key without a value, as Kubernetes reads it."""
        document = {**POD, "spec": {"nodeName": None}, "status": None}

        assert read(document, "f:1").faults == ()
        assert without_nulls({"a": None, "b": [{"c": None}]}) == {"b": [{}]}

    def test_null_authentications_are_not_an_empty_list(self) -> None:
        """An empty list admits anyone; a forgotten one must not."""
        policy = {
            **SERVER,
            "apiVersion": "policy.linkerd.io/v1alpha1",
            "kind": "AuthorizationPolicy",
            "spec": {
                "targetRef": {"kind": "Server", "name": "a"},
                "requiredAuthenticationRefs": None,
            },
        }

        assert len(read(policy, "f:1").faults) == 1


class TestAnything:
    @given(JSON)
    def test_any_document_is_read_or_reported(self, document: object) -> None:
        """Nothing is raised."""
        read(document, "f:1")

    @given(HEADERS, JSON, JSON, JSON)
    def test_any_object_of_our_kinds_is_read_or_reported(
        self, header: tuple[str, str], metadata: object, spec: object, status: object
    ) -> None:
        """Whatever stands in its fields."""
        version, kind = header
        document = {
            "apiVersion": version,
            "kind": kind,
            "metadata": metadata,
            "spec": spec,
            "status": status,
            "items": spec,
        }
        reading = read(document, "f:1")

        if kind != "List":
            assert len(reading.objects) + len(reading.faults) == 1


KINDS = [
    ("", "Pod"),
    ("", "Service"),
    ("", "Endpoints"),
    ("", "Node"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("policy.linkerd.io", "Server"),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "spec", "status", "name", "ports", "addresses"]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


class TestJson:
    """Bytes of an API server, of a kind that is known from the path."""

    @pytest.mark.parametrize(("group", "kind"), KINDS)
    @given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
    def test_anything_is_read_or_a_fault(
        self, group: str, kind: str, raw: bytes
    ) -> None:
        """Nothing that a server sends ends the task that reads it."""
        reading = read_json(raw, group, kind, "API server")
        assert len(reading.objects) + len(reading.faults) == 1

    def test_a_fault_names_the_object_and_the_field(self) -> None:
        """As one from a file does."""
        raw = b'{"metadata":{"name":"a","namespace":"shop"},"spec":{"nodeName":7}}'
        (fault,) = read_json(raw, "", "Pod", "API server").faults
        assert fault.key == ObjectKey("Pod", "shop", "a")
        assert fault.problem.object == "API server: Pod shop/a"
        assert fault.problem.field == "spec.nodeName"

    def test_text_that_is_no_utf8(self) -> None:
        """Inside a string, which only shows when it is read."""
        raw = b'{"metadata":{"name":"\xff\xfe"}}'
        assert read_json(raw, "", "Pod", "API server").faults
