"""deploy/make-issuer.sh: the identity service takes what it makes; nothing is lost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent.identity.bundle import Bundle
from agent.identity.issuer_files import read_issuer_files
from agent.identity.issuer_path import check_issuer
from agent.identity.spiffe import TrustDomain

SCRIPT = Path(__file__).parents[3] / "deploy/make-issuer.sh"
MADE = {"anchor.key", "ca.crt", "tls.crt", "tls.key"}


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, folder], capture_output=True, text=True, check=False)


def test_the_identity_service_takes_it(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    assert make(folder).returncode == 0
    assert {each.name for each in folder.iterdir()} == MADE
    found = read_issuer_files(folder)
    assert found.anchors_pem is not None
    bundle = Bundle.parse(TrustDomain("cluster.local"), found.anchors_pem)
    check_issuer(bundle, [found.der])
    modes = {each.name: each.stat().st_mode & 0o077 for each in folder.iterdir()}
    assert modes["anchor.key"] == modes["tls.key"] == 0


@pytest.mark.parametrize("name", sorted(MADE))
def test_what_is_there_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    done = make(tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/{name} exists already" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"
