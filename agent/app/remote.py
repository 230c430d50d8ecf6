"""`podlock ca show --service`: the state of an authority that runs elsewhere."""

from __future__ import annotations

from pathlib import Path

import trio

from agent.identity.acquaintance import read_anchors
from agent.identity.client import IdentityClient
from agent.identity.overview import StateView


def ask_state(url: str, anchors: Path, token: Path) -> StateView:
    """Raises: IdentityUnavailable, IdentityRefused, InputError."""
    return trio.run(_ask, url, read_anchors(anchors), token)


async def _ask(url: str, anchors_pem: bytes, token: Path) -> StateView:
    async with IdentityClient(url, anchors_pem, token) as client:
        return await client.state()
