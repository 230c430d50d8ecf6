"""Control's steps: what workers hear first, and that a captured pod stays captured."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from agent.addresses import IPAddress, parse_ip
from agent.app.control import START_SECONDS, Control
from agent.app.direct import Direct
from agent.app.outbox import Outbox
from agent.app.world import World
from agent.config import resolve
from agent.errors import KernelError
from agent.identity.source import CertificateSource
from agent.identity.spiffe import TrustDomain
from agent.kube.manifests import Change
from agent.policy.problem import Problem
from agent.proxy import instructions
from agent.redirect.enrolment import Capture, Enrolment
from agent.redirect.gate import Gate
from agent.workload.connection import WorldWanted
from agent.workload.delta import Snapshot, apply
from agent.workload.model import Namespace, Objects, Workload
from agent.workload.registry import MESH_LABEL, Registry

TD = TrustDomain("cluster.local")
SHOP = Namespace(name="shop", labels={"podlock.io/mesh": "enabled"}, annotations={})


def pod(name: str, *addresses: str, node: str = "n1") -> Workload:
    return Workload(
        uid=f"u-{name}",
        namespace="shop",
        name=name,
        node=node,
        service_account=name,
        addresses=tuple(parse_ip(text) for text in addresses),
        netns=f"/run/netns/{name}",
    )


class FakeEnrolment:
    """Captures as the real one does, and refuses one address to two pods."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.held: dict[str, Capture] = {}
        self.refuse: str | None = None
        self.kept: set[str] = set()
        self.forgotten = 0
        self.places: list[tuple[str, str]] = []
        self._sockets: list[socket.socket] = []

    def capture(self, uid: str, netns: Path, addresses: Sequence[IPAddress]) -> Capture:
        self.places.append((uid, str(netns)))
        if uid == self.refuse:
            raise KernelError(f"pod {uid}: no more memory")
        for other in self.held.values():
            if other.uid != uid and set(other.addresses) & set(addresses):
                raise KernelError(f"pod {uid}: an address of {other.uid} too")
        told = ",".join(map(str, addresses))
        self.steps.append(f"capture {uid} {told}")
        if uid in self.held:
            self.held[uid] = replace(self.held[uid], addresses=tuple(addresses))
        else:
            made = [socket.socket() for _ in range(3)]
            self._sockets += made
            self.held[uid] = Capture(
                uid, os.dup(0), len(self.held), tuple(addresses), (made[0],), *made[1:]
            )
        return self.held[uid]

    def release(self, capture: Capture) -> None:
        self.steps.append(f"release {capture.uid}")
        del self.held[capture.uid]
        os.close(capture.netns_fd)

    def leave(self, capture: Capture) -> None:
        self.steps.append(f"leave {capture.uid}")
        del self.held[capture.uid]
        os.close(capture.netns_fd)

    def rename(self, held: Capture, uid: str) -> Capture:
        self.steps.append(f"rename {held.uid} {uid}")
        del self.held[held.uid]
        self.held[uid] = replace(held, uid=uid)
        return self.held[uid]

    def forget_connections(self) -> None:
        """Nothing is left of an earlier agent."""

    def forget_strangers(
        self, keep: Iterable[str], namespaces: Iterable[Path] = ()
    ) -> list[str]:
        self.kept = set(keep)
        self.forgotten += 1
        return []

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        for capture in self.held.values():
            os.close(capture.netns_fd)


class FakeAnnouncer:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.policies: list[Problem] = []
        self.meshes: list[tuple[set[str], set[str]]] = []

    def in_mesh(self, captured: Iterable[str], wanted: Iterable[str]) -> None:
        self.meshes.append((set(captured), set(wanted)))

    def judged(self, problems: Sequence[Problem]) -> None:
        self.policies = list(problems)

    def advise(self, advice: object) -> None:
        self.advice = advice

    def captured(self, pod: Workload, note: str) -> None:
        self.told.append(f"captured {pod.key}: {note}")

    def refused(self, pod: Workload, note: str) -> None:
        self.told.append(f"refused {pod.key}: {note}")


