"""A command line to type into, and a composition root that only takes notes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

import agent
from agent.cli import podlock

Type = Callable[..., Result]


@pytest.fixture
def type_(monkeypatch: pytest.MonkeyPatch) -> Type:
    """Runs `podlock` with these words, and none of this machine's settings."""
    monkeypatch.setattr("agent.config.sources.os.environ", {})

    def run(*words: object) -> Result:
        result = CliRunner().invoke(podlock, [str(word) for word in words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


class FakeApp(ModuleType):
    """`agent.app` as the commands know it; keeps what it was called with."""

    def __init__(self) -> None:
        super().__init__("agent.app")
        self.calls: list[tuple[str, Any]] = []
        self.error: BaseException | None = None
        self.findings: list[Any] = []

    def run(self, config: Any) -> None:
        self._note("run", config)

    def serve_identity(self, config: Any) -> None:
        self._note("serve_identity", config)

    def check_before(self, config: Any) -> list[Any]:
        self._note("check_before", config)
        return self.findings

    def remove_redirect(self, config: Any, *, force: bool) -> None:
        self._note("remove_redirect --force" if force else "remove_redirect", config)

    def _note(self, name: str, config: Any) -> None:
        self.calls.append((name, config))
        if self.error is not None:
            raise self.error


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FakeApp:
    """Stands where `agent.app` would."""
    fake = FakeApp()
    monkeypatch.setitem(sys.modules, "agent.app", fake)
    monkeypatch.setattr(agent, "app", fake, raising=False)
    return fake
