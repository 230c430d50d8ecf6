"""Who looks at certificates sees what they stand on, and what is wrong."""

from __future__ import annotations

import io
from typing import Any, cast

from rich.console import Console

from agent.status.certificates import certificates as rendered

from .samples import ANCHOR, ISSUER, NOW, certificates


def shown(document: Any) -> str:
    """The text of a document, as a wide terminal without colours has it."""
    console = Console(file=io.StringIO(), width=300)
    console.print(rendered(document, NOW))
    return cast("io.StringIO", console.file).getvalue()


def test_certificates() -> None:
    """Expiry in words, a failed renewal with its age, and on what it stands."""
    text = shown(certificates())
    line = next(line for line in text.splitlines() if "sa/web" in line)

    assert "in 2h" in line
    assert "10m ago" in line
    assert ISSUER[:12] in line
    assert ANCHOR[:12] in line
    assert "connection refused (since 1m ago)" in line


def test_trust() -> None:
    """Which anchors count, how far the news has got, and what is condemned."""
    lines = shown(certificates()).splitlines()
    told = [" ".join(line.split()) for line in lines]

    assert f"{ANCHOR} retiring CN=old in 2d" in told
    assert "CN=issuer 3 1h ago outdated" in told
    assert "trust version 7" in told
    assert "in force worker 0: 7, worker 1: -" in told
    assert "authority knows of 6" in told
    assert "not told identity service: down" in told
    assert f"tainted {'c3' * 32}" in told


def test_no_certificates() -> None:
    """A new agent has none, and knows no anchor."""
    lists = ("certificates", "bundle", "revocation_lists")
    nothing = dict.fromkeys(lists, ())
    text = shown(certificates() | nothing)
    assert "no certificates" in text
    assert "no anchors" in text
    assert "revocation" not in text
