"""What is watched, and where a server of some version has it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kube.resources import (
    InvalidDiscovery,
    Resource,
    of_authority,
    of_node,
    parse_groups,
    parse_resources,
    possible,
)


def named(name: str) -> Resource:
    return next(each for each in of_node("n1") if each.name == name)


class TestOfANode:
    def test_pods_are_watched_in_two_parts(self) -> None:
        """All of this node; of the others the marked ones; none of them twice."""
        own, far = named("pods of this node"), named("meshed pods of other nodes")
        assert own.selectors == (("fieldSelector", "spec.nodeName=n1"),)
        assert far.selectors == (
            ("labelSelector", "podlock.io/tunnel=hbone"),
            ("fieldSelector", "spec.nodeName!=n1"),
        )

    def test_every_policy_kind_is_optional(self) -> None:
        """A cluster needs no policies; it does need pods."""
        optional = [each.name for each in of_node("n1") if each.optional]
        assert "servers.policy.linkerd.io" in optional
        assert "authorizationpolicies.policy.linkerd.io" in optional
        assert not named("services").optional

    def test_paths(self) -> None:
        """The core's group has a path of its own."""
        assert named("services").candidates[0].path == "/api/v1/services"
        servers = named("servers.policy.linkerd.io").candidates
        assert servers[0].path == "/apis/policy.linkerd.io/v1beta3/servers"

    def test_the_authority_watches_pods_alone(self) -> None:
        """Who runs where is all that it signs by."""
        assert [each.name for each in of_authority()] == ["pods"]


class TestDiscovery:
    @pytest.mark.parametrize(
        ("versions", "found"),
        [
            (["v1", "v1beta1"], "/apis/discovery.k8s.io/v1/endpointslices"),
            (["v1beta1"], "/apis/discovery.k8s.io/v1beta1/endpointslices"),
            ([], "/api/v1/endpoints"),
        ],
    )
    def test_the_newest_that_is_served(self, versions: list[str], found: str) -> None:
        """Down to the Endpoints of servers before EndpointSlices."""
        groups = {"discovery.k8s.io": frozenset(versions)}
        candidates = named("endpoints of services").candidates
        assert possible(candidates, groups)[0].path == found

    def test_reads_what_servers_answer(self) -> None:
        """Groups with their versions, a version with its resources."""
        body = {"groups": [{"name": "apps", "versions": [{"version": "v1"}]}]}
        assert parse_groups(json.dumps(body).encode()) == {"apps": {"v1"}}
        body = {"resources": [{"name": "pods"}, {"name": "pods/status"}]}
        found = parse_resources(json.dumps(body).encode(), "/api/v1")
        assert found == {"pods", "pods/status"}

    @given(st.binary())
    def test_any_bytes(self, body: bytes) -> None:
        """What cannot be read concludes nothing."""
        with pytest.raises(InvalidDiscovery):
            parse_groups(body)
        with pytest.raises(InvalidDiscovery):
            parse_resources(body, "/apis/x")
