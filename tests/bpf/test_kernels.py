"""
Kernels and machines that are not as we like them: what falls back, what is refused.

Each is made here on whatever kernel this is: a feature is reported missing, a mount is
hidden in a mount namespace of the test's own, a right is dropped, another tool's
program is attached. What the kernels of Debian have is for `./run kernels` to tell.
"""

from __future__ import annotations

import ctypes as ct
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.addresses import ClientAddress, SocketAddress
from agent.errors import KernelError
from agent.findings import Finding
from agent.redirect import assembly as asm
from agent.redirect import features, libbpf, pins, preflight, tried
from agent.redirect.enrolment import Capture, Enrolment
from agent.redirect.features import Level, Outcome
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import AttachType, ProgramType
from agent.redirect.neighbours import ALLOW_MULTI, ALLOW_OVERRIDE
from agent.redirect.netns import inside
from agent.redirect.program import ensure_loaded, unload
from tests.bpf.conftest import StartApplication, blocking
from tests.bpf.test_inbound import serve
from tests.bpf.test_outbound import client_of
from tests.bpf.world import ANY, BPFFS, SOURCE, Namespace, family_of, unique
from tests.patience import patient

ROOT = Path(__file__).resolve().parents[2]
BACKEND = ("203.0.113.9", 80)
SERVICE = ("198.51.100.1", 80)
CONNECT4 = AttachType.CGROUP_INET4_CONNECT


def lacking(*missing: features.Feature) -> Any:
    """`tried.examine` on a kernel without these."""

    def examine(cgroup: Path) -> Sequence[Outcome]:
        found = {each.feature: each.reason or None for each in tried.examine(cgroup)}
        return features.judge(found | dict.fromkeys(missing, "Invalid argument"))

    return examine


class TestThisKernel:
    def test_trying_leaves_nothing(self, cgroup: Path) -> None:
        """Nothing is attached afterwards, and no descriptor is open."""
        tried.examine(cgroup)  # opens what stays open: our own network namespace
        before = len(os.listdir("/proc/self/fd"))

        outcomes = tried.examine(cgroup)

        assert features.refusal(outcomes) is None, "tests/bpf need a kernel that can"
        mine = [each for each in preflight.attached(cgroup) if each.cgroup == cgroup]
        assert not [name for at in mine for _, name in at.programs if "try" in name]
        assert len(os.listdir("/proc/self/fd")) == before

    @pytest.mark.parametrize(
        "missing", [f for f in features.ALL if not f.without], ids=lambda f: f.name
    )
    def test_without_what_is_needed_nothing_is_attached(
        self, own_pins: Path, cgroup: Path, missing: features.Feature
    ) -> None:
        """Refused before anything is compiled, by name and with the reason."""
        before = list(preflight.attached(cgroup))

        with pytest.raises(KernelError, match=f"{missing.name}: .*Invalid argument"):
            ensure_loaded(
                source=SOURCE, pins=own_pins, cgroup=cgroup, examine=lacking(missing)
            )

        assert not list(BPFFS.glob(f"{own_pins.name}*"))
        assert list(preflight.attached(cgroup)) == before


@pytest.fixture(scope="module")
def pins_by_address(cgroup: Path) -> Iterator[Path]:
    """The programs as they are on a kernel without ingress_ifindex in sk_lookup."""
    path = BPFFS / unique("test")
    examine = lacking(features.INTERFACE)
    try:
        report = ensure_loaded(source=SOURCE, pins=path, cgroup=cgroup, examine=examine)
        level = {each.feature: each.level for each in report.features}
        assert level[features.INTERFACE] is Level.FALLBACK
        yield path
    finally:
        unload(path)


@pytest.fixture
def captured_by_address(pins_by_address: Path, pod: Namespace) -> Iterator[Capture]:
    maps = RedirectMaps.open(pins_by_address)
    enrolment = Enrolment(pins_by_address, maps)
    capture = enrolment.capture(pod.name, pod.path, pod.addresses)
    yield blocking(capture)
    enrolment.release(capture)
    maps.close()


