"""
Fixtures for the programs: loaded once a session, pods made for each test.

These tests need root and a kernel; without they fail, they never skip.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent.redirect.enrolment import Capture, Enrolment
from agent.redirect.kernel import RedirectMaps
from agent.redirect.program import ensure_loaded, unload
from agent.tcp import LINGER_NONE
from tests.bpf.world import (
    BPFFS,
    PATIENCE_SECONDS,
    RUN,
    SOURCE,
    Application,
    Namespace,
    Talk,
    application,
    namespace,
    scratch_cgroup,
    unique,
)
from tests.lab.reaper import Reaper

MakePod = Callable[[], Namespace]
StartApplication = Callable[[Namespace, Callable[[Talk], None]], Application]


@contextlib.contextmanager
def reaping() -> Iterator[None]:
    """What this process makes is removed, however it ends."""
    reaper = Reaper(RUN, "tests.bpf.reaper")
    try:
        yield
    finally:
        reaper.dismiss()


@pytest.fixture(scope="session", autouse=True)
def reaped() -> Iterator[None]:
    """All tests here."""
    with reaping():
        yield


@pytest.fixture(scope="session")
def cgroup() -> Iterator[Path]:
    """One cgroup for all applications of this run."""
    with scratch_cgroup() as path:
        yield path


@pytest.fixture(scope="session")
def pins(cgroup: Path) -> Iterator[Path]:
    """The programs, loaded by the loader process and attached to `cgroup`."""
    path = BPFFS / unique("test")
    try:
        ensure_loaded(source=SOURCE, pins=path, cgroup=cgroup)
        yield path
    finally:
        unload(path)


@pytest.fixture
def own_pins() -> Iterator[Path]:
    """A place for a set of the test's own."""
    path = BPFFS / unique("test")
    try:
        yield path
    finally:
        unload(path)


@pytest.fixture
def maps(pins: Path) -> Iterator[RedirectMaps]:
    opened = RedirectMaps.open(pins)
    yield opened
    opened.close()


@pytest.fixture
def outside() -> Iterator[Namespace]:
    """The rest of the world: a namespace that every pod has a wire to."""
    with namespace() as made:
        yield made


@pytest.fixture
def make_pod(outside: Namespace) -> Iterator[MakePod]:
    with ExitStack() as pods:
        numbers = iter(range(1, 100))
        yield lambda: pods.enter_context(namespace(next(numbers), outside))


@pytest.fixture
def pod(make_pod: MakePod) -> Namespace:
    return make_pod()


@pytest.fixture
def enrolment(pins: Path, maps: RedirectMaps) -> Enrolment:
    return Enrolment(pins, maps)


@pytest.fixture
def captured(enrolment: Enrolment, pod: Namespace) -> Iterator[Capture]:
    """`pod`, enrolled; its listeners wait as long as an application does."""
    capture = enrolment.capture(pod.name, pod.path, pod.addresses)
    yield blocking(capture)
    enrolment.release(capture)


def blocking(capture: Capture) -> Capture:
    """
    Its listeners block, with a deadline, as the test's own sockets do; and what a test
    accepts and closes ends in order, for its client may not have looked yet.
    """
    for listener in (*capture.outbound, capture.inbound, capture.tunnel):
        listener.settimeout(PATIENCE_SECONDS)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    return capture


@pytest.fixture
def start(cgroup: Path) -> Iterator[StartApplication]:
    """Start an application in a pod; it ends with the test."""
    with ExitStack() as children:
        yield lambda where, main: children.enter_context(
            application(cgroup, where, main)
        )
