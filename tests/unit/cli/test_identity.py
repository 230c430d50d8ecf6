"""An authority can be asked for tokens from the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.store import Store
from agent.identity.token import (
    AdminCaller,
    Caller,
    NodeCaller,
    WorkloadCaller,
    verify_token,
)

from .conftest import FakeApp, Type

TD = TrustDomain("cluster.local")


@pytest.fixture
def authority(type_: Type, tmp_path: Path) -> Path:
    """A directory with an authority of cluster.local."""
    directory = tmp_path / "ca"
    result = type_("ca", "init", "--directory", directory)
    assert result.exit_code == 0
    assert "a new authority of cluster.local" in result.stdout
    return directory


def bearer(directory: Path, text: str) -> Caller:
    """Whom the identity service takes the bearer of this token for."""
    key = Store(directory).token_key()
    return verify_token(key, TD, text.strip(), now=datetime.now(UTC))


class TestRefused:
    def test_no_authority(self, type_: Type, tmp_path: Path) -> None:
        """An empty directory is named."""
        for words in (("ca", "show"), ("identity", "token", "create", "--node", "n")):
            result = type_(*words, "--directory", tmp_path)
            assert result.exit_code == 1
            assert str(tmp_path) in result.stderr

    @pytest.mark.parametrize("ttl", ["0h", "24", "h", "-1h", "1w", "1.5h", "٣h"])
    def test_a_lifetime(self, type_: Type, authority: Path, ttl: str) -> None:
        """A lifetime that is none is wrong usage."""
        words = ("--directory", authority, "--node", "n1", f"--ttl={ttl}")

        result = type_("identity", "token", "create", *words)

        assert result.exit_code == 2
        assert "expected 90s, 15m, 24h or 30d" in result.stderr

    def test_another_trust_domain(self, type_: Type, authority: Path) -> None:
        """A token that the service would refuse is not made."""
        words = ("--directory", authority, "--node", "n1", "--trust-domain", "other")

        result = type_("identity", "token", "create", *words)

        assert result.exit_code == 1
        assert "trust domain" in result.stderr
        assert result.stdout == ""

    def test_two_callers(self, type_: Type) -> None:
        """A token is for a node or for a workload."""
        words = ("--node", "n1", "--workload", "spiffe://cluster.local/vm/db")

        assert type_("identity", "token", "create", *words).exit_code == 2


class TestToken:
    def test_of_a_node(self, type_: Type, authority: Path) -> None:
        """Standard output is the token and nothing else."""
        words = ("--directory", authority, "--node", "n1", "--ttl", "1h")

        caller = bearer(authority, type_("identity", "token", "create", *words).stdout)

        assert isinstance(caller, NodeCaller)
        assert caller.node == "n1"

    def test_of_a_workload(self, type_: Type, authority: Path) -> None:
        """A machine that is one workload has a token for that identity."""
        name = "spiffe://cluster.local/vm/db"
        words = ("--directory", authority, "--workload", name)

        caller = bearer(authority, type_("identity", "token", "create", *words).stdout)

        assert isinstance(caller, WorkloadCaller)
        assert caller.identity == SpiffeId.parse(name)

    def test_of_an_admin(self, type_: Type, authority: Path) -> None:
        """For the authority's state and no certificate."""
        words = ("--directory", authority, "--admin")
        text = type_("identity", "token", "create", *words).stdout
        assert isinstance(bearer(authority, text), AdminCaller)

    def test_for_a_single_use(self, type_: Type, authority: Path) -> None:
        """The service will take it once, and must remember it until it expires."""
        words = ("--directory", authority, "--node", "n1", "--single-use")
        caller = bearer(authority, type_("identity", "token", "create", *words).stdout)
        assert caller.single_use_until is not None

    def test_no_two_are_the_same(self, type_: Type, authority: Path) -> None:
        """Each token can be told from every other in the audit log."""
        words = ("--directory", authority, "--node", "n1")
        made = [type_("identity", "token", "create", *words).stdout for _ in "12"]

        assert made[0] != made[1]


def test_serve(type_: Type, app: FakeApp) -> None:
    """The identity service runs on the configuration's authority."""
    type_("identity", "serve", "--set", "authority.directory=/ca")

    ((name, config),) = app.calls
    assert (name, config.authority.directory) == ("serve_identity", Path("/ca"))
