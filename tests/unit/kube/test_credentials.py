"""Files with certificates and keys are taken or named."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.kube.access import Access, InvalidAccess
from agent.kube.client import Client
from tests.cluster.credentials import Authority


class TestFiles:
    def test_each_is_named(self, tmp_path: Path) -> None:
        """Missing, not PEM, a key of another certificate."""
        missing = tmp_path / "none"
        with pytest.raises(InvalidAccess, match=f"ca {missing}: No such file"):
            Client(Access("https://api", ca=missing))
        with pytest.raises(InvalidAccess, match="ca: no certificates"):
            Client(Access("https://api", ca=b"PEM"))
        authority = Authority(tmp_path)
        one, two = authority.issue("one"), authority.issue("two")
        with pytest.raises(InvalidAccess, match="client certificate and key"):
            Client(Access("https://api", certificate=one.certificate, key=two.key))
