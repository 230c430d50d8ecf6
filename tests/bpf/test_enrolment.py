"""Capture and release against the kernel: in order, again, and after a crash."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agent.addresses import ClientAddress, SocketAddress, parse_ip
from agent.errors import InputError, KernelError
from agent.redirect import pinset
from agent.redirect.enrolment import Capture, Enrolment
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import NetnsPin, PinLayout
from tests.bpf.conftest import MakePod, StartApplication, blocking
from tests.bpf.test_outbound import client_of
from tests.bpf.world import Namespace

ELSEWHERE = ("203.0.113.9", 80)


def links(pins: Path, pod: Namespace) -> set[NetnsPin]:
    """The netns links of one pod; other tests' pods do not count."""
    found = pinset.netns_pins(PinLayout(pins))
    return {pin for pin in found if pin.cookie == pod.cookie}


def die(capture: Capture) -> None:
    """What the kernel does for an agent that is killed: its descriptors go."""
    for listener in (*capture.outbound, capture.inbound, capture.tunnel):
        listener.close()
    os.close(capture.netns_fd)


class TestCapture:
    def test_again_is_the_same(
        self, enrolment: Enrolment, captured: Capture, pod: Namespace
    ) -> None:
        """Idempotent per uid: no second listener, link or descriptor."""
        again = enrolment.capture(pod.name, pod.path, pod.addresses)

        assert again is captured

    def test_new_addresses_are_taken_over(
        self,
        enrolment: Enrolment,
        maps: RedirectMaps,
        pod: Namespace,
        outside: Namespace,
    ) -> None:
        """The listeners stay; an address that came is taken, one that went is not."""
        enrolment.capture(pod.name, pod.path, [parse_ip("10.9.77.7")])
        renewed = blocking(enrolment.capture(pod.name, pod.path, pod.addresses))
        try:
            with outside.connect(pod.ip6, 80):
                renewed.inbound.accept()[0].close()
            assert maps.enrolled()[pod.cookie] == pod.addresses
        finally:
            enrolment.release(renewed)

    def test_another_pod_takes_it_over_in_place(
        self,
        enrolment: Enrolment,
        maps: RedirectMaps,
        pins: Path,
        pod: Namespace,
        outside: Namespace,
    ) -> None:
        """The object was made anew: link, listeners and entries stay throughout."""
        held = enrolment.capture("before", pod.path, pod.addresses)
        renamed = blocking(enrolment.rename(held, "after"))
        try:
            assert links(pins, pod) == {NetnsPin(pod.cookie, "after")}
            assert maps.enrolled()[pod.cookie] == pod.addresses
            with outside.connect(pod.ip4, 80):
                renamed.inbound.accept()[0].close()
            again = enrolment.capture("after", pod.path, pod.addresses)
            assert again.inbound is held.inbound
        finally:
            enrolment.release(renamed)

    def test_the_same_pod_in_a_new_namespace(
        self,
        enrolment: Enrolment,
        maps: RedirectMaps,
        pins: Path,
        make_pod: MakePod,
        start: StartApplication,
    ) -> None:
        """Left where it was, so redirected and refused, until all objects are read."""
        before, after = make_pod(), make_pod()
        held = enrolment.capture("moves", before.path, before.addresses)
        with pytest.raises(InputError, match="another network namespace"):
            enrolment.capture("moves", after.path, after.addresses)
        enrolment.leave(held)
        moved = enrolment.capture("moves", after.path, after.addresses)
        try:
            assert links(pins, before) == {held.pin}
            assert maps.enrolled()[before.cookie] == ()
            child = start(before, client_of(*ELSEWHERE))
            assert child.hear()[:2] == ("refused", errno.ECONNREFUSED)
            enrolment.forget_strangers(["moves", *others(pins, before)])
            assert not links(pins, before)
            assert before.cookie not in maps.enrolled()
            assert links(pins, after) == {moved.pin}
        finally:
            enrolment.release(moved)

    def test_one_that_was_left_is_captured_again(
        self,
        enrolment: Enrolment,
        pins: Path,
        pod: Namespace,
        outside: Namespace,
    ) -> None:
        enrolment.leave(enrolment.capture("web", pod.path, pod.addresses))
        again = blocking(enrolment.capture("web", pod.path, pod.addresses))
        try:
            assert links(pins, pod) == {again.pin}
            with outside.connect(pod.ip4, 80):
                again.inbound.accept()[0].close()
        finally:
            enrolment.release(again)

    @pytest.mark.parametrize("port", [15001, 15006, 15008])
    def test_a_taken_port_is_named_and_nothing_stays(
        self,
        enrolment: Enrolment,
        maps: RedirectMaps,
        pins: Path,
        pod: Namespace,
        port: int,
    ) -> None:
        """The pod holds one of our ports: refused, and the others are free again."""
        with (
            pod.listen("127.0.0.1", port),
            pytest.raises(InputError, match=f"pod web: port {port} is taken"),
        ):
            enrolment.capture("web", pod.path, pod.addresses)

        assert pod.cookie not in maps.enrolled()
        assert not links(pins, pod)
        for each in (15001, 15006, 15008):
            pod.listen("::", each).close()

    def test_a_kernel_refusal_undoes_everything(
        self, maps: RedirectMaps, pod: Namespace, own_pins: Path
    ) -> None:
        """Without the program to link, no listener and no entry stays."""
        astray = Enrolment(own_pins, maps)

        with pytest.raises(KernelError, match=r"pod web: .*inbound"):
            astray.capture("web", pod.path, pod.addresses)

        assert pod.cookie not in maps.enrolled()
        pod.listen("::", 15006).close()

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            (Path("/run/netns/podlock-no-such"), "No such file"),
            (Path("/dev/null"), "enter a network namespace"),
            (Path("/proc/self/ns/mnt"), "enter a network namespace"),
            (Path("/proc/self/ns/net"), "node's own"),
        ],
    )
    def test_what_is_no_pods_namespace(
        self, enrolment: Enrolment, path: Path, reason: str
    ) -> None:
        """A missing file, no namespace, another kind, or the node's: all refused."""
        with pytest.raises((InputError, KernelError), match=f"pod web: .*{reason}"):
            enrolment.capture("web", path, [parse_ip("10.9.1.2")])

    def test_without_ipv6(
        self, enrolment: Enrolment, pod: Namespace, outside: Namespace
    ) -> None:
        """A pod with IPv6 switched off has one outbound listener and works."""
        pod.write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")

        capture = blocking(enrolment.capture("web", pod.path, pod.addresses[:1]))
        try:
            assert len(capture.outbound) == 1
            with outside.connect(pod.ip4, 80):
                capture.inbound.accept()[0].close()
        finally:
            enrolment.release(capture)

    def test_two_uids_for_one_namespace(
        self, enrolment: Enrolment, captured: Capture, pod: Namespace
    ) -> None:
        """A namespace belongs to one pod."""
        with pytest.raises(InputError, match=f"captured for pod {captured.uid}"):
            enrolment.capture("twin", pod.path, [parse_ip("10.9.77.7")])


