"""Verdicts in the kernel follow policy: learned, withdrawn, revoked in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import replace

import pytest

from agent.addresses import DeliveryAddress, SocketAddress, parse_ip
from agent.app.direct import PAIRS_PER_POD, Direct
from agent.app.tracer import Message
from agent.app.world import World
from agent.errors import KernelError
from agent.policy.rule import DefaultPolicy
from agent.redirect.inet_diag import DiagSocket, TcpState
from agent.redirect.records import Glance
from agent.workload.connection import Endpoint
from agent.workload.direct import Pair
from agent.workload.directory import Directory, Peer, VirtualService
from agent.workload.directory import Endpoint as Backend
from tests.unit.workload.test_direct import API, TO_API, WEB, identity, opened, policy

AT = TO_API.destination
SERVICE = SocketAddress.parse("10.96.0.1:80")
FDS = {1: 101, 2: 102}


class FakeMaps:
    """Maps that note every step."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.table: dict[tuple[int, SocketAddress], int] = {}
        self.there: dict[int, int] = {}
        self.services: dict[SocketAddress, tuple[SocketAddress, ...]] = {}
        self.seen: list[Glance] = []
        self.lost = 0

    def permit(
        self, netns: int, destination: SocketAddress, verdict: int, there: int
    ) -> None:
        self.steps.append(f"permit {netns} {destination}")
        self.table[netns, destination] = verdict
        self.there[verdict] = there

    def withdraw(self, netns: int, destination: SocketAddress) -> None:
        self.steps.append(f"withdraw {netns} {destination}")
        self.table.pop((netns, destination), None)

    def verdicts(self) -> dict[tuple[int, SocketAddress], int]:
        return dict(self.table)

    def forget_notes(self, verdicts: Collection[int]) -> None:
        self.steps.append("forget notes")

    def serve(self, wanted: Mapping[SocketAddress, Sequence[SocketAddress]]) -> None:
        self.services = {at: tuple(endpoints) for at, endpoints in wanted.items()}

    def forget_services(self) -> None:
        self.services = {}

    def glances(self) -> list[Glance]:
        return list(self.seen)

    def forget_trace(self, cookie: int) -> bool:
        before = len(self.seen)
        self.seen = [each for each in self.seen if each.cookie != cookie]
        return len(self.seen) < before

    def unrecorded(self) -> int:
        return self.lost


class FakeSockets:
    """Sockets by namespace, destroyed when they are chosen."""

    def __init__(self, steps: list[str]) -> None:
        self.steps = steps
        self.live: dict[int, list[DiagSocket]] = {}
        self.fault: str | None = None

    def probe(self) -> None:
        if self.fault:
            raise KernelError(self.fault)

    def list_sockets(self, netns_fd: int) -> list[DiagSocket]:
        return self.live.get(netns_fd, [])

    def destroy_sockets(
        self,
        netns_fd: int,
        choose: Callable[[DiagSocket], bool],
        ports: Set[int] | None = None,
    ) -> int:
        self.steps.append(f"destroy in {netns_fd}")
        if self.fault:
            raise KernelError(self.fault)
        live = self.live.get(netns_fd, [])

        def ends(each: DiagSocket) -> bool:
            some = ports is None or ports & {each.local.port, each.remote.port}
            return bool(some) and choose(each)

        self.live[netns_fd] = [each for each in live if not ends(each)]
        return len(live) - len(self.live[netns_fd])


class Bench:
    def __init__(self, *, enabled: bool = True) -> None:
        self.maps = FakeMaps()
        self.sockets = FakeSockets(self.maps.steps)
        self.notes: list[tuple[str, str, str]] = []
        self.told: list[Message] = []
        self.direct = self.made(enabled=enabled)

    def made(self, *, enabled: bool = True) -> Direct:
        return Direct(
            self.maps,
            self.sockets,
            lambda *event: self.notes.append(event),
            self.told.append,
            enabled=enabled,
        )

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.notes]


