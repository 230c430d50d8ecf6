"""An agent knows its identity service again after the anchors were replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.identity.acquaintance import Acquaintance, InvalidAnchors
from agent.identity.trust import Trust
from tests.unit.identity.parts import make_authority

OLD, NEW = make_authority().bundle, make_authority().bundle


def test_what_the_service_told_counts(tmp_path: Path) -> None:
    """Also after a restart, with the same old file in the configuration."""
    memory = tmp_path / "state" / "trust.json"
    known = Acquaintance(OLD.pem, memory)
    assert known.trust is None
    known.learn(Trust(2, NEW))
    assert Acquaintance(OLD.pem, memory).trust == known.trust == Trust(2, NEW)


def test_what_a_person_replaces_counts_again(tmp_path: Path) -> None:
    """At once, and at the next start."""
    memory = tmp_path / "trust.json"
    known = Acquaintance(OLD.pem, memory)
    known.learn(Trust(2, NEW))
    other = make_authority().bundle
    assert known.configure(other.pem)
    assert not known.configure(other.pem)
    assert (known.configured_pem, known.trust) == (other.pem, None)
    assert Acquaintance(other.pem, memory).trust is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"configured":"x"}'])
def test_a_damaged_memory_is_reported(tmp_path: Path, content: bytes) -> None:
    """What is configured stands, what was tainted is not known; the file is kept."""
    memory = tmp_path / "trust.json"
    memory.write_bytes(content)
    known = Acquaintance(OLD.pem, memory)
    assert known.trust is None
    assert "are tainted is not known" in (known.damage or "")
    assert (tmp_path / "trust.json.damaged").read_bytes() == content
    known.learn(Trust(2, NEW))
    assert known.damage is None
    assert Acquaintance(OLD.pem, memory).trust == Trust(2, NEW)


def test_no_memory_is_no_damage(tmp_path: Path) -> None:
    assert Acquaintance(OLD.pem, tmp_path / "trust.json").damage is None


def test_what_is_no_anchor_changes_nothing() -> None:
    """A file that is just being written."""
    known = Acquaintance(OLD.pem)
    for content in (b"", OLD.pem[:100], b"\xff"):
        with pytest.raises(InvalidAnchors):
            known.configure(content)
    assert known.configured_pem == OLD.pem
