"""A service's connections go to who has few; a client that is to stay, stays."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import DeliveryAddress, IPAddress, SocketAddress, parse_ip
from agent.proxy import balance
from agent.proxy.balance import Balancer, rendezvous, two_choices
from agent.proxy.routing import Outside
from agent.workload.directory import Endpoint, VirtualService

CLIENT = parse_ip("10.1.0.1")


def endpoint(number: int) -> Endpoint:
    text = f"10.2.{number // 250}.{number % 250 + 1}:8080"
    return Endpoint(DeliveryAddress(SocketAddress.parse(text)), f"u{number}")


def service(count: int, affinity: int | None = None) -> VirtualService:
    return VirtualService("shop/api", 80, _endpoints(count), affinity)


def _endpoints(count: int) -> tuple[Endpoint, ...]:
    return tuple(endpoint(number) for number in range(count))


def to(chosen: Endpoint) -> Outside:
    return Outside(chosen.address, "shop/api")


def client(number: int) -> IPAddress:
    return parse_ip(f"10.3.{number // 250}.{number % 250 + 1}")


class TestTwoChoices:
    def test_the_one_with_fewer(self) -> None:
        """Of two by chance; chance is an argument."""
        endpoints = _endpoints(3)
        busy: dict[SocketAddress, int] = {
            endpoint(1).address: 5,
            endpoint(2).address: 2,
        }
        told: list[int] = []

        def below(bound: int) -> int:
            told.append(bound)
            return 1 if len(told) == 1 else 0

        chosen = two_choices(endpoints, lambda at: busy.get(at, 0), below)
        assert (chosen, told) == (endpoint(2), [3, 2])

    @given(st.integers(2, 9), st.integers(0), st.integers(0))
    def test_are_two_different_ones(self, count: int, first: int, second: int) -> None:
        """One that is busy is never compared with itself, so never chosen here."""
        numbers = iter([first, second])
        busy = endpoint(first % count).address
        chosen = two_choices(
            _endpoints(count),
            lambda at: 1 if at == busy else 0,
            lambda bound: next(numbers) % bound,
        )
        assert chosen.address != busy

    def test_one_alone(self) -> None:
        """Needs no choice."""
        assert two_choices(_endpoints(1), lambda _: 9, lambda _: 0) == endpoint(0)

    def test_a_slow_backend_gets_little(self) -> None:
        """Its connections stay open, and it is told apart by them alone."""
        balancer = Balancer(random.Random(7).randrange)
        slow, got = endpoint(0), Counter[Endpoint]()
        held = []
        for _ in range(300):
            chosen = balancer.choose(service(3), CLIENT, now=0.0)
            got[chosen] += 1
            counting = balancer.counting(to(chosen))
            counting.__enter__()
            if chosen == slow:
                held.append(counting)
            else:
                counting.__exit__(None, None, None)
        assert got[slow] < 10
        for counting in held:
            counting.__exit__(None, None, None)

    def test_a_connection_that_fails_is_counted_off(self) -> None:
        """Else a backend that refused a while would never be asked again."""
        balancer = Balancer(lambda _: 0)
        for _ in range(3):
            try:
                with balancer.counting(to(endpoint(0))):
                    raise OSError
            except OSError:
                pass
        assert balancer.choose(service(2), CLIENT, now=0.0) == endpoint(0)


class TestAffinity:
    def test_all_workers_agree(self) -> None:
        """Each client has its endpoint, whoever is asked, in whatever order."""
        turned = VirtualService("shop/api", 80, _endpoints(5)[::-1], 60)
        for number in range(50):
            one = Balancer().choose(service(5, 60), client(number), now=0.0)
            other = Balancer().choose(turned, client(number), now=9.0)
            assert one == other

    def test_clients_are_spread(self) -> None:
        """No endpoint is everybody's."""
        got = Counter(
            rendezvous(_endpoints(5), "shop/api", client(n)).peer for n in range(1000)
        )
        assert min(got.values()) > 120

    def test_a_new_endpoint_takes_nobody_away(self) -> None:
        """Who has been here lately stays, though another would rank first now."""
        balancer = Balancer()
        before = {
            n: balancer.choose(service(3, 60), client(n), now=0.0) for n in range(100)
        }
        for number, endpoint_before in before.items():
            now = balancer.choose(service(9, 60), client(number), now=59.0)
            assert now == endpoint_before

    def test_after_the_timeout_the_ranking_counts_again(self) -> None:
        """So long after its last connection, as the Service says."""
        balancer = Balancer()
        moved = [
            n
            for n in range(100)
            if balancer.choose(service(3, 60), client(n), now=0.0)
            != balancer.choose(service(9, 60), client(n), now=60.0)
        ]
        assert moved

    def test_each_connection_begins_the_time_anew(self) -> None:
        """As kube-proxy counts it."""
        balancer = Balancer()
        first = balancer.choose(service(3, 60), CLIENT, now=0.0)
        balancer.choose(service(3, 60), CLIENT, now=50.0)
        assert balancer.choose(service(9, 60), CLIENT, now=100.0) == first

    def test_an_endpoint_that_went_moves_its_own_clients_only(self) -> None:
        """The others hardly notice, on any worker."""
        for number in range(200):
            before = rendezvous(_endpoints(5), "shop/api", client(number))
            after = rendezvous(_endpoints(5)[1:], "shop/api", client(number))
            assert before == after or before == endpoint(0)

    def test_what_is_remembered_has_a_limit(self) -> None:
        """Clients come and go for months."""
        balancer = Balancer()
        for number in range(balance.MAX_REMEMBERED + 100):
            ip = parse_ip(f"fd00::{number:x}")
            balancer.choose(service(2, 60), ip, now=0.0)
        assert len(balancer._stays) == balance.MAX_REMEMBERED