class Bench:
    """A control with a fake enrolment, and what it told its workers."""

    def __init__(self) -> None:
        self.announced = FakeAnnouncer()
        self.enrolment = FakeEnrolment()
        self.told: list[object] = []
        config = resolve({"node": "n1", "workers": 2})
        self.control = Control(
            config,
            "/cgroup",
            Registry("n1", TD),
            cast(Enrolment, self.enrolment),
            cast(CertificateSource, None),
            announcer=self.announced,
            missing=lambda: self.missing,
        )
        self.missing: list[str] = []
        self.control.workers.broadcast = self._hear  # type: ignore[method-assign]

    def _hear(self, message: object, descriptors: Sequence[int] = ()) -> None:
        self.told.append(message)

    def adopt(self, *pods: Workload, complete: bool = True) -> None:
        objects = Objects(workloads=pods, namespaces=(SHOP,))
        self.control.adopt(Change(objects, (), complete))

    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.told]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.enrolment.close()


class TestOrder:
    def test_the_world_comes_before_the_pods_of_a_change(self, bench: Bench) -> None:
        """A worker that did not know a peer would take it for the outside."""
        bench.adopt(pod("web", "10.0.0.1"), pod("api", "10.0.1.1", node="n2"))
        assert bench.kinds() == ["WorldChanged", "PodCaptured"]

    def test_a_new_worker_hears_of_the_world_before_any_pod(self, bench: Bench) -> None:
        """The same at a worker's start, where clients may be waiting already."""
        bench.adopt(pod("web", "10.0.0.1"), pod("batch", "10.0.0.2"))
        state = [type(message).__name__ for message, _ in bench.control._state()]
        assert state == ["WorldUpdated", "PodCaptured", "PodCaptured"]


class TestACapturedPod:
    def test_is_not_released_when_it_changes(self, bench: Bench) -> None:
        """Between a release and the next capture it would talk in plaintext."""
        bench.adopt(pod("web", "10.0.0.1"))
        bench.adopt(pod("web", "10.0.0.9"))
        assert not [step for step in bench.enrolment.steps if "release" in step]
        assert bench.enrolment.steps[-1] == "capture u-web 10.0.0.9"
        assert bench.kinds()[-1] == "PodCaptured"

    def test_stays_as_it_was_when_a_change_fails(self, bench: Bench) -> None:
        """What holds goes on holding, the status says why, and it is tried again."""
        bench.adopt(pod("web", "10.0.0.1"))
        bench.enrolment.refuse = "u-web"
        bench.adopt(pod("web", "10.0.0.9"))
        assert "u-web" in bench.control.enrolled.captures
        assert "no more memory" in bench.control.enrolled.waiting["u-web"]
        bench.enrolment.refuse = None
        bench.control.reconcile()
        assert not bench.control.enrolled.waiting
        assert bench.enrolment.steps[-1] == "capture u-web 10.0.0.9"

    def test_is_released_when_it_leaves(self, bench: Bench) -> None:
        """Only then, and the workers hear of it."""
        bench.adopt(pod("web", "10.0.0.1"))
        bench.adopt()
        assert bench.enrolment.steps[-1] == "release u-web"
        assert "PodReleased" in bench.kinds()

    def test_two_may_swap_addresses(self, bench: Bench) -> None:
        """Each gives up what it has no more before the other asks for it."""
        bench.adopt(pod("web", "10.0.0.1"), pod("batch", "10.0.0.2"))
        # The registry keeps an address with its holder while both claim it.
        bench.adopt(pod("web"), pod("batch"))
        bench.adopt(pod("web", "10.0.0.2"), pod("batch", "10.0.0.1"))
        held = {uid: c.addresses for uid, c in bench.enrolment.held.items()}
        assert held == {
            "u-web": (parse_ip("10.0.0.2"),),
            "u-batch": (parse_ip("10.0.0.1"),),
        }

    def test_gives_up_an_address_where_it_is_held(self, bench: Bench) -> None:
        """Its path may lead to another pod's namespace by now: that is looked at."""
        bench.adopt(replace(pod("web", "10.0.0.1"), netns=HELD))
        held = bench.enrolment.held["u-web"].netns_fd
        bench.enrolment.places.clear()
        bench.adopt(
            replace(pod("web", "10.0.0.9"), netns=HELD),
            replace(pod("late", "10.0.0.1"), netns="/gone"),
        )
        assert bench.enrolment.places == [
            ("u-web", f"/proc/self/fd/{held}"),
            ("u-late", "/gone"),
            ("u-web", HELD),
        ]

    @pytest.mark.parametrize("complete", [True, False])
    def test_in_another_namespace_is_captured_there(
        self, bench: Bench, tmp_path: Path, complete: bool
    ) -> None:
        """A sandbox that is made anew; the earlier one is released if all was read."""
        bench.adopt(replace(pod("web", "10.0.0.1"), netns=HELD))
        bench.enrolment.steps.clear()
        moved = replace(pod("web", "10.0.0.1"), netns=str(tmp_path))
        bench.adopt(moved, complete=complete)
        step = "release" if complete else "leave"
        assert bench.enrolment.steps == [f"{step} u-web", "capture u-web 10.0.0.1"]