class TestWithoutTheInterface:
    """What the interface tells must follow from addresses."""

    @pytest.fixture(params=[4, 6], ids=["IPv4", "IPv6"])
    def address(self, request: pytest.FixtureRequest, pod: Namespace) -> str:
        return pod.ip4 if request.param == 4 else pod.ip6

    def test_from_outside_it_is_the_agents(
        self, captured_by_address: Capture, outside: Namespace, address: str
    ) -> None:
        with outside.connect(address, 8080):
            captured_by_address.inbound.accept()[0].close()

    @pytest.mark.usefixtures("captured_by_address")
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", None])
    def test_within_the_pod_it_is_left_alone(
        self, pod: Namespace, address: str, host: str | None, start: StartApplication
    ) -> None:
        """By loopback and by its own address."""
        start(pod, serve(ANY, 8080)).hear()

        with pod.connect(host or address, 8080) as client:
            client.sendall(b"ping")
            assert client.recv(4) == b"ping"

    @pytest.mark.usefixtures("captured_by_address")
    def test_from_its_own_address_to_loopback_is_refused(
        self, pod: Namespace, start: StartApplication
    ) -> None:
        """What the fallback costs: closed, not open."""
        start(pod, serve(ANY, 8080)).hear()

        with bound(pod, pod.ip4) as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", 8080))

    @pytest.mark.usefixtures("captured_by_address")
    @pytest.mark.parametrize("source", ["10.9.1.1", "127.0.0.1"])
    def test_loopback_from_outside_reaches_nobody(
        self, pod: Namespace, outside: Namespace, source: str, start: StartApplication
    ) -> None:
        """Not even of a pod that lets 127.0.0.0/8 in (route_localnet)."""
        start(pod, serve("127.0.0.1", 8080)).hear()
        for where, device in ((pod, "eth0"), (outside, "veth1")):
            where.write(f"/proc/sys/net/ipv4/conf/{device}/route_localnet", "1")
        route = ("route", "add", "127.0.0.1/32", "via", "10.9.1.2", "dev", "veth1")
        ip(outside, "rule", "add", "pref", "0", "lookup", "200")
        ip(outside, *route, "table", "200")

        with bound(outside, source) as client:
            client.settimeout(patient(1.0))
            with pytest.raises((ConnectionRefusedError, TimeoutError)):
                client.connect(("127.0.0.1", 8080))


def ip(where: Namespace, *words: str) -> None:
    subprocess.run(["ip", "-n", where.name, *words], check=True)


@contextmanager
def bound(where: Namespace, source: str) -> Iterator[socket.socket]:
    with inside(where.fd):
        client = socket.socket(family_of(source))
    with client:
        client.settimeout(patient(5.0))
        client.bind((source, 0))
        yield client


# Machines.

PREFLIGHT = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from agent.redirect.preflight import findings
from agent.redirect.program import ensure_loaded, unload
found = [asdict(each) for each in findings(Path(sys.argv[1]), None)]
try:
    loaded = ensure_loaded(source=Path("bpf"), pins=Path(sys.argv[1])).outcome
    unload(Path(sys.argv[1]))
except Exception as error:
    loaded = str(error)
