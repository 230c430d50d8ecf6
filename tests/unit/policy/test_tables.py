"""Connections against policies, as the public documents of both families have it."""

from __future__ import annotations

import pytest

from tests.unit.policy.tables import both, istio, linkerd
from tests.unit.policy.tables.block import Block, compiled, rows

BLOCKS = [*istio.BLOCKS, *linkerd.BLOCKS, *both.BLOCKS]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_verdict_and_object_that_decided(block: Block) -> None:
    """Every row of a block, with the objects read as the agent reads manifests."""
    policies = compiled(block.objects, block.default)
    expected = rows(block)

    found = [policies.judge(row.client, row.target, row.port) for row in expected]

    assert found == expected, block.source


def test_the_tables_are_large_and_told_apart() -> None:
    """At least 300 rows, each block with its source and a name of its own."""
    assert sum(len(rows(block)) for block in BLOCKS) >= 300
    assert len({block.name for block in BLOCKS}) == len(BLOCKS)
    assert all(block.source for block in BLOCKS)