# The namespace that every FakeEnrolment holds: that of its descriptors.
HELD = "/proc/self/fd/0"


class TestAnotherPodInTheNamespace:
    """The object of a pod was made anew: another uid or name, the same namespace."""

    @pytest.mark.parametrize(
        "successor",
        [
            replace(pod("web", "10.0.0.1"), netns=HELD, uid="u-2"),
            replace(pod("other", "10.0.0.1"), netns=HELD),
            replace(pod("web", "10.0.0.7"), netns=HELD, uid="u-2"),
        ],
        ids=["uid", "name", "uid and address"],
    )
    def test_takes_the_capture_over_in_place(
        self, bench: Bench, successor: Workload
    ) -> None:
        bench.adopt(replace(pod("web", "10.0.0.1"), netns=HELD))
        bench.told.clear()
        bench.adopt(successor)
        uid, (address,) = successor.uid, successor.addresses
        first, renamed, *captured = bench.enrolment.steps
        assert (first, renamed) == ("capture u-web 10.0.0.1", f"rename u-web {uid}")
        assert captured[-1] == f"capture {uid} {address}"
        assert all(step.startswith("capture") for step in captured)
        kinds = [kind for kind in bench.kinds() if kind.startswith("Pod")]
        assert kinds == ["PodReleased", "PodCaptured"]
        assert bench.control.enrolled.captures.keys() == {uid}

    def test_is_tried_again_where_that_fails(self, bench: Bench) -> None:
        bench.adopt(replace(pod("web", "10.0.0.1"), netns=HELD))
        bench.enrolment.refuse = "u-2"
        bench.adopt(replace(pod("web", "10.0.0.1"), netns=HELD, uid="u-2"))
        assert not [step for step in bench.enrolment.steps if "release" in step]
        assert "u-2" in bench.control.enrolled.waiting
        bench.enrolment.refuse = None
        bench.control.reconcile()
        assert not bench.control.enrolled.waiting
        assert bench.kinds()[-1] == "PodCaptured"


class TestAContradiction:
    def test_two_that_claim_a_third_namespace_are_not_released(
        self, bench: Bench
    ) -> None:
        """Which of them is there is not known, and each may be where it was."""
        web, batch = pod("web", "10.0.0.1"), pod("batch", "10.0.0.2")
        bench.adopt(web, batch)
        there = "/run/netns/there"
        bench.adopt(replace(web, netns=there), replace(batch, netns=there))
        assert not [step for step in bench.enrolment.steps if "release" in step]
        assert bench.control.view.unplaced == {"u-web"}
        assert "leave u-web" in bench.enrolment.steps


