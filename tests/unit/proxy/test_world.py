"""Who is where: nothing is taken for the outside before control has told."""

from __future__ import annotations

import pytest

from agent.addresses import parse_ip
from agent.proxy.world import NotYet, World
from agent.workload.directory import Directory, Peer
from tests.unit.identity.parts import API, BATCH

ADDRESS = parse_ip("10.0.0.2")
PEER = Peer("u-1", "shop/api-7d9f", API, (ADDRESS,), meshed=True, node="n2")


def test_before_the_first_word() -> None:
    """A connection that comes too early is refused, not let through."""
    with pytest.raises(NotYet):
        World().known()


def test_a_peer_is_called_by_its_pod() -> None:
    """When the directory knows it at this address under this identity."""
    world = World(Directory({ADDRESS: PEER}))
    assert world.name_of(API, ADDRESS) == "shop/api-7d9f"


def test_another_identity_is_called_by_its_account() -> None:
    """An address does not lend its pod's name to whoever comes from there."""
    world = World(Directory({ADDRESS: PEER}))
    assert world.name_of(BATCH, ADDRESS) == "shop/batch"
