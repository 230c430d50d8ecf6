"""`podlock policy` judges files without an agent, and says by exit code how it went."""

from __future__ import annotations

from pathlib import Path

import yaml

from .conftest import Type

GOOD = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""


def test_what_is_good(type_: Type, tmp_path: Path) -> None:
    """Exit code 0, and how much was looked at."""
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "notes.txt").write_text("not a manifest")

    result = type_("policy", "validate", tmp_path)

    assert result.exit_code == 0
    assert result.stdout == "1 objects, 0 errors, 0 warnings\n"


def test_what_is_refused(type_: Type, tmp_path: Path) -> None:
    """Exit code 1; file, line, object, field, what is allowed, what was found."""
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD.replace("STRICT", "strict"))

    result = type_("policy", "validate", file)

    assert result.exit_code == 1
    assert (
        f"error: {file}:2: PeerAuthentication shop/default: spec.mtls.mode: "
        "Invalid enum value 'strict'; expected one of DISABLE, PERMISSIVE, STRICT, "
        "UNSET, got 'strict'\n"
    ) in result.stdout


def test_what_has_no_effect(type_: Type, tmp_path: Path) -> None:
    """A warning, which fails only where that is asked for."""
    file = tmp_path / "odd.yaml"
    file.write_text(GOOD.replace("STRICT", "DISABLE"))

    lenient = type_("policy", "validate", file)
    strict = type_("policy", "validate", "--strict", file)

    assert "warning: Istio PeerAuthentication shop/default" in lenient.stdout
    assert (lenient.exit_code, strict.exit_code) == (0, 1)


def test_a_file_that_is_not_there(type_: Type, tmp_path: Path) -> None:
    """Said in one line."""
    result = type_("policy", "validate", tmp_path / "missing.yaml")

    assert result.exit_code == 1
    assert "No such file" in result.stderr


def test_the_definitions_for_a_cluster(type_: Type) -> None:
    """Each kind that is read, as documents for kubectl apply."""
    found = list(yaml.safe_load_all(type_("policy", "crds").stdout))

    assert {each["kind"] for each in found} == {"CustomResourceDefinition"}
    assert {each["metadata"]["name"] for each in found} == {
        "servers.policy.linkerd.io",
        "serverauthorizations.policy.linkerd.io",
        "authorizationpolicies.policy.linkerd.io",
        "meshtlsauthentications.policy.linkerd.io",
        "networkauthentications.policy.linkerd.io",
        "authorizationpolicies.security.istio.io",
        "peerauthentications.security.istio.io",
    }


MESH_TLS = """
apiVersion: policy.linkerd.io/v1alpha1
kind: MeshTLSAuthentication
metadata: {name: web, namespace: shop}
spec: {identities: ["spiffe://%s/ns/shop/sa/web"]}
"""


def test_the_trust_domain_is_that_of_the_configuration(
    type_: Type, tmp_path: Path
) -> None:
    """By its default every identity under another name would have a warning."""
    manifest = tmp_path / "web.yaml"
    manifest.write_text(MESH_TLS % "corp.example")
    ours = ("--set", "trust_domain=corp.example")

    assert type_("policy", "validate", "--strict", *ours, manifest).exit_code == 0
    assert type_("policy", "validate", "--strict", manifest).exit_code == 1


def test_a_configured_federated_domain_has_no_warning(
    type_: Type, tmp_path: Path
) -> None:
    """Its identities are admitted, so they match somebody."""
    manifest, config = tmp_path / "web.yaml", tmp_path / "podlock.conf"
    manifest.write_text(MESH_TLS % "partner.example")
    config.write_text(
        "federation: {domains: [{trust_domain: partner.example, file: /p.pem}]}\n"
    )

    told = type_("policy", "validate", "--strict", "--config", config, manifest)
    assert (told.exit_code, told.stdout) == (0, "1 objects, 0 errors, 0 warnings\n")
    config.write_text("federation: {domains: []}\n")
    told = type_("policy", "validate", "--strict", "--config", config, manifest)
    assert told.exit_code == 1


def test_a_policy_without_effect(type_: Type, tmp_path: Path) -> None:
    """A warning, by which --strict fails."""
    api = {"metadata": {"labels": {"app": "api"}}, "spec": {}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {"template": api},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "api", "namespace": "shop", "labels": {"app": "api"}},
        "spec": {},
    }
    server = {
        "apiVersion": "policy.linkerd.io/v1beta3",
        "kind": "Server",
        "metadata": {"name": "api", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "api"}}, "port": 80},
    }
    manifest = tmp_path / "all.yaml"
    for made in (pod, deployment):
        manifest.write_text(yaml.safe_dump_all([made, server]))
        assert "podSelector" not in type_("policy", "validate", manifest).stdout
    manifest.write_text(yaml.safe_dump_all([pod, server]))
    assert type_("policy", "validate", "--strict", manifest).exit_code == 0

    server["spec"] = {"podSelector": {"matchLabels": {"app": "apj"}}, "port": 80}
    manifest.write_text(yaml.safe_dump_all([deployment, server]))
    told = type_("policy", "validate", "--strict", manifest)
    assert told.exit_code == 1
    assert "warning: Server shop/api: spec.podSelector: matches no pod" in told.stdout
    assert type_("policy", "validate", manifest).exit_code == 0


def test_a_deny_of_no_identity(type_: Type, tmp_path: Path) -> None:
    """Refused: it would keep nobody out."""
    manifest = tmp_path / "deny.yaml"
    source = {"source": {"principals": ["cluster.local/foo/sa/client"]}}
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "deny", "namespace": "shop"},
        "spec": {"action": "DENY", "rules": [{"from": [source]}]},
    }
    manifest.write_text(yaml.safe_dump(policy))
    told = type_("policy", "validate", manifest)
    assert told.exit_code == 1
    assert "error: Istio AuthorizationPolicy shop/deny: spec.rules[0]" in told.stdout