def socket_at(local: str, remote: str) -> DiagSocket:
    ends = (SocketAddress.parse(local), SocketAddress.parse(remote))
    return DiagSocket(2, TcpState.ESTABLISHED, *ends, local.encode(), 1)


WORLD = World((WEB, API), FDS, frozenset({WEB.identity, API.identity}))
CUT_OFF = replace(WORLD, residents=(WEB, replace(API, policy=policy())))
HEARD = policy(access=DefaultPolicy.AUDIT)
AUDITED = replace(WORLD, residents=(WEB, replace(API, policy=HEARD)))
CLIENT = socket_at("10.0.0.1:40000", "10.0.0.2:80")
SERVER = socket_at("10.0.0.2:80", "10.0.0.1:40000")


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.direct.start()
    bench.direct.refresh(WORLD)
    return bench


@pytest.fixture
def learned(bench: Bench) -> Bench:
    bench.direct.learn(opened())
    assert bench.direct.pairs == 1
    bench.maps.steps.clear()
    return bench


class TestLearn:
    def test_a_permitted_pair(self, bench: Bench) -> None:
        """The verdict is about the namespace that the destination is captured in."""
        assert not bench.maps.table
        bench.direct.learn(opened())
        ((key, verdict),) = bench.maps.table.items()
        assert key == (1, AT)
        assert bench.maps.there[verdict] == API.netns

    def test_once(self, learned: Bench) -> None:
        """A second connection of the pair changes nothing."""
        learned.direct.learn(opened(id="2"))
        assert not learned.maps.steps

    def test_not_what_is_audited(self, bench: Bench) -> None:
        """Each of those goes by tunnel."""
        bench.direct.refresh(AUDITED)
        bench.direct.learn(opened())
        assert not bench.maps.table

    def test_audited_from_now_on(self, learned: Bench) -> None:
        """New connections go by tunnel, open ones go on."""
        learned.sockets.live = {101: [CLIENT], 102: [SERVER]}
        learned.direct.refresh(AUDITED)
        assert not learned.maps.table
        assert learned.sockets.live == {101: [CLIENT], 102: [SERVER]}
        learned.direct.refresh(WORLD)
        assert learned.direct.pairs == 1

    def test_a_worker_is_not_believed(self, bench: Bench) -> None:
        """What policy does not permit is not direct, whatever a worker says."""
        bench.direct.refresh(CUT_OFF)
        bench.direct.learn(opened())
        assert not bench.maps.table

    @pytest.mark.parametrize("port", [15001, 15006, 15008])
    def test_never_the_agents_own_ports(self, bench: Bench, port: int) -> None:
        """They are not the application's."""
        bench.direct.learn(opened(destination=Endpoint(f"10.0.0.2:{port}")))
        assert not bench.maps.table

    def test_so_many_a_pod(self, bench: Bench) -> None:
        """A pod that opens every port does not fill the map."""
        for port in range(20_000, 20_000 + PAIRS_PER_POD + 5):
            bench.direct.learn(opened(destination=Endpoint(f"10.0.0.2:{port}")))
        assert len(bench.maps.table) == PAIRS_PER_POD

    def test_not_when_it_is_not_wanted(self) -> None:
        """The default is tunnels."""
        bench = Bench(enabled=False)
        bench.direct.start()
        bench.direct.refresh(WORLD)
        bench.direct.learn(opened())
        assert not bench.maps.table

    def test_not_when_nothing_could_be_revoked(self) -> None:
        """A kernel that destroys no sockets: tunnels, and an event that says so."""
        bench = Bench()
        bench.sockets.fault = "destroy a socket: Operation not supported"
        bench.direct.start()
        bench.sockets.fault = None
        bench.direct.refresh(WORLD)
        bench.direct.learn(opened())
        assert not bench.maps.table
        assert bench.kinds == ["direct-unavailable"]
        assert "not supported" in (bench.direct.why_not or "")

    def test_the_service_in_front_of_it(self, bench: Bench) -> None:
        """Is given to the kernel with the verdict, and taken away with it."""
        backend = Backend(DeliveryAddress(AT), "u-api")
        services = {SERVICE: VirtualService("shop/api", 80, (backend,))}
        world = replace(WORLD, directory=Directory(services=services))
        bench.direct.refresh(world)
        assert not bench.maps.services
        bench.direct.learn(opened())
        assert bench.maps.services == {SERVICE: (AT,)}
        bench.direct.refresh(replace(CUT_OFF, directory=world.directory))
        assert not bench.maps.services


