"""Whoever watches an authority hears of each change."""

from __future__ import annotations

from contextlib import aclosing

from agent.identity.trust import Trust
from tests.unit.identity.parts import at_work, make_authority

AUTHORITY = make_authority()


async def test_watchers_hear_the_newest() -> None:
    """First what is in force; what changed twice between is told once."""
    issuance = at_work(AUTHORITY)
    async with aclosing(issuance.watch()) as changes:
        assert (await anext(changes)).version == 1
        for version in (2, 3):
            issuance.replace(AUTHORITY, Trust(version, AUTHORITY.bundle))
        assert (await anext(changes)).version == 3
