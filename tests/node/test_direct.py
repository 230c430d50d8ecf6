"""Same node, direct: one agent with real pods, asked through its status socket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.demo.calls import Program, curl, logged_client, never_logged, url
from tests.lab import apps, manifests, names, system
from tests.lab.manifests import DEFAULT_INBOUND, Manifest, ManifestDirectory
from tests.lab.names import DualStack
from tests.lab.node import Agent, Document
from tests.lab.pod import Pod
from tests.lab.topology import Lab, random_run
from tests.patience import patient

pytestmark = pytest.mark.slow

SHOP: Final = "shop"
PAGE: Final = "api says hello\n" * 100
CALLERS: Final = ("web", "courier")


@dataclass(slots=True)
class Shop:
    """web, courier and batch, who call api, heard and twin; all on one node."""

    lab: Lab
    pods: dict[str, Pod]
    directory: ManifestDirectory
    agent: Agent

    @property
    def service(self) -> str:
        return names.service_address(0).v4

    def write_pods(self, *gone: str, more: tuple[Manifest, ...] = ()) -> None:
        """Everybody but these, and some more, at one time."""
        objects = [manifests.namespace(SHOP)]
        for name, pod in self.pods.items():
            if name not in gone:
                told = {DEFAULT_INBOUND: "audit"} if name == "heard" else {}
                objects.append(manifests.pod(pod, annotations=told))
        objects.append(manifests.service("api", SHOP, 0, main=apps.HTTP_PORT))
        self.directory.write("world", *objects, *more)

    def let_in(self, *accounts: str, access: str = "deny") -> None:
        """Who may call api and twin, and what becomes of the others."""
        self.directory.write(
            "policy",
            *(
                rule
                for name in ("api", "twin")
                for rule in (
                    manifests.server(name, SHOP, name, apps.HTTP_PORT, access),
                    manifests.authorization_policy(name, SHOP, name, name),
                    manifests.mesh_tls_authentication(name, SHOP, *accounts),
                )
            ),
        )

    def pairs(self) -> int:
        pairs: int = self.agent.ask("status")["same_node"]["pairs"]
        return pairs

    def connections(self, path: str = "direct") -> list[Document]:
        """What `podlock connections --json` says of a path, oldest first."""
        document = self.agent.ask("connections")
        both = [*document["recent"], *document["open"]]
        return [each for each in both if each["path"] == path]

    def open(self, source: str) -> list[Document]:
        told = self.agent.ask("connections")["open"]
        mine = [each for each in told if each["source"]["workload"] == f"shop/{source}"]
        return [each for each in mine if each["path"] == "direct"]

    def call(self, source: str, to: str) -> bool:
        return curl(self.pods[source], url(to)).served

    def warm(self, source: str, to: str) -> None:
        """Call until the pair talks directly."""
        before = self.pairs()
        assert self.call(source, to)
        system.wait_until(lambda: self.pairs() > before, "a verdict", 3)

    def hold(self, source: str, to: str) -> Program:
        """A live direct connection that asks five times a second."""
        held = Program(self.pods[source], "hold", to, apps.HTTP_PORT)
        held.wait("answer")
        system.wait_until(lambda: self.open(source), "an open direct connection", 4)
        return held


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Lab(random_run()) as lab:
        node = lab.nodes["n1"]
        pods = {
            name: node.add_pod(name, SHOP)
            for name in ("web", "courier", "batch", "api", "heard", "twin")
        }
        directory = ManifestDirectory(Path(lab.directory) / "manifests")
        agent = Agent(lab, node, directory.path, settings={"same_node": "direct"})
        shop = Shop(lab, pods, directory, agent)
        shop.write_pods()
        shop.let_in(*CALLERS)
        for name in ("api", "heard", "twin"):
            apps.start_nginx(pods[name], {"index.html": PAGE})
        agent.start()
        wait_captured(shop)
        yield shop


def wait_captured(shop: Shop, count: int = 6) -> None:
    def all_are() -> bool:
        status = shop.agent.ask("status")
        return bool(status["ready"] and status["counts"]["captured"] == count)

    system.wait_until(all_are, "every pod captured", 15)


class TestRecords:
    def test_first_by_tunnel_then_direct(self, shop: Shop) -> None:
        """The second connection passes the agent by, and is told all the same."""
        web, api = shop.pods["web"], shop.pods["api"]
        shop.warm("web", api.address.v4)
        assert not shop.connections()
        assert shop.connections("tunnel")

        assert curl(web, url(api.address.v4, "/?direct")).served

        (told,) = system.wait_until(shop.connections, "a direct connection", 3)
        assert told["outcome"] == "closed"
        assert told["worker"] is None
        assert told["source"]["workload"] == "shop/web"
        assert told["source"]["identity"].endswith("/ns/shop/sa/web")
        assert told["destination"]["workload"] == "shop/api"
        assert told["destination"]["address"] == f"{api.address.v4}:80"
        assert told["rule"] == "AuthorizationPolicy shop/api"
        assert told["received_bytes"] > len(PAGE)
        assert 0 < told["sent_bytes"] < 1000
        client, _ = logged_client(api, "/?direct")
        assert client == web.address.v4
        table = shop.agent.command("connections").stdout
        assert "direct" in table
        assert "same node" in shop.agent.command("status").stdout

    @pytest.mark.parametrize("version", ["v4", "v6"])
    def test_by_service_address(self, shop: Shop, version: str) -> None:
        """The application sees the service, the record names it."""
        service = getattr(names.service_address(0), version)
        shop.warm("web", service)
        answer = curl(shop.pods["web"], url(service))
        assert answer.served
        assert answer.remote == service
        (told,) = system.wait_until(shop.connections, "a direct connection", 3)
        assert told["destination"]["service"] == "shop/api"
        assert told["destination"]["workload"] == "shop/api"

    def test_open_ones_are_counted(self, shop: Shop) -> None:
        """Bytes of a live connection grow while it is asked for."""
        to = shop.pods["api"].address.v4
        shop.warm("web", to)
        held = shop.hold("web", to)
        (first,) = shop.open("web")
        held.wait("answer", 8)
        (second,) = shop.open("web")
        held.kill()
        assert 0 < first["received_bytes"] < second["received_bytes"]
        assert first["id"] == second["id"]
        assert second["state"] == "relaying"

    def test_who_may_not_stays_out(self, shop: Shop) -> None:
        """A refused pod gets no verdict by it, nor by what its neighbour may."""
        to = shop.pods["api"].address.v4
        shop.warm("web", to)
        assert not shop.call("batch", to)
        assert shop.pairs() == 1

    def test_audit_is_never_direct(self, shop: Shop) -> None:
        """Where each connection must be told by itself, each goes by tunnel."""
        for _ in range(3):
            assert shop.call("web", shop.pods["heard"].address.v4)
        assert shop.pairs() == 0
        audits = [e for e in shop.agent.ask("events")["events"] if e["kind"] == "audit"]
        assert len(audits) == 3


class TestRevocation:
    def test_policy_change_ends_it_within_a_second(self, shop: Shop) -> None:
        """The connection that lost its permit ends, with the rule; its like goes on."""
        to = shop.pods["api"].address.v4
        for name in CALLERS:
            shop.warm(name, to)
        web, courier = (shop.hold(name, to) for name in CALLERS)
        began = time.monotonic()
        shop.let_in("courier")
        ended = web.wait("closed")
        assert ended["at"] - began < patient(1.0)
        assert ended["why"] in ("ConnectionAbortedError", "ConnectionResetError")
        answers = len(courier.told("answer"))
        courier.wait("answer", answers + 2)
        courier.kill()
        assert not shop.call("web", to)
        assert shop.pairs() == 1

        def told() -> Document | None:
            refused = [e for e in shop.connections() if e["outcome"] == "refused"]
            return refused[0] if refused else None

        refusal = system.wait_until(told, "the revoked connection", 3)
        assert refusal["source"]["workload"] == "shop/web"
        assert "no authorization of Server shop/api" in refusal["reason"]
        assert refusal["rule"] == "Server shop/api"
        assert refusal["received_bytes"] > 0

    def test_permitted_becomes_audited(self, shop: Shop) -> None:
        """An open connection goes on, told as audited; new ones go by tunnel."""
        to = shop.pods["api"].address.v4
        shop.warm("web", to)
        held = shop.hold("web", to)
        shop.let_in("courier", access="audit")
        system.wait_until(lambda: shop.pairs() == 0, "no verdict", 3)
        rule = "Server shop/api accessPolicy audit"

        def audited() -> list[Document]:
            return [each for each in shop.open("web") if each["audit"] == rule]

        system.wait_until(audited, "told as audited", 4)
        held.wait("answer", len(held.told("answer")) + 2)
        assert not held.told("closed")
        assert shop.call("web", to)
        by_tunnel = [each["audit"] for each in shop.connections("tunnel")]
        assert by_tunnel.count(rule) == 1
        assert shop.pairs() == 0
        (told,) = shop.agent.ask("status")["audited"]
        assert (told["workload"], told["rule"]) == ("shop/api", rule)
        assert told["connections"] == 2
        held.kill()

    def test_permitted_again(self, shop: Shop) -> None:
        """After a revocation the pair learns anew, by tunnel first."""
        to = shop.pods["api"].address.v4
        shop.warm("web", to)
        shop.let_in("courier")
        system.wait_until(lambda: shop.pairs() == 0, "revoked", 3)
        shop.let_in(*CALLERS)
        system.wait_until(lambda: shop.call("web", to), "permitted again", 3)
        system.wait_until(lambda: shop.pairs() == 1, "a verdict", 3)

    def test_a_pod_that_leaves(self, shop: Shop) -> None:
        """Its live direct connections end, whichever end it was."""
        to = shop.pods["api"].address.v4
        shop.warm("web", to)
        held = shop.hold("web", to)
        shop.write_pods("web")
        held.wait("closed")
        system.wait_until(lambda: shop.pairs() == 0, "no verdict", 3)

    def test_an_address_that_is_used_again(self, shop: Shop) -> None:
        """The pod that gets an address gets no connection of the one that had it."""
        api, twin = shop.pods["api"], shop.pods["twin"]
        at = api.address
        shop.warm("web", at.v4)
        held = shop.hold("web", at.v4)

        readdress(api, remove=at)
        readdress(twin, remove=twin.address, add=at)
        system.run("ip", "-n", shop.pods["web"].netns.name, "neigh", "flush", "all")
        moved = manifests.pod(twin)
        moved["status"]["podIP"] = at.v4
        moved["status"]["podIPs"] = [{"ip": address} for address in at]
        shop.write_pods("api", "twin", more=(moved,))

        held.wait("closed")
        system.wait_until(lambda: shop.call("web", at.v4), "twin at that address", 5)
        newest = shop.connections("tunnel")[-1]
        assert newest["destination"]["workload"] == "shop/twin"
        system.wait_until(lambda: shop.pairs() == 1, "a verdict of its own", 3)


def readdress(pod: Pod, remove: DualStack, add: DualStack | None = None) -> None:
    """Take a pod's addresses away, and give it others."""
    gateway = names.gateway_address(1)
    lines = [
        f"address del {remove.v4}/24 dev eth0",
        f"address del {remove.v6}/64 dev eth0",
    ]
    if add:
        lines += [
            f"address add {add.v4}/24 dev eth0",
            f"address add {add.v6}/64 dev eth0 nodad",
            f"route replace default via {gateway.v4}",
            f"route replace ::/0 via {gateway.v6}",
        ]
    system.ip_batch(pod.netns.name, lines)