print(json.dumps([found, loaded]))
"""


def on_a_machine(change: str, *wrapper: str) -> tuple[dict[str, Finding], str]:
    """
    What preflight finds after some shell lines in a mount namespace of its own, by
    subject, and what becomes of a load there: attached for a moment to the real root,
    with nobody enrolled.
    """
    path = BPFFS / unique("test")
    shell = f'set -e; {change}\nexec "$@"'
    command = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        shell,
        "sh",
    ]
    command += [*wrapper, sys.executable, "-c", PREFLIGHT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found, loaded = json.loads(done.stdout)
    assert not list(BPFFS.glob(f"{path.name}*"))
    return {each["subject"]: Finding(**each) for each in found}, loaded


UNMOUNT_CGROUPS = """
awk '$3 ~ /^cgroup/ { print $2 }' /proc/self/mounts | sort -r | xargs -n1 umount -l
"""
V1_ONLY = f"""{UNMOUNT_CGROUPS}
mount -t tmpfs none /sys/fs/cgroup
mkdir /sys/fs/cgroup/named
mount -t cgroup -o none,name=podlocktest none /sys/fs/cgroup/named
"""


class TestMachines:
    def test_this_one(self) -> None:
        found, loaded = on_a_machine(":")
        assert loaded == "loaded"
        assert [each for each in found.values() if not each.is_well] == []

    def test_without_bpffs(self) -> None:
        """It is mounted where every tool looks."""
        found, loaded = on_a_machine("umount -l /sys/fs/bpf")
        assert "the agent mounts it" in found["bpffs"].message
        assert loaded == "loaded"

    def test_without_cgroups(self) -> None:
        found, loaded = on_a_machine(UNMOUNT_CGROUPS)
        assert "none: no version 2" in found["cgroups"].message
        assert "mount -t cgroup2" in found["cgroups"].advice
        assert "cgroup v2 is not mounted" in loaded

    def test_with_version_1_alone(self) -> None:
        found, loaded = on_a_machine(V1_ONLY)
        assert "v1 only: no version 2" in found["cgroups"].message
        assert "cgroup v2 is not mounted" in loaded

    def test_pure_version_2(self) -> None:
        """At /sys/fs/cgroup, as distributions have it today."""
        found, loaded = on_a_machine(
            f"{UNMOUNT_CGROUPS}\nmount -t cgroup2 none /sys/fs/cgroup"
        )
        assert "pure v2, version 2 at /sys/fs/cgroup" in found["cgroups"].message
        assert loaded == "loaded"

    def test_hybrid(self) -> None:
        """Version 2 beside 1: it is found where it is."""
        found, loaded = on_a_machine(
            f"{V1_ONLY}\nmkdir /sys/fs/cgroup/two"
            "\nmount -t cgroup2 none /sys/fs/cgroup/two"
        )
        assert "hybrid, version 2 at /sys/fs/cgroup/two" in found["cgroups"].message
        assert loaded == "loaded"

    def test_in_a_cgroup_namespace(self, cgroup: Path) -> None:
        """A container that sees its own part for the root would redirect nobody."""
        change = f"""echo $$ > {cgroup}/cgroup.procs
        {UNMOUNT_CGROUPS}"""
        mount = 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
        wrapper = ("unshare", "--cgroup", "--mount", "sh", "-c", mount, "sh")
        found, _ = on_a_machine(change, *wrapper)
        assert "not the machine's root" in found["cgroups"].message
        assert not found["cgroups"].is_well

    def test_without_kernel_types(self) -> None:
        """Whoever looks for /sys/kernel/btf/vmlinux finds none."""
        found, loaded = on_a_machine("mount -t tmpfs none /sys/kernel/btf")
        assert "not needed" in found["kernel types"].message
        assert loaded == "loaded"

    def test_without_the_right_to_bpf(self) -> None:
        """It is told by name; nothing is loaded, nor tried twelve times."""
        bounds = "--bounding-set=-sys_admin,-bpf,-perfmon"
        found, loaded = on_a_machine(":", "setpriv", bounds)
        assert "CAP_SYS_ADMIN missing" in found["rights"].message
        assert "run as root" in found["rights"].advice
        assert [name for name in found if name.startswith("kernel:")] == ["kernel: bpf"]
        assert loaded.startswith("this kernel cannot carry the redirect: bpf: ")
        assert "Operation not permitted" in loaded

    def test_without_the_right_to_administer_the_network(self) -> None:
        """
        Where that is all that is missing, pods of one node talk by tunnel; where the
        kernel wants it for a sockhash, too (6.1 does, 6.18 does not), it is refused.
        """
        found, loaded = on_a_machine(":", "setpriv", "--bounding-set=-net_admin")
        assert "CAP_NET_ADMIN missing" in found["rights"].message
        assert "fallback" in found["kernel: socket destroy"].message
        if found["kernel: sk_lookup"].is_well:
            assert loaded == "loaded"
        else:
            assert "sk_lookup: " in loaded
            assert "Operation not permitted" in loaded


# Other tools.


@contextmanager
def other_program(
    cgroup: Path, flags: int, name: str = "other", instructions: bytes = b""
) -> Iterator[None]:
    """Another tool's connect4 program, attached by BPF_PROG_ATTACH with `flags`."""
    attach = libbpf.library().bpf_prog_attach
    attach.argtypes = (ct.c_int, ct.c_int, ct.c_int, ct.c_uint32)
    detach = libbpf.library().bpf_prog_detach2
    fd = pins.load(
        name, ProgramType.CGROUP_SOCK_ADDR, CONNECT4, instructions or asm.leave(1)
    )
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    with ExitStack() as stack:
        stack.callback(os.close, target)
        stack.callback(os.close, fd)
        assert attach(fd, target, CONNECT4, flags) == 0, os.strerror(ct.get_errno())
        stack.callback(detach, fd, target, CONNECT4)
        yield


