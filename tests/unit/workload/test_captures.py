"""
Guarantees 1 and 2 as properties: reads of every kind, in any order, whole and in part.

The kernel here is a set of network namespaces with a redirect; a plan's steps are
carried out on it as `EnrolledPods` does, and may fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.addresses import parse_ip
from agent.identity.spiffe import TrustDomain
from agent.workload.captures import Held, Inode, Plan, plan
from agent.workload.model import Namespace, Objects, Workload
from agent.workload.registry import MESH_LABEL, NodeView, Registry
from agent.workload.retained import staying, with_retained

NODE = "n1"
NAMES = ("a", "b", "c")
PATHS = ("/netns/1", "/netns/2", "/netns/3")
ADDRESSES = tuple(map(parse_ip, ("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1")))
NAMESPACES = ("shop", "bank")

names = st.sampled_from(NAMES)
uids = st.just(frozenset[str]()) | st.frozensets(
    st.sampled_from([f"u{number}" for number in range(1, 9)])
)


@dataclass
class Kernel:
    """Which namespace is at a path, and which have a redirect, of which pod."""

    inodes: dict[str, Inode] = field(
        default_factory=lambda: {path: (4, n) for n, path in enumerate(PATHS)}
    )
    made: int = 100
    redirected: set[Inode] = field(default_factory=set)
    held: dict[str, Held] = field(default_factory=dict)
    passed_on: set[str] = field(default_factory=set)
    """Whose capture was to pass to another pod; where that failed it is tried again."""

    def inode_at(self, path: str | None) -> Inode | None:
        return self.inodes.get(path or "")

    def carry_out(
        self, wanted: Plan, pods: Mapping[str, Workload], failing: frozenset[str]
    ) -> None:
        for uid in wanted.release:
            self.redirected.discard(self.held.pop(uid).inode)
        for uid in wanted.leave:
            del self.held[uid]
        self.passed_on |= wanted.hand_over.keys()
        for uid, successor in wanted.hand_over.items():
            if successor not in failing:
                self.held[successor] = self.held.pop(uid)
        for uid in wanted.capture:
            inode = self.inode_at(pods[uid].netns)
            taken = {h.inode for other, h in self.held.items() if other != uid}
            if inode is None or inode in taken or uid in failing:
                continue
            assert uid not in self.held or self.held[uid].inode == inode
            self.held[uid] = Held(pods[uid], inode)
            self.redirected.add(inode)


class Reads(RuleBasedStateMachine):
    """Objects change, are read, and captures follow."""

    def __init__(self) -> None:
        super().__init__()
        self.pods: dict[str, Workload] = {}
        self.labels: dict[str, str] = dict.fromkeys(NAMESPACES, "enabled")
        self.kernel = Kernel()
        self.registry = Registry(NODE, TrustDomain("td"))
        self.uids = 0
        self.complete = True
        self.view: NodeView | None = None
        self.read: Objects = Objects()
        self.before: set[Inode] = set()
        self.gone: set[str] = set()
        self.tried: set[str] = set()
        self.certified: set[str] = set()
        self.served_before: dict[Inode, Workload] = {}

    @initialize()
    def three_pods_are_captured(self) -> None:
        for name, path, address in zip(NAMES, PATHS, ADDRESSES, strict=False):
            self.a_pod_is_made_or_made_anew(name, "shop", path, [address], "x", "")
        self.all_is_read(frozenset())
        assert len(self.kernel.held) == len(NAMES)

    # What changes.

    @rule(
        name=names,
        namespace=st.sampled_from(NAMESPACES),
        path=st.sampled_from((*PATHS, None)),
        addresses=st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True),
        account=st.sampled_from(("x", "y")),
        label=st.sampled_from(("", "enabled", "disabled")),
    )
    def a_pod_is_made_or_made_anew(
        self,
        name: str,
        namespace: str,
        path: str | None,
        addresses: list[object],
        account: str,
        label: str,
    ) -> None:
        self.uids += 1
        self.pods[name] = Workload(
            uid=f"u{self.uids}",
            namespace=namespace,
            name=name,
            node=NODE,
            service_account=account,
            addresses=tuple(addresses),  # type: ignore[arg-type]
            labels={MESH_LABEL: label} if label else {},
            netns=path,
        )

    @rule(
        name=names,
        change=st.sampled_from(
            (
                {"service_account": "z"},
                {"addresses": (ADDRESSES[0],)},
                {"addresses": ()},
                {"netns": None},
                {"netns": PATHS[0]},
                {"netns": PATHS[1]},
                {"labels": {MESH_LABEL: "disabled"}},
                {"labels": {}},
                {"finished": True},
                {"terminating": True},
                {"uid": "same"},
            )
        ),
    )
    def a_pod_changes(self, name: str, change: dict[str, object]) -> None:
        if name in self.pods:
            self.pods[name] = replace(self.pods[name], **change)  # type: ignore[arg-type]

    @rule(name=names, other=names)
    def two_change_names(self, name: str, other: str) -> None:
        """Two objects contradict each other, or one passes to the next."""
        if name in self.pods:
            self.pods[other] = replace(self.pods[name], name=other)

    @rule(name=names)
    def a_pod_goes(self, name: str) -> None:
        self.pods.pop(name, None)

    @rule(namespace=st.sampled_from(NAMESPACES), label=st.sampled_from(("", "enabled")))
    def a_namespace_changes(self, namespace: str, label: str) -> None:
        self.labels[namespace] = label

    @rule(path=st.sampled_from(PATHS))
    def a_network_namespace_is_made_anew(self, path: str) -> None:
        self.kernel.made += 1
        self.kernel.inodes[path] = (4, self.kernel.made)

    @rule(path=st.sampled_from(PATHS))
    def a_path_goes(self, path: str) -> None:
        self.kernel.inodes.pop(path, None)

    @rule(account=st.sampled_from("xyz"), issued=st.booleans())
    def a_certificate_comes_or_ends(self, account: str, issued: bool) -> None:
        (self.certified.add if issued else self.certified.discard)(account)

    # What is read.

    @rule(failing=uids)
    def all_is_read(self, failing: frozenset[str]) -> None:
        self._read(self.pods.values(), NAMESPACES, failing, complete=True)

    @rule(
        absent=st.frozensets(names),
        namespaces=st.frozensets(st.sampled_from(NAMESPACES)),
        failing=uids,
    )
    def a_part_is_read(
        self,
        absent: frozenset[str],
        namespaces: frozenset[str],
        failing: frozenset[str],
    ) -> None:
        pods = [pod for name, pod in self.pods.items() if name not in absent]
        self._read(pods, namespaces, failing, complete=False)

    def _read(
        self,
        pods: object,
        namespaces: object,
        failing: frozenset[str],
        *,
        complete: bool,
    ) -> None:
        kernel = self.kernel
        self.before, self.tried = set(kernel.redirected), set(kernel.passed_on)
        self.served_before = {each.inode: each.pod for each in kernel.held.values()}
        self.complete = complete
        self.read = Objects(
            workloads=tuple(pods),  # type: ignore[arg-type]
            namespaces=tuple(
                Namespace(name, {MESH_LABEL: self.labels[name]})
                for name in namespaces  # type: ignore[attr-defined]
            ),
        )
        if complete:
            self.gone |= kernel.held.keys() - {pod.uid for pod in self.read.workloads}
        captured = {uid: each.pod for uid, each in kernel.held.items()}
        objects = with_retained(self.read, captured, complete=complete)
        before = self.view.workloads if self.view else ()
        stays = staying(before, captured, complete=complete)
        self.view = view = self.registry.apply(objects, stays)
        wanted = plan(
            kernel.held,
            view.pods,
            view.unplaced,
            kernel.inode_at,
            lambda pod: pod.service_account in self.certified,
            complete=complete,
        )
        self.change_accounts(kernel.held, wanted)
        kernel.carry_out(wanted, wanted.pods, failing)

    def change_accounts(self, held: Mapping[str, Held], wanted: Plan) -> None:
        """An account that has a certificate passes to one that has one, or waits."""
        for uid, each in held.items():
            now = wanted.pods.get(uid, each.pod).service_account
            was = each.pod.service_account
            assert now == was or now in self.certified or was not in self.certified

    # What holds after every step.

    @invariant()
    def nothing_is_released_in_part(self) -> None:
        if not self.complete:
            assert self.before <= self.kernel.redirected

    @invariant()
    def what_is_released_has_no_pod_of_the_mesh(self) -> None:
        if self.view is None:
            return
        enrolled = {self.kernel.inode_at(p.netns) for p in self.view.pods.values()}
        assert not (self.before - self.kernel.redirected) & enrolled

    @invariant()
    def in_part_no_namespace_passes_to_another_pod(self) -> None:
        if self.complete:
            return
        for each in self.kernel.held.values():
            before = self.served_before.get(each.inode, each.pod)
            same = before.uid == each.pod.uid or before.key == each.pod.key
            # Its own object was read, and says that it is elsewhere.
            read = {name for pod in self.read.workloads for name in (pod.uid, pod.key)}
            known = {before.uid, before.key} & (read | self.gone | self.tried)
            assert same or known

    @invariant()
    def no_address_has_two_holders(self) -> None:
        if self.view is None:
            return
        held = [ip for pod in self.view.pods.values() for ip in pod.addresses]
        assert len(held) == len(set(held))

    @invariant()
    def who_can_be_captured_is(self) -> None:
        """What is served is redirected."""
        for each in self.kernel.held.values():
            assert each.inode in self.kernel.redirected


Reads.TestCase.settings = settings(
    max_examples=400, stateful_step_count=30, derandomize=True
)
TestReads = Reads.TestCase


def test_one_whose_path_leads_to_another_pods_namespace_is_not_released() -> None:
    """Two are said to be in one namespace; the second may be where it was."""
    one, two = (
        Workload(f"u{n}", "shop", f"p{n}", NODE, "x", (), netns=path)
        for n, path in enumerate(PATHS[:2])
    )
    held = {"u0": Held(one, (4, 0)), "u1": Held(two, (4, 1))}
    inodes = dict.fromkeys(PATHS, (4, 0))

    wanted = plan(
        held,
        {"u0": one, "u1": two},
        (),
        lambda path: inodes.get(path or ""),
        complete=True,
    )

    assert not wanted.release
    assert wanted.leave == {"u1"}


def test_nor_is_one_that_got_the_path_of_the_pod_that_is_there() -> None:
    """The other one lost the path, and is unplaced; its namespace is its own still."""
    one, two = (
        Workload(f"u{n}", "shop", f"p{n}", NODE, "x", (), netns=PATHS[0])
        for n in range(2)
    )
    held = {"u0": Held(one, (4, 0)), "u1": Held(two, (4, 1))}

    wanted = plan(held, {"u0": one}, {"u1"}, lambda _: (4, 1), complete=True)

    assert not wanted.release
    assert "u0" in wanted.leave
