"""One control plane for all of these tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane, running
from tests.kube.world import World

HERE = Path(__file__).parent

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kube-assets",
        metavar="DIR",
        help="where etcd and kube-apiserver are; `./run test-kube` says so",
    )


# httpcore 1.0 leaves the socket of a TLS handshake that is cancelled to the garbage
# collector. A test may end while a watch is being opened; another one pays for it.
LEFT_BEHIND = (
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
    "ignore:unclosed <s:ResourceWarning",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For the tests beside this file: other conftests have theirs."""
    for item in items:
        if item.path.is_relative_to(HERE):
            for warning in LEFT_BEHIND:
                item.add_marker(pytest.mark.filterwarnings(warning))


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
