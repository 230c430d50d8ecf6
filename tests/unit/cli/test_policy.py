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