class TestASourceReadInPart:
    def test_releases_no_pod(self, bench: Bench) -> None:
        bench.adopt(pod("web", "10.0.0.1"), pod("batch", "10.0.0.2"))
        bench.adopt(pod("batch", "10.0.0.2"), complete=False)
        bench.adopt(complete=False)
        assert not [step for step in bench.enrolment.steps if "release" in step]
        assert bench.control.view.pods.keys() == {"u-web", "u-batch"}
        bench.adopt(pod("batch", "10.0.0.2"))
        assert bench.enrolment.steps[-1] == "release u-web"

    def test_keeps_who_seems_to_have_left(self, bench: Bench) -> None:
        """Its label, or its namespace's, may be in what was not read."""
        bench.adopt(pod("web", "10.0.0.1"))
        labels = {MESH_LABEL: "disabled"}
        bench.adopt(replace(pod("web", "10.0.0.1"), labels=labels), complete=False)
        assert bench.control.view.pods.keys() == {"u-web"}
        bench.adopt(replace(pod("web", "10.0.0.1"), labels=labels))
        assert bench.enrolment.steps[-1] == "release u-web"

    def test_closes_whose_name_is_anothers_now(self, bench: Bench) -> None:
        bench.adopt(replace(pod("web", "10.0.0.1"), netns=HELD))
        again = replace(pod("web", "10.0.0.2"), uid="u-2", netns="/elsewhere")
        bench.adopt(again, complete=False)
        assert bench.enrolment.steps[1:] == ["leave u-web", "capture u-2 10.0.0.2"]
        assert "PodReleased" in bench.kinds()
        forgotten = bench.enrolment.forgotten
        bench.adopt(again)
        assert bench.enrolment.forgotten == forgotten + 1

    def test_a_namespace_that_is_not_known_any_more(self, bench: Bench) -> None:
        """Of a complete read, too: its pod stays where it was captured."""
        bench.adopt(pod("web", "10.0.0.1"))
        bench.adopt(replace(pod("web", "10.0.0.1"), netns=None))
        assert not [step for step in bench.enrolment.steps if "release" in step]
        assert bench.control.view.pods.keys() == {"u-web"}

    def test_leaves_the_captures_of_an_earlier_agent(self, bench: Bench) -> None:
        bench.adopt(complete=False)
        bench.control.reconcile()
        assert bench.enrolment.forgotten < 1
        bench.missing = ["pods: forbidden"]
        bench.adopt()
        assert bench.enrolment.forgotten < 1
        bench.missing = []
        bench.control.reconcile()
        bench.control.reconcile()
        assert bench.enrolment.forgotten == 1


class TestTheWorld:
    def test_travels_as_what_changed(self, bench: Bench) -> None:
        """Each change follows on the last, and together they are the whole."""
        bench.adopt(pod("web", "10.0.0.1"), pod("api", "10.0.1.1", node="n2"))
        bench.adopt(pod("web", "10.0.0.1"), pod("api", "10.0.1.9", node="n2"))
        changes = [m for m in bench.told if isinstance(m, instructions.WorldChanged)]
        world = Snapshot()
        for change in changes:
            world = apply(world, change.delta)
        assert set(changes[1].delta.peers.puts) == {parse_ip("10.0.1.9")}
        assert world.directory == bench.control.view.directory
        assert world.policies == bench.control.view.policies
        assert next(iter(bench.control._state()))[0] == instructions.WorldUpdated(world)


class FakeDirect:
    """Notes what it is asked to judge, and who was captured then."""

    def __init__(self) -> None:
        self.worlds: list[World] = []
        self.settled = 0

    def refresh(self, world: World) -> None:
        self.worlds.append(world)

    def settle_earlier(self) -> None:
        self.settled += 1


