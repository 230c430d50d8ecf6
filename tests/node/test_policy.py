"""
Every default policy against every kind of client, with real traffic.

One pod, `open`, is told each of the six values in turn: as its default on one port,
and as a Server's accessPolicy on another, where `web` and `files` are authorized
besides. What happens is also what `podlock authz check` had said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import pytest

from agent.authz.check import check
from agent.authz.party import clients, servers
from agent.authz.survey import Survey
from agent.cli.authz_source import live
from tests.demo import stage
from tests.demo.calls import Answer, NewConnections, curl
from tests.demo.stage import SHOP, Stage
from tests.lab import apps, manifests, names, system
from tests.lab.node import Document

pytestmark = pytest.mark.slow

VALUES: Final = (
    "all-unauthenticated",
    "cluster-unauthenticated",
    "all-authenticated",
    "cluster-authenticated",
    "deny",
    "audit",
)
SERVED, PLAIN = apps.HTTP_PORT, apps.DUAL_STACK_PORT
"""The port with a Server, and the one without."""
AUTHORIZED: Final = ("web", "files")
RULE: Final = "AuthorizationPolicy shop/open"


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls `open`, which is on n2: a pod, or a node itself."""

    name: str
    meshed: bool
    address: str
    in_cluster: bool = True
    node: str | None = None


def the_clients(world: Stage) -> list[Client]:
    meshed = ("web", "batch", "files", "cache")
    return [
        *(Client(name, True, world.pods[name].address.v4) for name in meshed),
        Client("outsider", False, world.pods["outsider"].address.v4),
        Client("host of n2", False, names.gateway_address(2).v4, node="n2"),
        Client("host of n1", False, names.node_address(1).v4, False, "n1"),
    ]


def expected(value: str, client: Client, port: int) -> tuple[bool, str, str | None]:
    """Allowed or not, the rule, and the words of a refusal or of an audit."""
    if port == SERVED and client.name in AUTHORIZED:
        return True, RULE, None
    rule = f"Pod shop/open default-inbound-policy {value}"
    allowed_by = rule if port == PLAIN else f"Server shop/open accessPolicy {value}"
    denied_by = rule if port == PLAIN else "Server shop/open"
    who = (
        f"identity spiffe://cluster.local/ns/shop/sa/{client.name}"
        if client.meshed
        else f"plaintext from {client.address}"
    )
    anonymous = value.endswith("-authenticated") and not client.meshed
    outside = value.startswith("cluster-") and not client.in_cluster
    if value == "deny" or anonymous or outside:
        return False, denied_by, who
    return True, allowed_by, None


def tell(world: Stage, value: str) -> None:
    """Give `open` this policy, and wait until its agent has it."""
    server = manifests.server("open", SHOP, "open", SERVED, value)
    world.directory.write(
        "open",
        server,
        manifests.authorization_policy("open", SHOP, "open", "open"),
        manifests.mesh_tls_authentication("open", SHOP, *AUTHORIZED),
    )
    defaults = {**stage.DEFAULTS, "open": value}
    world.directory.write("world", *stage.world_objects(world, defaults))

    def in_force() -> bool:
        told = world.agents["n2"].ask("policies", workload="shop/open")["policies"]
        ports = {each["port"]: each["access_policy"] for each in told[0]["ports"]}
        return told[0]["default"] == value and ports.get(SERVED) == value

    system.wait_until(in_force, f"{value} in force", 5)


@pytest.fixture
def policies(world: Stage) -> Iterator[Stage]:
    """The world, and afterwards the policies that it had."""
    try:
        yield world
    finally:
        world.directory.write("world", *stage.world_objects(world))
        if (world.directory.path / "open.yaml").exists():
            world.directory.remove("open")
        system.wait_until(lambda: is_open(world), "policies as before", 5)


def is_open(world: Stage) -> bool:
    told = world.agents["n2"].ask("policies", workload="shop/open")["policies"]
    return told[0]["default"] == stage.DEFAULTS["open"] and not told[0]["ports"]


def call(world: Stage, client: Client, port: int) -> Answer:
    who = world.lab.nodes[client.node] if client.node else world.pods[client.name]
    to = world.pods["open"].address.v4
    return curl(who, f"http://{to}:{port}/")


def find(told: list[Document], client: Client, port: int) -> Document:
    """The one connection of a client to a port."""
    (found,) = (
        each
        for each in told
        if each["source"]["address"].rpartition(":")[0] == client.address
        and each["destination"]["address"].endswith(f":{port}")
    )
    return found


@pytest.mark.parametrize("value", VALUES)
def test_value(policies: Stage, value: str) -> None:
    """Each client on each port: the verdict, the rule, and the reason."""
    world = policies
    tell(world, value)
    agent = world.agents["n2"]
    survey, before = live(agent.socket), audits(world)
    watch = NewConnections(agent, direction="inbound", workload="shop/open")
    everybody = the_clients(world)
    cells = [(client, port) for client in everybody for port in (SERVED, PLAIN)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda cell: call(world, *cell), cells))
    told = watch.wait_for(len(cells))
    audited = 0
    for (client, port), answer in zip(cells, answers, strict=True):
        cell = f"{value}, {client.name}, port {port}"
        allowed, rule, words = expected(value, client, port)
        assert answer.served == allowed, f"{cell}: {answer}"
        connection = find(told, client, port)
        path = "tunnel" if client.meshed else "plaintext"
        assert (connection["path"], connection["rule"]) == (path, rule), cell
        assert (connection["outcome"] == "refused") is not allowed, cell
        if words is not None:
            assert words in connection["reason"], cell
        is_audited = allowed and value == "audit" and rule != RULE
        assert (connection["audit"] is not None) == is_audited, cell
        audited += is_audited
        assert asked(survey, client, port) == (allowed, rule, is_audited), cell
    assert audits(world) - before == expected_audits(world, value, audited)


def asked(survey: Survey, client: Client, port: int) -> tuple[bool, str, bool]:
    """What `podlock authz check` says."""
    (server,) = servers(f"{SHOP}/open", port, survey)
    name = client.address if client.node else client.name
    answers = [
        answer.verdict
        for each in clients(name, survey)
        for answer in check(each, server, survey)
    ]
    (verdict,) = {(each.allowed, each.rule, each.audit) for each in answers}
    return verdict


def audits(world: Stage) -> Counter[str]:
    """What audit let in at `open` so far, as the status and the flows count it."""
    agent = world.agents["n2"]
    status = agent.ask("status")
    flows = agent.ask("seen", workload="shop/open")["flows"]
    return Counter(
        {
            **{
                each["rule"]: each["connections"]
                for each in status["audited"]
                if each["workload"] == "shop/open"
            },
            "in flows": sum(each["audited"] for each in flows),
            "altogether": status["counts"]["audited"],
        }
    )


def expected_audits(world: Stage, value: str, audited: int) -> Counter[str]:
    """Every path that audit let in, by the rule that would deny it."""
    if value != "audit":
        return Counter()
    everybody = len(the_clients(world))
    return Counter(
        {
            "Pod shop/open default-inbound-policy audit": everybody,
            "Server shop/open accessPolicy audit": everybody - len(AUTHORIZED),
            "in flows": audited,
            "altogether": audited,
        }
    )