def test_an_address_that_passed_on_without_a_word(shop: Shop) -> None:
    """
    No object changes, and the new holder is not captured: nothing is said to it, and
    the connection is reset.
    """
    api, twin = shop.pods["api"], shop.pods["twin"]
    at = api.address
    shop.write_pods("twin")
    wait_captured(shop, 5)
    shop.warm("web", at.v4)

    readdress(api, remove=at)
    readdress(twin, remove=twin.address, add=at)
    system.run("ip", "-n", shop.pods["web"].netns.name, "neigh", "flush", "all")

    assert not shop.call("web", at.v4)
    assert never_logged(twin, "/")

    def is_reported() -> bool:
        events = shop.agent.ask("events")["events"]
        return any("does not have" in each["message"] for each in events)

    system.wait_until(is_reported, "the moved address reported", 10)


class TestOutage:
    def test_without_an_agent(self, shop: Shop) -> None:
        """New ones are refused; what lives on is judged by the next agent."""
        to = shop.pods["api"].address.v4
        for name in CALLERS:
            shop.warm(name, to)
        web, courier = (shop.hold(name, to) for name in CALLERS)

        shop.agent.kill()
        shop.agent.socket.unlink()  # httpcore leaks what cannot connect
        assert not shop.call("web", to)
        answers = len(web.told("answer"))
        web.wait("answer", answers + 2)
        shop.let_in("courier")
        shop.agent.start()

        web.wait("closed")
        answers = len(courier.told("answer"))
        courier.wait("answer", answers + 2)
        (told,) = system.wait_until(lambda: shop.open("courier"), "its record", 4)
        assert told["rule"] == "AuthorizationPolicy shop/api"
        courier.kill()
        assert shop.call("courier", to)
        assert not shop.call("web", to)

    def test_back_to_tunnels(self, shop: Shop) -> None:
        """An agent that is told `tunnel` ends what another one permitted."""
        to = shop.pods["api"].address.v4
        shop.warm("web", to)
        held = shop.hold("web", to)
        shop.agent.stop()
        shop.agent.settings = {"same_node": "tunnel"}
        shop.agent.start()
        wait_captured(shop)
        held.wait("closed")
        for _ in range(2):
            assert shop.call("web", to)
        assert shop.pairs() == 0
        assert shop.agent.ask("status")["same_node"]["mode"] == "tunnel"
