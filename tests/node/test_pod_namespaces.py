"""The namespaces of pods in the kernel's own cgroups and /proc."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.redirect.mounts import parse_mounts
from agent.redirect.pod_namespaces import PodNamespaces

MOUNTS = parse_mounts(Path("/proc/self/mounts").read_text())
# One hierarchy of each version that this machine has; some v1 ones refuse processes
# before they are set up (cpuset).
HIERARCHIES = [
    mount.point
    for mount in MOUNTS
    if mount.kind == "cgroup2"
    or (mount.kind == "cgroup" and mount.point.name == "pids")
]


@contextlib.contextmanager
def pod(hierarchy: Path, uid: str) -> Iterator[int]:
    """A process in a network namespace of its own, in the cgroup of a container."""
    top = hierarchy / f"podlock-test-{uid[:8]}"
    container = top / f"kubepods/burstable/pod{uid}/{'3f' * 32}"
    container.mkdir(parents=True)
    process = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    try:
        (container / "cgroup.procs").write_text(str(process.pid))
        _until_apart(process.pid)
        yield process.pid
    finally:
        process.kill()
        process.wait()
        for directory in (container, *container.parents):
            if not directory.is_relative_to(top):
                break
            _remove(directory)


def _until_apart(pid: int) -> None:
    own = os.readlink("/proc/self/ns/net")
    deadline = time.monotonic() + 30
    while os.readlink(f"/proc/{pid}/ns/net") == own:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _remove(directory: Path) -> None:
    """The kernel lets a cgroup go a moment after its last process ended."""
    deadline = time.monotonic() + 30
    while True:
        try:
            directory.rmdir()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


@pytest.mark.parametrize("hierarchy", HIERARCHIES, ids=lambda path: path.name)
def test_a_pods_namespace(hierarchy: Path) -> None:
    """Found by uid, held when its process is gone, and not this machine's own."""
    uid = str(uuid.uuid4())
    found = PodNamespaces.of_this_machine()
    try:
        assert found.netns_of(uid) is None
        with pod(hierarchy, uid) as pid:
            time.sleep(0.03)  # a look at all pods serves for 20 ms
            found._roots_at = float("-inf")  # roots are looked for each 5 s
            path = found.netns_of(uid)
            assert path is not None
            inode = Path(f"/proc/{pid}/ns/net").stat().st_ino
            assert Path(path).stat().st_ino == inode
        assert found.netns_of(uid) == path
        assert Path(path).stat().st_ino == inode
    finally:
        found.close()


def test_the_addresses_that_it_has_there() -> None:
    """Those that others can reach; asked again until there is one, then they stay."""
    uid = str(uuid.uuid4())
    found = PodNamespaces.of_this_machine()
    try:
        with pod(HIERARCHIES[0], uid) as pid:
            time.sleep(0.03)
            found._roots_at = float("-inf")
            assert found.netns_of(uid) is not None
            assert found.addresses_of(uid) == ()
            for address in ("10.7.0.2/32", "fd07::2/128"):
                add = ["ip", "address", "add", address, "dev", "lo"]
                subprocess.run(["nsenter", "-t", str(pid), "-n", *add], check=True)
            expected = {ip_address("10.7.0.2"), ip_address("fd07::2")}
            assert set(found.addresses_of(uid)) == expected
        assert set(found.addresses_of(uid)) == expected
    finally:
        found.close()
    assert found.addresses_of(uid) == ()
