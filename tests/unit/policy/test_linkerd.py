"""Linkerd's kinds are read as its own API server would, and nothing else is."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from agent.policy.linkerd import (
    AuthorizationPolicy,
    Client,
    LocalRef,
    MeshTLSAuthentication,
    NetworkAuthentication,
    Server,
)
from agent.policy.objects import PolicyObject
from agent.policy.rule import DefaultPolicy
from tests.unit.policy.samples import document, network, ref, server

SERVER = {"podSelector": {}, "port": 80}
TARGET = ref("Server", "api")


class TestRefused:
    @pytest.mark.parametrize(
        ("kind", "spec"),
        [
            (Server, {"podSelector": {}}),
            (Server, {"port": 80}),
            (Server, {**SERVER, "port": 0}),
            (Server, {**SERVER, "port": 65536}),
            (Server, {**SERVER, "port": "80"}),
            (Server, {**SERVER, "port": "a-name-too-long-"}),
            (Server, {**SERVER, "port": "Http"}),
            (Server, {**SERVER, "port": 80.5}),
            (Server, {**SERVER, "port": True}),
            (Server, {**SERVER, "accesPolicy": "deny"}),
            (Server, {**SERVER, "accessPolicy": "allow"}),
            (Server, {**SERVER, "proxyProtocol": "http"}),
            (Server, {**SERVER, "podSelector": {"matchLabel": {}}}),
            (AuthorizationPolicy, {"targetRef": TARGET}),
            (AuthorizationPolicy, {"requiredAuthenticationRefs": []}),
            (
                AuthorizationPolicy,
                {
                    "targetRef": {**TARGET, "namespace": "shop"},
                    "requiredAuthenticationRefs": [],
                },
            ),
            (MeshTLSAuthentication, {}),
            (MeshTLSAuthentication, {"identities": []}),
            (MeshTLSAuthentication, {"identities": ["spiffe://td/ns/*"]}),
            (MeshTLSAuthentication, {"identities": ["*", "Web"]}),
            (MeshTLSAuthentication, {"identities": "*"}),
            (MeshTLSAuthentication, {"identityRefs": [{"kind": "ServiceAccount"}]}),
            (NetworkAuthentication, {}),
            (NetworkAuthentication, {"networks": []}),
            (NetworkAuthentication, {"networks": [{"cidr": "10.0.0.0/255.0.0.0"}]}),
            (NetworkAuthentication, {"networks": [{"cidr": "10.0.0.0/"}]}),
            (NetworkAuthentication, {"networks": [{"cidr": "10.0.0.0/33"}]}),
            (NetworkAuthentication, {"networks": [{"cidr": "everyone"}]}),
            (NetworkAuthentication, {"networks": [{"cidr": "::ffff:10.0.0.0/104"}]}),
            (
                NetworkAuthentication,
                {"networks": [{"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}]},
            ),
            (
                NetworkAuthentication,
                {"networks": [{"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}]},
            ),
            (
                NetworkAuthentication,
                {"networks": [{"cidr": "10.0.0.0/8", "except": ["::/0"]}]},
            ),
            (
                NetworkAuthentication,
                {"networks": [{"cidr": "10.0.0.0/8", "excluded": []}]},
            ),
        ],
    )
    def test_a_spec_that_is_not_of_its_kind(
        self, kind: type[PolicyObject], spec: dict[str, Any]
    ) -> None:
        """A misspelt or missing field of a policy is an error, never a default."""
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(document(kind.__name__, "shop/a", spec), kind)

    @pytest.mark.parametrize(
        "metadata", [{"name": "A"}, {"name": "a\n"}, {"namespace": "a.b"}, {"nme": "a"}]
    )
    def test_metadata_that_kubernetes_would_not_have(
        self, metadata: dict[str, str]
    ) -> None:
        """Names are DNS names, and metadata has no other fields either."""
        wrong = document("Server", "shop/a", SERVER)
        wrong["metadata"] |= metadata

        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Server)


class TestRead:
    def test_a_server_denies_unless_told(self) -> None:
        """`accessPolicy` is deny where nobody wrote one."""
        assert server("shop/api").spec.access_policy is DefaultPolicy.DENY
        assert server("shop/api").title == "Server shop/api"

    def test_all_that_kubectl_prints_is_known(self) -> None:
        """An object as the API server returns it is read, status and all."""
        printed = document("Server", "shop/api", SERVER)
        printed["metadata"] |= {
            "uid": "u",
            "generation": 2,
            "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "kubectl"}],
            "ownerReferences": [],
            "labels": {"a": "b"},
            "annotations": {"c": "d"},
        }
        printed["status"] = {"conditions": []}

        assert msgspec.convert(printed, Server).name == "api"

    def test_host_bits_are_cut_off_and_one_address_is_a_network(self) -> None:
        """As Linkerd reads networks."""
        wide = network("shop/a", "10.9.9.9/8", "10.1.0.1").spec.networks[0].match

        assert str(wide.cidr) == "10.0.0.0/8"
        assert [str(item) for item in wide.excluded] == ["10.1.0.1/32"]

    def test_kinds_compare_without_case_and_core_is_empty(self) -> None:
        """References as Linkerd's users write them."""
        assert LocalRef(group="core", kind="namespace", name="a").is_kind(
            "", "Namespace"
        )
        assert not LocalRef(group="apps", kind="Namespace", name="a").is_kind(
            "", "Namespace"
        )

    def test_travels_to_another_process(self) -> None:
        """A policy object is the same after pickling."""
        sent = server("shop/api")

        assert pickle.loads(pickle.dumps(sent)) == sent  # noqa: S301 - our own


ACCOUNTS: Any = {"serviceAccounts": [{"name": "web"}]}


class TestContradictions:
    """Both halves of a ServerAuthorization's client; the wider one would win."""

    @pytest.mark.parametrize(
        "client",
        [
            {"unauthenticated": True, "meshTLS": ACCOUNTS},
            {"unauthenticated": True, "meshTLS": {"unauthenticatedTLS": True}},
            {"meshTLS": {"unauthenticatedTLS": True, **ACCOUNTS}},
            {"meshTLS": {"unauthenticatedTLS": True, "identities": ["*"]}},
        ],
    )
    def test_are_refused_as_linkerds_webhook_does(self, client: Any) -> None:
        with pytest.raises(msgspec.ValidationError, match="excludes"):
            msgspec.convert(client, Client)

    @pytest.mark.parametrize(
        "client",
        [
            {"unauthenticated": True},
            {"unauthenticated": False, "meshTLS": ACCOUNTS},
            {"meshTLS": {"unauthenticatedTLS": True}},
            {"meshTLS": {"unauthenticatedTLS": False, **ACCOUNTS}},
        ],
    )
    def test_either_alone_is_taken(self, client: Any) -> None:
        assert isinstance(msgspec.convert(client, Client), Client)