def to_backend() -> bytes:
    """As Cilium's: if (ctx->user_ip4 == SERVICE) ctx->user_ip4 = BACKEND;"""
    service, backend = (
        int.from_bytes(socket.inet_aton(host), sys.byteorder)
        for host, _ in (SERVICE, BACKEND)
    )
    return b"".join(
        (
            asm.read32(2, 1, 4),
            asm.wide(3, service),
            bytes((0x5D, 0x32, 3, 0, 0, 0, 0, 0)),  # if r2 != r3 goto "return 1"
            asm.wide(2, backend),
            bytes((0x63, 0x21, 4, 0, 0, 0, 0, 0)),  # *(u32 *)(r1 + 4) = r2
            asm.leave(1),
        )
    )


class TestOtherTools:
    @pytest.mark.parametrize("first", ["ours", "theirs"])
    def test_one_that_replaces_addresses(
        self,
        own_pins: Path,
        cgroup: Path,
        pod: Namespace,
        start: StartApplication,
        first: str,
    ) -> None:
        """
        Redirected in either order: behind it we learn the pod that it picked, before it
        the Service, and it leaves what we turned to the agent alone.
        """
        with ExitStack() as stack:
            theirs = other_program(cgroup, ALLOW_MULTI, "cil_sock4_conne", to_backend())
            if first == "theirs":
                stack.enter_context(theirs)
            ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)
            if first == "ours":
                stack.enter_context(theirs)
            found = preflight.findings(own_pins, cgroup)
            told = [f for f in found if f.subject.startswith("other programs")]
            maps = RedirectMaps.open(own_pins)
            enrolment = Enrolment(own_pins, maps)
            stack.callback(maps.close)
            capture = blocking(enrolment.capture("web", pod.path, pod.addresses))
            stack.callback(enrolment.release, capture)
            start(pod, client_of(*SERVICE))
            s, client = capture.outbound[0].accept()
            s.close()
            source = ClientAddress(SocketAddress.of(client))
            original = maps.take_original(pod.cookie, source)

        meant = SERVICE if first == "ours" else BACKEND
        assert original == SocketAddress.of(meant)
        assert any("Cilium" in each.message for each in told)
        assert all(each.is_well for each in told)

    def test_one_that_was_attached_alone(self, own_pins: Path, cgroup: Path) -> None:
        """The kernel lets nobody else in: refused, by name, and nothing is attached."""
        own = cgroup / unique("alone")
        own.mkdir()
        try:
            with other_program(own, 0, "lonely"):
                with pytest.raises(KernelError, match=r"cgroup links: .*not permitted"):
                    ensure_loaded(source=SOURCE, pins=own_pins, cgroup=own)
                found = preflight.findings(own_pins, own)
                assert len(list(preflight.attached(own))) >= 1
        finally:
            own.rmdir()

        bad = [each for each in found if not each.is_well]
        assert any("lonely" in each.message for each in bad)
        assert any("detach" in each.advice for each in bad)
        assert not list(BPFFS.glob(f"{own_pins.name}*"))

    def test_one_above_that_may_be_overridden(
        self, own_pins: Path, cgroup: Path
    ) -> None:
        """Ours would take its place silently: it is told."""
        above = cgroup / unique("above")
        below = above / "below"
        below.mkdir(parents=True)
        try:
            with other_program(above, ALLOW_OVERRIDE, "yielding"):
                found = preflight.findings(own_pins, below)
        finally:
            below.rmdir()
            above.rmdir()

        bad = [each for each in found if not each.is_well]
        assert any("yielding" in each.message for each in bad)
