"""`podlock check --pre` tells what to do, and its exit code whether anything is."""

from __future__ import annotations

import pytest

from agent.kube.preflight import Finding

from .conftest import FakeApp, Type


@pytest.mark.parametrize(("advice", "code"), [("", 0), ("set the clock", 1)])
def test_findings(type_: Type, app: FakeApp, advice: str, code: int) -> None:
    """One line each, with the advice below it."""
    app.findings = [Finding("clock", "3 s", advice)]
    result = type_("check", "--pre")
    assert result.exit_code == code
    assert "clock: 3 s" in result.stdout
    assert advice in result.stdout


def test_of_a_running_agent_there_is_none_yet(type_: Type) -> None:
    """Wrong usage, and not an answer that means nothing."""
    assert type_("check").exit_code == 2
