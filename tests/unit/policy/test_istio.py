"""Istio's kinds are read as its own API server would, and nothing else is."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from agent.kube.objects import read
from agent.policy.istio import (
    AuthorizationPolicy,
    Operation,
    PeerAuthentication,
    Source,
    camel,
    pattern,
)
from agent.policy.match import Pattern, TextForm


def policy(spec: Any = None, **annotations: str) -> AuthorizationPolicy:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": "a", "annotations": annotations},
        "spec": spec or {},
    }
    return msgspec.convert(document, AuthorizationPolicy)


class TestPattern:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("*", Pattern(TextForm.ANY)),
            ("a*", Pattern(TextForm.PREFIX, "a")),
            ("*a", Pattern(TextForm.SUFFIX, "a")),
            ("a", Pattern(TextForm.EXACT, "a")),
        ],
    )
    def test_a_star_at_one_end(self, text: str, expected: Pattern) -> None:
        """Presence, prefix, suffix, exact."""
        assert pattern(text) == expected


class TestSpec:
    def test_an_absent_spec_is_an_empty_one(self) -> None:
        """Every field has a default: it allows nobody."""
        document = {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"namespace": "shop", "name": "a"},
        }
        found = msgspec.convert(document, AuthorizationPolicy)

        assert (found.spec.action, found.spec.rules) == ("ALLOW", ())
        assert found.title == "Istio AuthorizationPolicy shop/a"

    @pytest.mark.parametrize("name", ["from", "to"])
    @pytest.mark.parametrize("action", ["ALLOW", "DENY"])
    def test_an_empty_list_is_refused(self, action: str, name: str) -> None:
        """A template without callers would admit everyone, as an absent list does."""
        with pytest.raises(msgspec.ValidationError, match=f"{name}: expected at least"):
            policy({"action": action, "rules": [{name: []}]})
        assert policy({"action": action, "rules": [{}]}).spec.rules

    def test_target_ref_is_one_of_target_refs(self) -> None:
        """The deprecated field and the new one are read alike."""
        target = {"kind": "Service", "name": "api"}
        one, some = policy({"targetRef": target}), policy({"targetRefs": [target]})

        assert one.spec.targets == some.spec.targets
        assert policy().spec.targets == ()

    def test_a_port_as_yaml_reads_it(self) -> None:
        """The keys of portLevelMtls are text in JSON, and numbers to YAML."""
        document = {
            "apiVersion": "security.istio.io/v1",
            "kind": "PeerAuthentication",
            "metadata": {"name": "a"},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "portLevelMtls": {8080: {"mode": "STRICT"}},
            },
        }
        ((_, found),) = read(document, "f").objects

        assert isinstance(found, PeerAuthentication)
        assert list(found.spec.port_level_mtls) == ["8080"]

    def test_travels_to_another_process(self) -> None:
        """With all that it says."""
        found = policy({"rules": [{"from": [{"source": {"principals": ["*"]}}]}]})

        assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own bytes


class TestDryRun:
    @pytest.mark.parametrize("text", ["true", "True", "TRUE", "t", "1"])
    def test_as_go_reads_it(self, text: str) -> None:
        """strconv.ParseBool."""
        assert policy(**{"istio.io/dry-run": text}).dry_run

    @pytest.mark.parametrize("text", ["false", "0", ""])
    def test_is_off(self, text: str) -> None:
        """Also where the annotation is empty, or is not there."""
        assert not policy(**{"istio.io/dry-run": text}).dry_run
        assert not policy().dry_run

    def test_a_value_that_is_neither_is_refused(self) -> None:
        """Whether it is enforced must not be a guess."""
        with pytest.raises(msgspec.ValidationError, match="expected true or false"):
            policy(**{"istio.io/dry-run": "yes"})


class TestUnenforceable:
    def test_names_the_fields_as_they_are_spelt(self) -> None:
        """Of a source and of an operation."""
        who = Source(request_principals=("*",), not_remote_ip_blocks=("10.0.0.1",))
        what = Operation(ports=("80",), not_methods=("GET",))

        assert who.unenforceable == ("requestPrincipals", "notRemoteIpBlocks")
        assert what.unenforceable == ("notMethods",)

    def test_camel(self) -> None:
        """As manifests have it."""
        assert camel("not_ip_blocks") == "notIpBlocks"