class TestDirect:
    @pytest.fixture
    def direct(self, bench: Bench) -> FakeDirect:
        made = FakeDirect()
        bench.control.direct = cast(Direct, made)
        return made

    def test_a_pod_that_leaves_is_judged_before_its_release(
        self, bench: Bench, direct: FakeDirect
    ) -> None:
        """Its connections are ended in its namespace, which is open until then."""
        bench.adopt(pod("web", "10.0.0.1"))
        cookie = bench.enrolment.held["u-web"].netns_cookie
        direct.worlds.clear()
        bench.adopt()
        first = direct.worlds[0]
        assert not first.residents
        assert cookie in first.namespaces
        assert cookie not in direct.worlds[-1].namespaces

    def test_a_captured_pod_is_a_resident(
        self, bench: Bench, direct: FakeDirect
    ) -> None:
        """Once it is captured, with the addresses that it is captured with."""
        bench.adopt(pod("web", "10.0.0.1"))
        before, after = direct.worlds[0], direct.worlds[-1]
        assert not before.residents
        (web,) = after.residents
        assert (web.name, web.addresses) == ("shop/web", (parse_ip("10.0.0.1"),))

    def test_earlier_pairs_are_settled_once(
        self, bench: Bench, direct: FakeDirect
    ) -> None:
        """After the first capture of all pods."""
        bench.adopt(pod("web", "10.0.0.1"))
        bench.adopt(pod("web", "10.0.0.1"))
        assert direct.settled == 1

    def test_is_not_told_when_nothing_changed(self, bench: Bench) -> None:
        """A problem that comes or goes is none of the workers' business."""
        bench.adopt(pod("web", "10.0.0.1"))
        bench.told.clear()
        bench.adopt(pod("web", "10.0.0.1"))
        assert bench.told == []

    def test_is_sent_whole_to_who_asks(self, bench: Bench) -> None:
        """The latest version, to that worker alone."""
        bench.adopt(pod("web", "10.0.0.1"))
        one, other = bench.control.workers.slots
        one.outbox, other.outbox = Outbox(), Outbox()
        bench.control._hear(one, WorldWanted(reason="a gap"))
        (parcel,) = one.outbox._waiting
        told = instructions.decode(parcel.frame)
        assert isinstance(told, instructions.WorldUpdated)
        assert told.snapshot.version == 1
        assert told.snapshot.directory == bench.control.view.directory
        assert other.outbox.waiting == 0


def test_a_hung_worker_is_told_apart_from_a_dead_one(bench: Bench) -> None:
    """The events say why it was killed."""
    slot = bench.control.workers.slots[0]
    slot.pid, slot.fault = 41, "gave no sign of life for 10 s"
    bench.control._lost(slot)
    hung, died = bench.control.events.document()["events"]
    assert (hung["kind"], died["kind"]) == ("worker-hung", "worker-died")
    assert "process 41 gave no sign of life for 10 s" in hung["message"]


class TestAnnounced:
    def test_who_is_in_the_mesh(self, bench: Bench) -> None:
        """Captured and wanted apart: who waits keeps the mark that it has."""
        bench.control.reconcile()
        assert not bench.announced.meshes  # nothing is known yet
        bench.enrolment.refuse = "u-api"
        bench.adopt(pod("web", "10.0.0.1"), pod("api", "10.0.0.2"))
        assert bench.announced.meshes[-1] == ({"u-web"}, {"u-web", "u-api"})
        bench.adopt(pod("api", "10.0.0.2"))
        assert bench.announced.meshes[-1] == (set(), {"u-api"})

    def test_one_that_is_not_found_yet_is_wanted(self, bench: Bench) -> None:
        """An earlier agent may have captured it: no stranger, and its mark stays."""
        bench.adopt(replace(pod("web", "10.0.0.1"), netns=None))
        assert bench.announced.meshes[-1] == (set(), {"u-web"})
        assert bench.enrolment.kept == {"u-web"}

    def test_each_capture_and_each_refusal_once(self, bench: Bench) -> None:
        """A pod that waits is tried again and again, and told of once a reason."""
        bench.enrolment.refuse = "u-api"
        bench.adopt(pod("web", "10.0.0.1"), pod("api", "10.0.0.2"))
        for _ in range(3):
            bench.control.reconcile()
        assert bench.announced.told == [
            "refused shop/api: pod u-api: no more memory",
            "captured shop/web: in the mesh as spiffe://cluster.local/ns/shop/sa/web",
        ]


