"""Other tools on our hooks: who is harmless, and who shuts us out."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.redirect.layout import AttachType
from agent.redirect.neighbours import (
    ALLOW_MULTI,
    ALLOW_OVERRIDE,
    Neighbours,
    findings,
)

ROOT = Path("/sys/fs/cgroup")
HOOK = AttachType.CGROUP_INET4_CONNECT


def at(flags: int, *programs: tuple[int, str]) -> list[Neighbours]:
    return [Neighbours(ROOT, HOOK, flags, programs)]


def test_nobody() -> None:
    """Our own programs are not told of."""
    (found,) = findings(at(ALLOW_MULTI, (7, "redirect4")), {7})
    assert found.is_well
    assert found.message == "none on our hooks"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cil_sock4_conne", "Cilium"),
        ("sock4_connect", "Cilium"),
        ("sd_bind4", "systemd"),
        ("other", "beside ours"),
        ("", "without a name"),
    ],
)
def test_one_that_shares(name: str, words: str) -> None:
    """Named, and no reason not to start."""
    (found,) = findings(at(ALLOW_MULTI, (7, "redirect4"), (9, name)), {7})
    assert found.is_well
    assert words in found.message
    assert "id 9" in found.message
    assert "redirect4" not in found.message
    assert "CGROUP_INET4_CONNECT" in found.subject


@pytest.mark.parametrize(
    ("flags", "words"), [(0, "alone"), (ALLOW_OVERRIDE, "overridden")]
)
def test_one_that_does_not(flags: int, words: str) -> None:
    """The kernel would refuse us or drop it: it says what to do."""
    (found,) = findings(at(flags, (9, "other")), ())
    assert not found.is_well
    assert words in found.message
    assert "BPF_F_ALLOW_MULTI" in found.advice
    assert str(ROOT) in found.advice
