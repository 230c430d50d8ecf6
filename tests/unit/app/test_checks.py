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
