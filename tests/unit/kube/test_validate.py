"""Policies are judged before they act, by what the agent itself reads them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from agent.kube.objects import read
from agent.kube.validate import definitions_as_yaml, validate
from agent.policy.schema import definitions

CRDS = Path(__file__).parents[3] / "deploy" / "crds"
LINKERD, ISTIO = "policy.linkerd.io", "security.istio.io"
SERVER = {"podSelector": {}, "port": 80}
TARGET = {"group": LINKERD, "kind": "Server", "name": "a"}


def policy(api: str, kind: str, spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"namespace": "shop", "name": "a"},
        "spec": spec,
    }


def server(**spec: Any) -> dict[str, Any]:
    return policy(f"{LINKERD}/v1beta3", "Server", {**SERVER, **spec})


def istio(**spec: Any) -> dict[str, Any]:
    return policy(f"{ISTIO}/v1", "AuthorizationPolicy", spec)


def source(**fields: Any) -> dict[str, Any]:
    return istio(rules=[{"from": [{"source": fields}]}])


def peer(**spec: Any) -> dict[str, Any]:
    return policy(f"{ISTIO}/v1beta1", "PeerAuthentication", spec)


def linkerd(kind: str, **spec: Any) -> dict[str, Any]:
    return policy(f"{LINKERD}/v1alpha1", kind, spec)


GOOD = [
    server(),
    server(port="http", accessPolicy="audit", proxyProtocol="HTTP/2"),
    server(podSelector={"matchExpressions": [{"key": "a", "operator": "Exists"}]}),
    policy(f"{LINKERD}/v1beta2", "Server", {"externalWorkloadSelector": {}, "port": 1}),
    policy(
        f"{LINKERD}/v1beta1",
        "ServerAuthorization",
        {"server": {"name": "a"}, "client": {"unauthenticated": True}},
    ),
    linkerd("AuthorizationPolicy", targetRef=TARGET, requiredAuthenticationRefs=[]),
    linkerd("MeshTLSAuthentication", identities=["*"]),
    linkerd("NetworkAuthentication", networks=[{"cidr": "10.0.0.0/8"}]),
    istio(),
    istio(action="DENY", rules=[{}]),
    istio(action="CUSTOM", provider={"name": "x"}),
    source(principals=["*"], notNamespaces=["a*", "*b"], ipBlocks=["10.0.0.1"]),
    source(serviceAccounts=["web", "jobs/batch"]),
    istio(rules=[{"to": [{"operation": {"ports": ["80"], "methods": ["GET"]}}]}]),
    istio(rules=[{"when": [{"key": "source.ip", "values": ["10.0.0.0/8"]}]}]),
    istio(targetRefs=[{"kind": "Service", "group": "", "name": "api"}]),
    peer(),
    peer(mtls={"mode": "STRICT"}),
    peer(selector={"matchLabels": {"a": "b"}}, portLevelMtls={"80": {"mode": "UNSET"}}),
]

# What both the API server's schema and we refuse; and what only we can.
BAD = [
    (server(port=0), "spec.port", "from 1 to 65535"),
    (server(port=True), "spec.port", "whole number"),
    (server(port=80.5), "spec.port", "whole number"),
    (server(accessPolicy="allow"), "spec.accessPolicy", "all-authenticated, "),
    (server(proxyProtocol="http"), "spec.proxyProtocol", "opaque"),
    (server(podSelector=[]), "spec.podSelector", "object"),
    (
        server(podSelector={"matchExpressions": [{"key": "a", "operator": "Is"}]}),
        "spec.podSelector.matchExpressions[0].operator",
        "DoesNotExist, ",
    ),
    (
        server(podSelector={"matchLabels": {"a": "not a label"}}),
        "spec.podSelector.matchLabels[...]",
        "text like",
    ),
    (policy(f"{LINKERD}/v1beta3", "Server", {"podSelector": {}}), "spec", "port"),
    (linkerd("AuthorizationPolicy", targetRef=TARGET), "spec", "requiredAuth"),
    (linkerd("MeshTLSAuthentication", identities="*"), "spec.identities", "a list"),
    (linkerd("NetworkAuthentication", networks=[]), "spec.networks", "list"),
    (istio(action="BLOCK"), "spec.action", "one of ALLOW, "),
    (istio(rules={}), "spec.rules", "a list"),
    (istio(rules=[{"from": [{}]}]), "spec.rules[0].from[0]", "source"),
    (source(principals=["a*b"]), "spec.rules[0].from[0].source.principals[0]", "like"),
    (source(principals=[""]), "spec.rules[0].from[0].source.principals[0]", "like"),
    (source(serviceAccounts=["a/b/c"]), "spec.rules[0].from[0].source", "like"),
    (source(serviceAccounts=["w*"]), "spec.rules[0].from[0].source", "like"),
    (
        istio(rules=[{"to": [{"operation": {"ports": [80]}}]}]),
        "spec.rules[0].to[0].operation.ports[0]",
        "got 80",
    ),
    (istio(rules=[{"when": [{"values": ["a"]}]}]), "spec.rules[0].when[0]", "key"),
    (istio(targetRefs=[{"kind": "Service"}]), "spec.targetRefs[0]", "name"),
    (peer(mtls={"mode": "strict"}), "spec.mtls.mode", "one of DISABLE, "),
    (peer(mtls="STRICT"), "spec.mtls", "object"),
]
BAD_TO_US = [
    (server(accesPolicy="deny"), "spec", "unknown field 'accesPolicy'"),
    (server(externalWorkloadSelector={}), "spec", "one of podSelector and"),
    (server(port="Http"), "spec.port", "text like"),
    (source(), "spec.rules[0].from[0].source", "at least one of principals"),
    (source(princpals=["a"]), "spec.rules[0].from[0].source", "notPrincipals"),
    (source(ipBlocks=["10.0.0.0/33"]), "spec.rules[0].from[0].source", "10.0.0.0/8"),
    (source(ipBlocks=["::ffff:10.0.0.0/104"]), "spec.rules[0].from[0].source", "IPv4"),
    (
        istio(rules=[{"to": [{"operation": {"ports": ["70000"]}}]}]),
        "spec.rules[0].to[0].operation",
        "port from 1 to 65535",
    ),
    (
        istio(rules=[{"when": [{"key": "source.ip"}]}]),
        "spec.rules[0].when[0]",
        "values or notValues",
    ),
    (
        istio(rules=[{"when": [{"key": "source.ip", "values": ["web"]}]}]),
        "spec.rules[0].when[0]",
        "not a network",
    ),
    (istio(selector={}, targetRefs=[TARGET]), "spec", "expected one of selector"),
    (istio(provider={"name": "x"}), "spec", "provider with action CUSTOM"),
    (istio(selector={"matchLabels": {"a": "b*"}}), "spec.selector", "no wildcard"),
    (peer(portLevelMtls={"80": {}}), "spec", "a selector"),
    (
        peer(selector={"matchLabels": {"a": "b"}}, portLevelMtls={"http": {}}),
        "spec",
        "port from 1 to 65535",
    ),
    (linkerd("MeshTLSAuthentication"), "spec", "identities or identityRefs"),
    (
        linkerd("NetworkAuthentication", networks=[{"cidr": "everyone"}]),
        "spec.networks[0]",
        "not a network",
    ),
]


def schema_of(document: dict[str, Any]) -> dict[str, Any]:
    """What the API server judges this object by."""
    group, _, version = document["apiVersion"].partition("/")
    for definition in definitions().values():
        spec = definition["spec"]
        if (spec["group"], spec["names"]["kind"]) == (group, document["kind"]):
            for served in spec["versions"]:
                if served["name"] == version:
                    found: dict[str, Any] = served["schema"]["openAPIV3Schema"]
                    return found
    raise AssertionError(document["kind"])


def is_accepted(document: dict[str, Any]) -> bool:
    """The verdict of an independent judge, by the schema alone."""
    validator = Draft202012Validator(schema_of(document))
    accepted: bool = validator.is_valid(document)
    return accepted


@pytest.mark.parametrize("document", GOOD, ids=str)
def test_what_is_good_is_taken_by_both(document: dict[str, Any]) -> None:
    """By the agent and by the definition that the API server has."""
    assert read(document, "f").faults == ()
    assert is_accepted(document)


@pytest.mark.parametrize(("document", "field", "allowed"), BAD, ids=str)
def test_what_is_bad_is_refused_by_both(
    document: dict[str, Any], field: str, allowed: str
) -> None:
    """The agent says which object, where in it, and what is allowed there."""
    (fault,) = read(document, "f").faults

    assert fault.problem.object == f"f: {document['kind']} shop/a"
    assert fault.problem.field.startswith(field)
    assert allowed in fault.problem.message
    assert not is_accepted(document)


@pytest.mark.parametrize(("document", "field", "allowed"), BAD_TO_US, ids=str)
def test_what_no_schema_can_say_is_refused_by_us(
    document: dict[str, Any], field: str, allowed: str
) -> None:
    """One of two fields, numbers in texts, networks, and unknown fields."""
    (fault,) = read(document, "f").faults

    assert fault.problem.field.startswith(field)
    assert allowed in fault.problem.message


@pytest.mark.parametrize(
    ("api", "kind"),
    [
        (f"{LINKERD}/v1", "Server"),
        (f"{LINKERD}/v1beta9", "ServerAuthorization"),
        (f"{ISTIO}/v1alpha1", "AuthorizationPolicy"),
        (f"{ISTIO}/v2", "PeerAuthentication"),
    ],
)
def test_unknown_versions_are_refused(api: str, kind: str) -> None:
    """With those that are known."""
    (fault,) = read(policy(api, kind, {}), "f").faults

    assert fault.problem.field == "apiVersion"
    assert "is not known (v1" in fault.problem.message


def test_the_definitions_in_deploy_are_these() -> None:
    """`podlock policy crds` and the files of the repository are one."""
    on_disk = {path.name: path.read_text() for path in CRDS.glob("*.yaml")}

    assert on_disk == definitions_as_yaml()


def test_the_definitions_are_structural() -> None:
    """No references, no `additionalProperties: false`, one stored version each."""
    for definition in definitions().values():
        text = yaml.safe_dump(definition)
        assert "$ref" not in text
        assert "additionalProperties: false" not in text
        assert r"\Z" not in text
        versions = definition["spec"]["versions"]
        assert [each["storage"] for each in versions].count(True) == 1


def test_a_version_has_no_later_fields() -> None:
    """accessPolicy came with v1beta3, externalWorkloadSelector with v1beta2."""
    spec = definitions()["policy.linkerd.io_servers.yaml"]["spec"]
    known = {
        each["name"]: set(
            each["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        )
        for each in spec["versions"]
    }

    assert known["v1beta3"] - known["v1beta2"] == {"accessPolicy"}
    assert known["v1beta2"] - known["v1beta1"] == {"externalWorkloadSelector"}


@pytest.mark.parametrize(
    ("version", "spec", "field"),
    [
        ("v1beta2", {**SERVER, "accessPolicy": "deny"}, "spec.accessPolicy"),
        ("v1beta1", {**SERVER, "accessPolicy": "deny"}, "spec.accessPolicy"),
        (
            "v1beta1",
            {"externalWorkloadSelector": {}, "port": 80},
            "spec.externalWorkloadSelector",
        ),
    ],
)
def test_a_field_of_a_later_version_is_refused(
    version: str, spec: Any, field: str
) -> None:
    """The API server would drop it, and its meaning with it."""
    (fault,) = read(policy(f"{LINKERD}/{version}", "Server", spec), "f").faults

    assert fault.problem.field == field
    assert f"not known in {version}; expected v1beta3" in fault.problem.message


def files(*documents: dict[str, Any]) -> dict[str, bytes]:
    return {"a.yaml": yaml.safe_dump_all(documents).encode()}


class TestValidate:
    def test_errors_and_warnings_are_told_apart(self) -> None:
        """What is refused, and what is taken and has no effect."""
        found = validate(
            files(
                server(port=0),
                istio(rules=[{"to": [{"operation": {"methods": ["GET"]}}]}]),
                linkerd(
                    "AuthorizationPolicy",
                    targetRef={**TARGET, "name": "missing"},
                    requiredAuthenticationRefs=[],
                ),
            )
        )

        assert found.objects == 2
        assert [problem.field for problem in found.errors] == ["spec.port"]
        assert [problem.field for problem in found.warnings] == [
            "spec.targetRef",
            "spec.rules[0]",
        ]

    def test_references_lead_from_file_to_file(self) -> None:
        """All files are one set."""
        named = linkerd(
            "AuthorizationPolicy", targetRef=TARGET, requiredAuthenticationRefs=[]
        )
        both = {
            "a.yaml": yaml.safe_dump(server()).encode(),
            "b.yaml": yaml.safe_dump(named).encode(),
        }

        assert validate(both).warnings == ()
        assert len(validate({"b.yaml": both["b.yaml"]}).warnings) == 1

    def test_a_file_that_is_no_manifest_is_one_error(self) -> None:
        """With its line, once."""
        found = validate({"a.yaml": b"kind: [\n"})

        assert len(found.errors) == 1
        assert found.warnings == ()

    def test_an_object_twice_is_a_warning(self) -> None:
        """Of one object defined twice the first is in force."""
        (warning,) = validate(files(server(), server(port=81))).warnings

        assert "already" in warning.message
