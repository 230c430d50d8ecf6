"""The loader process: complete or nothing, once, again, and with other sources."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.addresses import ClientAddress, SocketAddress
from agent.errors import InputError, KernelError
from agent.redirect.enrolment import Enrolment
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import PinLayout, Ports
from agent.redirect.program import LOADER, ensure_loaded, unload
from tests.bpf.conftest import StartApplication, blocking
from tests.bpf.test_outbound import client_of
from tests.bpf.world import BPFFS, SOURCE, Namespace, scratch_cgroup

ELSEWHERE = ("203.0.113.9", 80)
OTHER_PORTS = Ports(tunnel=15009)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Sources that differ from the shipped ones by a comment."""
    shutil.copytree(SOURCE, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "redirect.c").open("a") as text:
        text.write("/* another day */\n")
    return tmp_path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Sources whose last program the verifier does not take."""
    shutil.copytree(SOURCE, tmp_path, dirs_exist_ok=True)
    main = tmp_path / "redirect.c"
    released = "	bpf_sk_release(listener);\n	return failed"
    assert released in main.read_text()
    main.write_text(main.read_text().replace(released, "	return failed"))
    return tmp_path


def expect_plain(pod: Namespace, outside: Namespace, start: StartApplication) -> None:
    """A connect from the pod reaches its neighbour as if nothing were loaded."""
    with outside.listen("10.9.1.1", 7000) as server:
        start(pod, client_of("10.9.1.1", 7000))
        server.accept()[0].close()


def expect_refused(pod: Namespace, start: StartApplication) -> None:
    """A connect from the pod is redirected to an agent that is not there."""
    child = start(pod, client_of(*ELSEWHERE))
    assert child.hear()[:2] == ("refused", errno.ECONNREFUSED)


class TestLoad:
    def test_again_finds_its_own_work(
        self, pins: Path, cgroup: Path, maps: RedirectMaps
    ) -> None:
        """The same sources and settings: nothing is touched."""
        report = ensure_loaded(source=SOURCE, pins=pins, cgroup=cgroup)

        assert report.outcome == "reused"
        assert report.digest == maps.digest().hex()

    def test_prints_one_line_of_json(
        self, own_pins: Path, cgroup: Path, tmp_path: Path
    ) -> None:
        """What a person sees who runs it by hand; twice, it does nothing."""
        command = [
            *(sys.executable, "-m", LOADER),
            *(f"--source={SOURCE}", f"--pins={own_pins}", f"--cgroup={cgroup}"),
            f"--headers={tmp_path / 'headers'}",
        ]
        outcomes = []
        for _ in range(2):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            (line,) = done.stdout.splitlines()
            outcomes.append(json.loads(line)["outcome"])

        assert outcomes == ["loaded", "reused"]
        assert all(path.exists() for path in PinLayout(own_pins).expected())

    def test_another_cgroup_is_another_load(self, own_pins: Path, cgroup: Path) -> None:
        """Programs that are attached elsewhere are not taken for ours."""
        ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)
        with scratch_cgroup() as elsewhere:
            report = ensure_loaded(source=SOURCE, pins=own_pins, cgroup=elsewhere)
            unload(own_pins)

        assert report.outcome == "replaced"

    def test_a_missing_pin_is_mended(self, own_pins: Path, cgroup: Path) -> None:
        """A set that somebody took a pin from is loaded anew."""
        ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)
        (own_pins / "links" / "redirect6").unlink()

        report = ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)

        assert report.outcome == "replaced"


class TestFailure:
    def test_leaves_nothing(self, own_pins: Path, cgroup: Path, broken: Path) -> None:
        """The verifier refuses the last program: the first ones are gone too."""
        with pytest.raises(KernelError, match="load the program inbound"):
            ensure_loaded(source=broken, pins=own_pins, cgroup=cgroup)

        assert not list(BPFFS.glob(f"{own_pins.name}*"))

    def test_keeps_what_was_in_force(
        self, own_pins: Path, cgroup: Path, broken: Path
    ) -> None:
        """A bad upgrade does not open a pod."""
        first = ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)

        with pytest.raises(KernelError):
            ensure_loaded(source=broken, pins=own_pins, cgroup=cgroup)

        assert ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup) == (
            type(first)("reused", first.digest, first.cgroup)
        )

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"source": Path("/nonexistent")}, "redirect.c: No such file"),
            ({"cgroup": Path("/proc")}, "not a cgroup v2"),
            ({"pins": BPFFS / "dot.ted"}, "no dot"),
            ({"pins": Path("/tmp/podlock-pins")}, "not in a bpffs"),
        ],
    )
    def test_names_what_is_wrong(
        self,
        own_pins: Path,
        cgroup: Path,
        change: dict[str, Path],
        reason: str,
    ) -> None:
        """A wrong path is told by name, and nothing is made."""
        paths = {"source": SOURCE, "pins": own_pins, "cgroup": cgroup} | change

        with pytest.raises((InputError, KernelError), match=reason):
            ensure_loaded(
                source=paths["source"], pins=paths["pins"], cgroup=paths["cgroup"]
            )

        pins = paths["pins"]
        assert pins.name not in [path.name for path in pins.parent.iterdir()]

    def test_exits_1_with_one_line(
        self, own_pins: Path, tmp_path: Path, cgroup: Path
    ) -> None:
        """No traceback for a person to read."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", LOADER, "--source=/nonexistent"),
                *(f"--pins={own_pins}", f"--cgroup={cgroup}"),
                f"--headers={tmp_path / 'headers'}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "eBPF source /nonexistent/redirect.c: No such file or directory\n"
        )