class TestRelease:
    def test_leaves_nothing(
        self,
        enrolment: Enrolment,
        maps: RedirectMaps,
        pins: Path,
        pod: Namespace,
        outside: Namespace,
        start: StartApplication,
    ) -> None:
        """Both ways are as before: no entry, no link, no listener."""
        enrolment.release(enrolment.capture("web", pod.path, pod.addresses))

        assert pod.cookie not in maps.enrolled()
        assert not links(pins, pod)
        with pod.listen("::", 15008), outside.connect(pod.ip4, 15008):
            pass
        with outside.listen("10.9.1.1", 7000):
            child = start(pod, client_of("10.9.1.1", 7000))
            assert child.hear()[1:2] == (("10.9.1.1", 7000),)


class TestAfterACrash:
    def test_the_next_agent_takes_over(
        self,
        enrolment: Enrolment,
        maps: RedirectMaps,
        pins: Path,
        pod: Namespace,
        outside: Namespace,
        start: StartApplication,
    ) -> None:
        """Refused while there is no agent, served by the next; never in plaintext."""
        die(enrolment.capture("web", pod.path, pod.addresses))
        child = start(pod, client_of(*ELSEWHERE))
        assert child.hear()[:2] == ("refused", errno.ECONNREFUSED)

        successor = Enrolment(pins, maps)
        assert "web" not in successor.forget_strangers(keep=["web", *others(pins, pod)])
        capture = blocking(successor.capture("web", pod.path, pod.addresses))
        try:
            start(pod, client_of(*ELSEWHERE))
            s, client = capture.outbound[0].accept()
            s.close()
            meant = maps.take_original(
                pod.cookie, ClientAddress(SocketAddress.of(client))
            )
            assert meant == SocketAddress.of(ELSEWHERE)
            assert links(pins, pod) == {capture.pin}
            with outside.connect(pod.ip4, 80):
                capture.inbound.accept()[0].close()
        finally:
            successor.release(capture)

    def test_a_capture_that_fails_leaves_the_pod_closed(
        self,
        enrolment: Enrolment,
        maps: RedirectMaps,
        pins: Path,
        pod: Namespace,
        start: StartApplication,
    ) -> None:
        """What the earlier agent had closed, a failure of the next does not open."""
        die(enrolment.capture("web", pod.path, pod.addresses))
        successor = Enrolment(pins, maps)

        with pod.listen("::", 15008), pytest.raises(InputError, match="15008"):
            successor.capture("web", pod.path, pod.addresses)
        child = start(pod, client_of(*ELSEWHERE))

        assert child.hear()[:2] == ("refused", errno.ECONNREFUSED)
        assert links(pins, pod) == {NetnsPin(pod.cookie, "web")}
        successor.forget_strangers(keep=others(pins, pod))

    def test_a_namespace_of_a_waiting_pod_is_kept(
        self,
        enrolment: Enrolment,
        maps: RedirectMaps,
        pins: Path,
        pod: Namespace,
    ) -> None:
        """The pod has another uid by now and could not be captured yet."""
        die(enrolment.capture("before", pod.path, pod.addresses))
        successor = Enrolment(pins, maps)
        mine = others(pins, pod)
        assert successor.forget_strangers(keep=mine, namespaces=[pod.path]) == []
        assert pod.cookie in maps.enrolled()
        assert successor.forget_strangers(keep=mine) == ["before"]

    def test_pods_that_are_gone_are_forgotten(
        self,
        enrolment: Enrolment,
        maps: RedirectMaps,
        pins: Path,
        make_pod: MakePod,
    ) -> None:
        """Of what is pinned, only pods that still exist stay."""
        gone, kept = make_pod(), make_pod()
        die(enrolment.capture("shop/gone.v1", gone.path, gone.addresses))
        die(enrolment.capture("kept", kept.path, kept.addresses))
        successor = Enrolment(pins, maps)

        forgotten = successor.forget_strangers(keep=["kept", *others(pins, gone, kept)])

        assert forgotten == ["shop/gone.v1"]
        assert gone.cookie not in maps.enrolled()
        assert not links(pins, gone)
        assert kept.cookie in maps.enrolled()
        successor.forget_strangers(keep=others(pins, kept))


def others(pins: Path, *pods: Namespace) -> list[str]:
    """The uids that are none of this test's."""
    cookies = {pod.cookie for pod in pods}
    found = pinset.netns_pins(PinLayout(pins))
    return [pin.uid for pin in found if pin.cookie not in cookies]