class TestReadiness:
    def test_says_what_the_source_misses(self, bench: Bench) -> None:
        """Before and after the first objects; and that there are none yet."""
        assert (
            "the objects have not been looked at yet" in bench.control.not_ready_because
        )
        bench.missing = ["the API server does not permit it: services"]
        assert bench.missing[0] in bench.control.not_ready_because
        bench.adopt(pod("web", "10.0.0.1"))
        assert bench.missing[0] in bench.control.not_ready_because

    def test_at_first_it_waits_for_the_pods_that_are_there(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Then one pod's trouble is its own; what all need still counts."""
        monkeypatch.setattr(type(bench.control.workers), "running", 2)
        bench.enrolment.refuse = "u-web"
        bench.adopt(pod("web", "10.0.0.1"))
        first = bench.control.not_serving_because
        assert first == ["2 pods or certificates are not ready yet"]
        assert "web" not in first[0]

        bench.adopt()
        assert bench.control.not_serving_because == []

        bench.adopt(pod("web", "10.0.0.1"))
        assert bench.control.not_serving_because == []
        bench.missing = ["the API server is away"]
        assert bench.control.not_serving_because == bench.missing


def test_a_broken_pod_holds_no_rollout_up_for_ever(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kubelet's probe succeeds after a while; the status tells of the pod."""
    monkeypatch.setattr(type(bench.control.workers), "running", 2)
    now = 1000.0
    monkeypatch.setattr("agent.app.control.time.monotonic", lambda: now)
    bench.enrolment.refuse = "u-web"
    bench.adopt(pod("web", "10.0.0.1"))
    assert bench.control.not_serving_because
    now += START_SECONDS - 1
    assert bench.control.not_serving_because
    now += 1
    assert bench.control.not_serving_because == []
    assert "no more memory" in "\n".join(bench.control.not_ready_because)


@pytest.mark.parametrize(
    ("name", "terminating", "expected"),
    [("podlock", True, True), ("podlock", False, False), ("shop", True, False)],
)
def test_removed_is_whose_own_namespace_is_deleted(
    bench: Bench, name: str, terminating: bool, expected: bool
) -> None:
    """Not when it is stopped, nor when another namespace goes."""
    home = Namespace(name=name, terminating=terminating)
    bench.control.config = resolve({"node": "n1", "kubernetes": {"kubeconfig": "/k"}})
    bench.control.adopt(Change(Objects(namespaces=(home,)), ()))

    assert bench.control.is_being_removed is expected


class FakeGate:
    """Remembers who may connect, beside what the enrolment does."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps

    def admit(self, outside: Mapping[str, str]) -> None:
        self.steps.append(f"admit {','.join(outside)}")

    def retain(self, outside: Mapping[str, str]) -> None:
        self.steps.append(f"retain {','.join(outside)}")


class TestGate:
    def test_a_pod_that_leaves_never_meets_it(self, bench: Bench) -> None:
        """Let through before it is released; one that joins, captured before."""
        steps = bench.enrolment.steps
        bench.control.gate = cast(Gate, FakeGate(steps))
        inside = pod("web", "10.0.0.1")
        bench.adopt(inside)
        assert steps == ["admit ", "capture u-web 10.0.0.1", "retain "]
        steps.clear()

        outside = replace(inside, labels={"podlock.io/mesh": "disabled"})
        far = replace(pod("api", "10.0.0.2", node="n2"), labels=outside.labels)
        bench.adopt(outside, far)

        assert steps == ["admit u-web", "release u-web", "retain u-web"]