class TestRevoke:
    def test_the_verdict_goes_before_the_sockets(self, learned: Bench) -> None:
        """So that none is made while they are being looked for; both ends, twice."""
        learned.direct.refresh(CUT_OFF)
        steps = learned.maps.steps
        assert steps[:2] == [f"withdraw 1 {AT}", "forget notes"]
        for sweep in (steps[2:4], steps[4:]):
            assert sorted(sweep) == ["destroy in 101", "destroy in 102"]
        assert learned.direct.pairs == 0

    def test_only_its_own_sockets(self, learned: Bench) -> None:
        """Others of the same pods live on, and the tunnels between them."""
        others = [
            socket_at("10.0.0.1:40001", "10.0.0.2:81"),
            socket_at("10.0.0.1:40002", "10.0.0.2:15008"),
            socket_at("10.0.0.1:40003", "10.9.9.9:80"),
        ]
        serving = [
            socket_at("10.0.0.2:80", "10.0.0.3:40000"),  # another client
            socket_at("10.0.0.2:80", "10.0.0.2:40000"),  # delivered by the agent
        ]
        learned.sockets.live = {101: [CLIENT, *others], 102: [SERVER, *serving]}
        learned.direct.refresh(CUT_OFF)
        assert learned.sockets.live == {101: others, 102: serving}
        ((kind, name, text),) = learned.notes
        assert (kind, name) == ("direct-revoked", "shop/api")
        assert "2 sockets" in text
        assert "no authorization of Server shop/api" in text

    def test_many_at_once(self, learned: Bench) -> None:
        """Every namespace is swept twice, however many pairs were revoked."""
        clients = [CLIENT]
        for port in range(81, 181):
            learned.direct.learn(opened(destination=Endpoint(f"10.0.0.2:{port}")))
            clients.append(socket_at(f"10.0.0.1:{port}", f"10.0.0.2:{port}"))
        assert learned.direct.pairs == 101
        learned.sockets.live = {101: clients}
        learned.maps.steps.clear()
        learned.direct.refresh(replace(WORLD, residents=(API,)))
        swept = [step for step in learned.maps.steps if "destroy" in step]
        assert sorted(swept) == ["destroy in 101"] * 2 + ["destroy in 102"] * 2
        assert learned.sockets.live[101] == []

    def test_what_fails_is_tried_again(self, learned: Bench) -> None:
        """Also when nothing else has changed since."""
        learned.sockets.live = {101: [CLIENT]}
        learned.sockets.fault = "no memory"
        learned.direct.refresh(CUT_OFF)
        assert learned.kinds == ["revocation-failed"]
        assert not learned.maps.table
        learned.sockets.fault = None
        learned.direct.refresh(CUT_OFF)
        assert learned.sockets.live[101] == []
        assert learned.kinds[-1] == "direct-revoked"

    def test_nothing_changed(self, learned: Bench) -> None:
        """Looking again costs the kernel nothing."""
        learned.direct.refresh(replace(WORLD))
        assert not learned.maps.steps

    def test_a_pod_that_left(self, learned: Bench) -> None:
        """Its namespace is open still, and its sockets end there."""
        learned.sockets.live = {101: [CLIENT], 102: [SERVER]}
        learned.direct.refresh(replace(WORLD, residents=(API,)))
        assert learned.sockets.live == {101: [], 102: []}

    def test_permitted_again_it_must_be_learned_again(self, learned: Bench) -> None:
        """Under a new id: nothing of before is valid."""
        (before,) = learned.maps.table.values()
        learned.direct.refresh(CUT_OFF)
        learned.direct.refresh(WORLD)
        assert not learned.maps.table
        learned.direct.learn(opened())
        (after,) = learned.maps.table.values()
        assert after != before


