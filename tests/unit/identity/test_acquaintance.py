"""An agent knows its identity service again after the anchors were replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.identity.acquaintance import Acquaintance, InvalidAnchors
from agent.identity.trust import Trust
from tests.unit.identity.parts import make_authority

OLD, NEW = make_authority().bundle, make_authority().bundle


def test_what_the_service_told_counts(tmp_path: Path) -> None:
    """Also after a restart, with the same old file in the configuration."""
    memory = tmp_path / "trust.json"
    known = Acquaintance(OLD.pem, memory)
    assert known.anchors_pem == OLD.pem
    assert known.learn(Trust(2, NEW))
    assert not known.learn(Trust(3, NEW))
    assert known.anchors_pem == NEW.pem
    assert Acquaintance(OLD.pem, memory).anchors_pem == NEW.pem


def test_what_a_person_replaces_counts_again(tmp_path: Path) -> None:
    """At once, and at the next start."""
    memory = tmp_path / "trust.json"
    known = Acquaintance(OLD.pem, memory)
    known.learn(Trust(2, NEW))
    other = make_authority().bundle
    assert known.configure(other.pem)
    assert not known.configure(other.pem)
    assert known.anchors_pem == other.pem
    assert Acquaintance(other.pem, memory).anchors_pem == other.pem


def test_a_tainted_anchor_vouches_for_nobody() -> None:
    """Its thief could be the service otherwise, and take every token."""
    known = Acquaintance(OLD.pem)
    both = replace(OLD, anchors=(*OLD.anchors, *NEW.anchors))
    known.learn(Trust(2, both, tainted=frozenset({OLD.anchors[0].fingerprint})))
    assert known.anchors_pem == NEW.pem


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"configured":"x"}'])
def test_an_unreadable_memory_is_none(tmp_path: Path, content: bytes) -> None:
    """What is configured stands."""
    memory = tmp_path / "trust.json"
    memory.write_bytes(content)
    assert Acquaintance(OLD.pem, memory).anchors_pem == OLD.pem


def test_what_is_no_anchor_changes_nothing() -> None:
    """A file that is just being written."""
    known = Acquaintance(OLD.pem)
    for content in (b"", OLD.pem[:100], b"\xff"):
        with pytest.raises(InvalidAnchors):
            known.configure(content)
    assert known.anchors_pem == OLD.pem
