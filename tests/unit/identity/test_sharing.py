"""Of two states of one authority, the later holds, and the shared one at a draw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.identity.bundle import Bundle
from agent.identity.sharing import Step, next_step
from agent.identity.state import AuthorityState, Root
from tests.unit.identity.parts import NOW, TD, anchor_at


def state(version: int, serial: int = 0xA) -> AuthorityState:
    anchor = anchor_at(NOW, serial=serial)
    (known,) = Bundle.parse(TD, anchor.certificate_pem).anchors
    return AuthorityState(TD, version, (Root(known, 1),))


OURS = state(3)


@pytest.mark.parametrize(
    ("shared", "step"),
    [
        (None, Step.PUBLISH),
        (replace(OURS, version=2), Step.PUBLISH),
        (OURS, Step.NOTHING),
        (state(3, serial=0xB), Step.TAKE),
        (replace(OURS, version=4), Step.TAKE),
    ],
)
def test_steps(shared: AuthorityState | None, step: Step) -> None:
    """By version, and at one version the one that was there first."""
    assert next_step(OURS, shared) is step
