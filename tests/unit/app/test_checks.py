"""What is checked follows from where objects come from."""

from __future__ import annotations

from pathlib import Path

from agent.app.checks import before
from agent.config import resolve
from tests.cluster.credentials import Authority


def test_manifests_need_no_rights() -> None:
    """One machine, no API server."""
    *_, finding = before(resolve({"node": "n1", "manifests": "/m"}))
    assert finding.is_well
    assert "/m" in finding.message


def test_an_identity_service_that_is_not_there(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    (tmp_path / "token").write_text("token")
    identity = {
        "service": "https://127.0.0.1:1",
        "anchors": str(authority.certificate),
        "token": str(tmp_path / "token"),
    }
    found = before(resolve({"node": "n1", "identity": identity}))
    (finding,) = [each for each in found if each.subject == "identity service"]
    assert "Connection refused" in finding.message
    assert "identity.service" in finding.advice
    (tmp_path / "token").unlink()
    found = before(resolve({"node": "n1", "identity": identity}))
    (finding,) = [each for each in found if each.subject == "identity service"]
    assert f"{tmp_path}/token: No such file" in finding.message


def test_a_spiffe_agent_that_is_not_there(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/agent.sock"
    found = before(resolve({"node": "n1", "identity": {"workload_api": address}}))
    (finding,) = [each for each in found if each.subject == "SPIFFE agent"]
    assert "No such file" in finding.message
    assert not finding.is_well


def test_a_revocation_list_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.crl").write_text("nonsense")
    found = before(resolve({"node": "n1", "identity": {"crl": str(tmp_path)}}))
    (finding,) = [each for each in found if each.subject == "revocation list"]
    assert "a.crl" in finding.message


def test_an_api_server_that_is_not_there(tmp_path: Path) -> None:
    """Asked by the settings that an agent would use."""
    authority = Authority(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate.read_bytes())
    (tmp_path / "token").write_text("token")
    kubernetes = {
        "in_cluster": True,
        "server": "https://127.0.0.1:1",
        "credentials": str(tmp_path),
    }
    *_, finding = before(resolve({"node": "n1", "kubernetes": kubernetes}))
    assert "Connection refused" in finding.message
    assert not finding.is_well