class TestCertificates:
    def test_none_no_new_connections(self, learned: Bench) -> None:
        """Live ones go on, as in tunnels; when it is back, so is the verdict."""
        learned.sockets.live = {101: [CLIENT]}
        learned.direct.refresh(replace(WORLD, certified=frozenset({WEB.identity})))
        assert not learned.maps.table
        assert learned.sockets.live[101] == [CLIENT]
        learned.direct.refresh(WORLD)
        assert list(learned.maps.table) == [(1, AT)]

    def test_a_policy_that_changes_meanwhile(self, learned: Bench) -> None:
        """Live ones are judged all the same."""
        learned.sockets.live = {101: [CLIENT]}
        uncertified = replace(WORLD, certified=frozenset())
        learned.direct.refresh(uncertified)
        learned.direct.refresh(replace(CUT_OFF, certified=frozenset()))
        assert learned.sockets.live[101] == []


class TestEarlierAgent:
    @pytest.fixture
    def restarted(self) -> Bench:
        """A kernel with a verdict, and an agent that has just started."""
        bench = Bench()
        bench.maps.table = {(1, AT): 55}
        bench.sockets.live = {101: [CLIENT], 102: [SERVER]}
        bench.direct.start()
        return bench

    def test_nothing_is_in_force_until_it_is_judged(self, restarted: Bench) -> None:
        """From the start on, and before any pod is captured."""
        assert not restarted.maps.table

    def test_what_is_permitted_goes_on(self, restarted: Bench) -> None:
        """Under its old id, so that its record is whole."""
        restarted.direct.refresh(WORLD)
        restarted.direct.settle_earlier()
        assert restarted.maps.table == {(1, AT): 55}
        assert restarted.sockets.live == {101: [CLIENT], 102: [SERVER]}

    def test_what_is_not_ends(self, restarted: Bench) -> None:
        """At both ends."""
        restarted.direct.refresh(CUT_OFF)
        restarted.direct.settle_earlier()
        assert not restarted.maps.table
        assert restarted.sockets.live == {101: [], 102: []}

    def test_of_a_pod_that_is_not_captured_any_more(self, restarted: Bench) -> None:
        """Its connections end at the server, and no captured pod's do."""
        till = replace(WEB, uid="u-till", netns=3, addresses=(parse_ip("10.0.0.3"),))
        other = socket_at("10.0.0.2:80", "10.0.0.3:40000")
        restarted.sockets.live[102].append(other)
        peers = {WEB.addresses[0]: _peer()}
        world = replace(WORLD, residents=(API, till), directory=Directory(peers=peers))
        restarted.direct.refresh(world)
        restarted.direct.settle_earlier()
        assert restarted.sockets.live[102] == [other]

    def test_ends_when_tunnels_are_asked_for(self) -> None:
        """`same_node: tunnel` after `direct` leaves nothing direct behind."""
        bench = Bench()
        bench.maps.table = {(1, AT): 55}
        bench.sockets.live = {101: [CLIENT], 102: [SERVER]}
        direct = bench.made(enabled=False)
        direct.start()
        direct.refresh(WORLD)
        direct.settle_earlier()
        assert bench.sockets.live == {101: [], 102: []}
        assert not bench.maps.table


def _peer() -> Peer:
    return Peer("u-web", "shop/web", identity("web"), WEB.addresses, True, "n1")


def test_a_pair_is_a_namespace_and_an_address() -> None:
    """Two pods that share nothing do not share a verdict."""
    assert Pair(1, AT) != Pair(2, AT)
