"""Commands that run things hand the right configuration to the right part."""

from __future__ import annotations

from pathlib import Path

from agent.identity.spiffe import TrustDomain

from .conftest import FakeApp, Type


def test_run(type_: Type, app: FakeApp, tmp_path: Path) -> None:
    """Flags win over the file, and the agent gets the outcome."""
    file = tmp_path / "podlock.yaml"
    file.write_text("node: from-file\nworkers: 3\n")
    words = ("--node", "n1", "--trust-domain", "td", "--manifests", "/m")

    assert type_("run", "--config", file, *words).exit_code == 0

    ((name, config),) = app.calls
    assert (name, config.node, config.workers) == ("run", "n1", 3)
    assert config.trust_domain == TrustDomain("td")
    assert config.manifests == Path("/m")


def test_a_wrong_configuration_starts_nothing(type_: Type, app: FakeApp) -> None:
    """The agent is not run on half of what was asked for."""
    assert type_("run", "--node", "not a name").exit_code == 2

    assert app.calls == []


def test_redirect_remove(type_: Type, app: FakeApp) -> None:
    """Taking the redirect away says what that means."""
    result = type_("redirect", "remove", "--set", "redirect.pins=/sys/fs/bpf/x")

    assert [name for name, _ in app.calls] == ["remove_redirect"]
    assert "/sys/fs/bpf/x: pods now talk past Podlock" in result.stdout


def test_version(type_: Type) -> None:
    """A name and a number."""
    assert type_("version").stdout.startswith("podlock 0.")
