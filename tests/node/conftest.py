"""One world for all node tests: the demo's two nodes, under a run name of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.demo import stage
from tests.demo.stage import Stage
from tests.lab.topology import random_run


@pytest.fixture(scope="session")
def world() -> Iterator[Stage]:
    """Real namespaces, cgroups, programs and agents; gone afterwards, come what may."""
    with stage.built(random_run()) as built:
        yield built
