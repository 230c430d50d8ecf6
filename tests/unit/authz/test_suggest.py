"""What is suggested allows what was seen, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.addresses import parse_ip
from agent.authz.check import check
from agent.authz.compare import compare
from agent.authz.overlay import overlaid
from agent.authz.party import Client, clients
from agent.authz.seen import Flow, Tally
from agent.authz.servers import Server
from agent.authz.suggest import Form, Suggestion, suggest
from agent.authz.survey import Survey
from agent.kube.offline import read_documents

from .samples import (
    api_policy,
    flow,
    namespace,
    pod,
    service,
    setting,
    shop,
    spiffe,
    survey,
)

NODES = ("n1", "n2")
PODS = ("shop/web", "shop/api", "shop/canary", "back/db")
PORTS = (80, 443)
OUTSIDE = ("192.0.2.1", "fd00::9")

Flows = list[tuple[Flow, Tally]]


def cluster(*, canary: str = "api") -> Survey:
    """api and canary share a label, and canary has one more; or it shares none."""
    return survey(
        [
            namespace("shop", default="audit"),
            namespace("back", default="all-unauthenticated"),
            pod("shop/web", "10.0.1.1"),
            pod("shop/api", "10.0.1.2", node="n2"),
            pod("shop/canary", "10.0.1.3", app=canary, track="canary"),
            pod("back/db", "10.0.1.4"),
        ]
    )


def applied(suggestion: Suggestion, to: Survey) -> Survey:
    """The cluster with the suggestion in the place of its policies."""
    documents = (("suggested", document) for document in suggestion.manifests)
    objects = overlaid(to.objects, read_documents(documents), prune=True)
    return Survey.of(objects, setting())


def allowed(client: Client, server: str, port: int, at: Survey) -> bool:
    answers = check(client, Server(at.workloads[server], port), at)
    return all(answer.verdict.allowed for answer in answers)


def everything(at: Survey) -> Iterable[tuple[str, Client]]:
    for name in (*PODS, *OUTSIDE):
        for client in clients(name, at):
            yield str(client.identity or client.addresses[0]), client
    for client in clients(spiffe("ghost"), at, address=parse_ip("10.0.8.8")):
        yield spiffe("ghost"), client


def seen_in(flows: Flows) -> set[tuple[str, str, int]]:
    return {
        (each.client, each.destination, each.port)
        for each, tally in flows
        if tally.allowed
    }


def identity_of(key: str) -> str:
    within, _, name = key.partition("/")
    return spiffe(name, within)


FLOW = st.builds(
    lambda client, to, port, good: flow(
        client, to, port, allowed=int(good), refused=int(not good)
    ),
    st.sampled_from([*(identity_of(key) for key in PODS), *OUTSIDE]),
    st.sampled_from(PODS),
    st.sampled_from(PORTS),
    st.booleans(),
)


@given(st.lists(FLOW, max_size=12))
@settings(deadline=None, max_examples=60)
def test_exactly_what_was_seen(flows: Flows) -> None:
    """Each client, each pod, each port: allowed if and only if it was let in before."""
    before = cluster()
    after = applied(suggest(flows, before, NODES), before)
    good = seen_in(flows)
    for name, client in everything(before):
        for to in PODS:
            if client.pod == to:
                continue
            for port in (*PORTS, 8080):
                found = allowed(client, to, port, after)
                assert found == ((name, to, port) in good), (name, to, port)


@given(st.lists(FLOW, max_size=12))
@settings(deadline=None, max_examples=40)
def test_exactly_in_istios_kinds(flows: Flows) -> None:
    """The same, where no pod has all the labels of another and more."""
    before = cluster(canary="canary")
    suggestion = suggest(flows, before, NODES, "istio")
    assert {each["kind"] for each in suggestion.manifests} <= {"AuthorizationPolicy"}
    assert not suggestion.notes
    after = applied(suggestion, before)
    good = seen_in(flows)
    for name, client in everything(before):
        for to in PODS:
            for port in (*PORTS, 8080):
                if client.pod != to:
                    found = allowed(client, to, port, after)
                    assert found == ((name, to, port) in good), (name, to, port)


def test_a_selector_that_istio_does_not_have() -> None:
    """It is said for whom else the policy holds."""
    suggestion = suggest([flow(spiffe("web"), "shop/api")], cluster(), NODES, "istio")
    (note,) = suggestion.notes
    assert "the policy of shop/api also holds" in note


def test_another_trust_domain() -> None:
    """A reference would mean an account of ours; so it is written out."""
    foreign = "spiffe://example.org/ns/shop/sa/web"
    suggestion = suggest([flow(foreign)], survey(shop()), NODES)
    (made,) = (d for d in suggestion.manifests if d["kind"] == "MeshTLSAuthentication")
    assert made["spec"] == {"identities": [foreign]}


def test_nothing_breaks() -> None:
    """By the comparison that a person would make before applying it."""
    flows = [
        flow(spiffe("web")),
        flow("10.0.9.9"),
        flow(spiffe("batch"), "shop/web", 22),
    ]
    before = survey(shop())
    after = applied(suggest(flows, before, NODES), before)
    assert not compare(flows, before, after).differences


def test_what_was_refused_is_not_suggested() -> None:
    """Seen is what was let in."""
    flows = [flow(spiffe("web"), allowed=0, refused=3)]
    suggestion = suggest(flows, survey(shop()), NODES)
    assert {each["kind"] for each in suggestion.manifests} == {"Namespace"}


class TestRefused:
    """What was refused, or is refused by the present policies, is listed instead."""

    def test_by_the_present_policies(self) -> None:
        """A connection that was let in before the policy came."""
        flows = [flow(spiffe("batch"), allowed=7), flow(spiffe("web"))]
        suggestion = suggest(flows, survey(shop(*api_policy("web"))), NODES)
        (left,) = suggestion.refused
        assert (left.flow.client, left.tally.allowed) == (spiffe("batch"), 7)
        assert "the present policies refuse it" in left.reason
        assert "batch" not in str(suggestion.manifests)

    def test_when_it_was_seen(self) -> None:
        """A connection that the present policies would let in, and that was not."""
        flows = [flow(spiffe("batch"), allowed=0, refused=3)]
        (left,) = suggest(flows, survey(shop()), NODES).refused
        assert left.reason == "it was refused"

    def test_from_one_address_of_two(self) -> None:
        """It stays: from the other one it is let in today."""
        flows = [flow(spiffe("web"), "shop/api", 80, "10.0.1.1", "10.0.1.7")]
        at = survey(shop(*api_policy(cidr="10.0.1.1/32")))
        assert not suggest(flows, at, NODES).refused

    def test_included(self) -> None:
        """On demand."""
        flows = [flow(spiffe("batch"), allowed=0, refused=3)]
        suggestion = suggest(flows, survey(shop()), NODES, include_refused=True)
        assert not suggestion.refused
        assert "batch" in str(suggestion.manifests)


class TestEphemeral:
    """Passive FTP opens a port for each transfer."""

    FTP = tuple(flow(spiffe("web"), port=port) for port in range(30_000, 30_009))

    @pytest.mark.parametrize("form", ["linkerd", "istio"])
    def test_left_out_with_a_note(self, form: Form) -> None:
        """The control port stays."""
        at = survey(shop())
        suggestion = suggest([flow(spiffe("web"), port=21), *self.FTP], at, NODES, form)
        assert "300" not in str(suggestion.manifests)
        assert "21" in str(suggestion.manifests)
        (note,) = suggestion.notes
        assert "9 ports of shop/api from 30000 to 30008" in note

    def test_included(self) -> None:
        """On demand."""
        suggestion = suggest(
            list(self.FTP), survey(shop()), NODES, include_ephemeral=True
        )
        servers = [d for d in suggestion.manifests if d["kind"] == "Server"]
        assert len(servers) == 9

    def test_fixed_ports_stay(self) -> None:
        """Few high ports; ports with many clients; the target of a Service."""
        busy = [
            flow(spiffe(f"c{client}"), port=port)
            for client in range(4)
            for port in range(31_000, 31_009)
        ]
        behind = [
            service(f"shop/s{port}", f"10.96.1.{port - 32_000}", 80, port, "api")
            for port in range(32_001, 32_009)
        ]
        targets = [flow(spiffe("web"), port=port) for port in range(32_001, 32_009)]
        flows = [*self.FTP[:3], *busy, *targets]
        assert not suggest(flows, survey(shop(*behind)), NODES).notes


class TestNotes:
    def test_nodes_that_were_not_asked(self) -> None:
        """A namespace with pods that nobody watched is not closed, and it is said."""
        suggestion = suggest([flow(spiffe("web"))], survey(shop()), ["n1"])
        assert "Namespace" not in {each["kind"] for each in suggestion.manifests}
        (note,) = suggestion.notes
        assert "Namespace shop is left open" in note
        assert "n2" in note

    def test_policies_in_force(self) -> None:
        """They may admit more, so they are named."""
        suggestion = suggest(
            [flow(spiffe("web"))], survey(shop(*api_policy("web"))), NODES
        )
        (note,) = suggestion.notes
        assert "Server shop/api" in note

    def test_a_pod_with_a_default_of_its_own(self) -> None:
        """Which wins over its namespace's."""
        own = pod("shop/own", "10.0.3.1")
        own["metadata"]["annotations"] = {
            "config.linkerd.io/default-inbound-policy": "audit"
        }
        suggestion = suggest([], survey(shop(own)), NODES)
        assert any("Pod shop/own" in note for note in suggestion.notes)

    def test_pods_that_are_gone(self) -> None:
        """Nobody can say which labels they had."""
        suggestion = suggest([flow(spiffe("web"), "shop/old")], survey(shop()), NODES)
        assert any("shop/old is gone" in note for note in suggestion.notes)


def test_names_do_not_collide() -> None:
    """Two groups that a person would call the same."""
    flows = [flow(spiffe("web"), "shop/api"), flow(spiffe("web"), "shop/canary")]
    suggestion = suggest(flows, cluster(), NODES)
    keys = [(d["kind"], d["metadata"]["name"]) for d in suggestion.manifests]
    assert len(keys) == len(set(keys))


def test_an_address_is_one_host() -> None:
    """No network wider than what came from it."""
    suggestion = suggest([flow("192.0.2.1")], survey(shop()), NODES)
    (made,) = (d for d in suggestion.manifests if d["kind"] == "NetworkAuthentication")
    assert made["spec"] == {"networks": [{"cidr": f"{parse_ip('192.0.2.1')}/32"}]}