class TestReplace:
    def test_keeps_pods_closed_and_then_serves_them(
        self,
        own_pins: Path,
        cgroup: Path,
        changed: Path,
        pod: Namespace,
        outside: Namespace,
        start: StartApplication,
    ) -> None:
        """Across an upgrade an enrolled pod is refused or redirected, never plain."""
        ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)
        maps = RedirectMaps.open(own_pins)
        killed = Enrolment(own_pins, maps).capture("web", pod.path, pod.addresses)
        for listener in (*killed.outbound, killed.inbound, killed.tunnel):
            listener.close()
        maps.close()

        report = ensure_loaded(source=changed, pins=own_pins, cgroup=cgroup)

        assert report.outcome == "replaced"
        maps = RedirectMaps.open(own_pins)
        assert maps.enrolled() == {pod.cookie: pod.addresses}
        expect_refused(pod, start)
        with pod.listen("::", 80), pytest.raises(ConnectionRefusedError):
            outside.connect(pod.ip4, 80)

        enrolment = Enrolment(own_pins, maps)
        capture = blocking(enrolment.capture("web", pod.path, pod.addresses))
        start(pod, client_of(*ELSEWHERE))
        s, client = capture.outbound[0].accept()
        s.close()
        source = ClientAddress(SocketAddress.of(client))
        assert maps.take_original(pod.cookie, source) == SocketAddress.of(ELSEWHERE)
        with outside.connect(pod.ip4, 80):
            capture.inbound.accept()[0].close()

        enrolment.release(capture)
        maps.close()
        expect_plain(pod, outside, start)

    def test_direct_connections_are_known_afterwards(
        self, own_pins: Path, cgroup: Path, changed: Path
    ) -> None:
        """They live through it, and the next agent must judge and tell them."""
        ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)
        to = SocketAddress.parse("10.0.0.2:80")
        maps = RedirectMaps.open(own_pins)
        maps.direct.permit(7, to, 55, 8)
        maps.close()

        report = ensure_loaded(source=changed, pins=own_pins, cgroup=cgroup)

        assert report.outcome == "replaced"
        maps = RedirectMaps.open(own_pins)
        assert maps.direct.verdicts() == {(7, to): 55}
        maps.close()

    def test_a_loader_killed_before_it_published(
        self, own_pins: Path, cgroup: Path
    ) -> None:
        """Old set moved aside, new one not in place: the old one counts."""
        layout = PinLayout(own_pins)
        ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)
        own_pins.rename(layout.old.root)
        (layout.next.root / "maps").mkdir(parents=True)

        report = ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)

        assert report.outcome == "reused"
        assert not layout.old.root.exists()
        assert not layout.next.root.exists()

    def test_a_loader_killed_after_it_published(
        self, own_pins: Path, cgroup: Path, changed: Path, pod: Namespace
    ) -> None:
        """New set in place, old one not removed: the pods' links come along."""
        layout = PinLayout(own_pins)
        ensure_loaded(source=changed, pins=own_pins, cgroup=cgroup)
        maps = RedirectMaps.open(own_pins)
        enrolment = Enrolment(own_pins, maps)
        capture = enrolment.capture("web", pod.path, pod.addresses)
        own_pins.rename(layout.old.root)
        ensure_loaded(source=SOURCE, pins=layout.next.root, cgroup=cgroup)
        layout.next.root.rename(own_pins)

        report = ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)

        assert report.outcome == "reused"
        assert not layout.old.root.exists()
        assert layout.netns_link(capture.pin).exists()
        enrolment.release(capture)
        maps.close()


class TestTwoAgents:
    def test_neither_disturbs_the_other(
        self,
        own_pins: Path,
        cgroup: Path,
        pod: Namespace,
        outside: Namespace,
        start: StartApplication,
        enrolment: Enrolment,
        maps: RedirectMaps,
    ) -> None:
        """A second set on the same cgroup: each serves the pods enrolled in it."""
        ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup, ports=OTHER_PORTS)
        expect_plain(pod, outside, start)

        capture = blocking(enrolment.capture("web", pod.path, pod.addresses))
        child = start(pod, client_of(*ELSEWHERE))
        s, client = capture.outbound[0].accept()
        source = ClientAddress(SocketAddress.of(client))
        second = RedirectMaps.open(own_pins)
        try:
            assert child.hear()[:2] == ("connected", ELSEWHERE)
            assert second.take_original(pod.cookie, source) is None
            assert maps.take_original(pod.cookie, source) == SocketAddress.of(ELSEWHERE)
            unload(own_pins)
            start(pod, client_of(*ELSEWHERE))
            capture.outbound[0].accept()[0].close()
        finally:
            s.close()
            second.close()
            enrolment.release(capture)


class TestUnload:
    def test_leaves_nothing(
        self,
        own_pins: Path,
        cgroup: Path,
        pod: Namespace,
        outside: Namespace,
        start: StartApplication,
    ) -> None:
        """Pins and folders are gone, and an enrolled pod connects as before."""
        ensure_loaded(source=SOURCE, pins=own_pins, cgroup=cgroup)
        maps = RedirectMaps.open(own_pins)
        capture = Enrolment(own_pins, maps).capture("web", pod.path, pod.addresses)
        for listener in (*capture.outbound, capture.inbound, capture.tunnel):
            listener.close()
        expect_refused(pod, start)

        unload(own_pins)
        maps.close()

        assert not list(BPFFS.glob(f"{own_pins.name}*"))
        expect_plain(pod, outside, start)
        with pod.listen("::", 80), outside.connect(pod.ip4, 80):
            pass

    def test_of_nothing_is_fine(self, own_pins: Path) -> None:
        """So a clean-up can always be run."""
        unload(own_pins)
