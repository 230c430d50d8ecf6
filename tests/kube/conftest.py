"""One control plane for all of these tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane, running
from tests.kube.world import World

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kube-assets",
        metavar="DIR",
        help="where etcd and kube-apiserver are; `./run test-kube` says so",
    )


@pytest.fixture(scope="session")
def plane(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """A real API server; without one these tests fail, and are not skipped."""
    given = request.config.getoption("--kube-assets")
    assert given, "expected --kube-assets DIR: run these by ./run test-kube"
    with running(Path(given)) as started:
        yield started


@pytest.fixture
def world(plane: ControlPlane) -> World:
    """A namespace and node names that no other test has."""
    return World(plane, next(_numbers))
