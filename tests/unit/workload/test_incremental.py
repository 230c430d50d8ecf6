"""A registry that remembers says what one without memory says, at every change."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.addresses import parse_ip
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.istio_scope import IstioResolver
from agent.policy.references import LinkerdResolver
from agent.policy.rule import DEFAULT_ANNOTATION
from agent.workload.model import (
    EndpointSlice,
    NamedPort,
    Namespace,
    Objects,
    Service,
    ServicePort,
    SliceEndpoint,
    Workload,
)
from agent.workload.registry import Registry
from tests.bench.control import cluster, moved
from tests.unit.policy.samples import authorization, network, policies, ref, server
from tests.unit.workload.samples import DISABLED, ENABLED

TD = TrustDomain("cluster.local")

ips = st.integers(1, 5).map(lambda n: parse_ip(f"10.1.0.{n}")) | st.just(
    parse_ip("2001:db8::1")
)
targets: st.SearchStrategy[int | str] = st.sampled_from([80, 8080, "http"])
labels = st.sampled_from([{}, {"app": "a"}, {"app": "b"}, {"app": "a", "v": "1"}])
marks = st.sampled_from([{}, ENABLED, DISABLED])
named = st.sampled_from([(), (NamedPort("http", 8080),), (NamedPort("http", 81),)])


@st.composite
def pods(draw: st.DrawFn, key: str) -> Workload:
    namespace, _, name = key.partition("/")
    return Workload(
        uid=draw(st.sampled_from([f"u-{name}", "u-shared"])),
        namespace=namespace,
        name=name,
        node=draw(st.sampled_from(["n1", "n1", "n2"])),
        service_account=draw(st.sampled_from(["default", "other"])),
        addresses=tuple(draw(st.lists(ips, max_size=2))),
        labels={**draw(labels), **draw(marks)},
        annotations=draw(st.sampled_from([{}, {DEFAULT_ANNOTATION: "deny"}])),
        ports=draw(named),
        host_network=draw(st.sampled_from([False, False, True])),
        netns=draw(st.sampled_from([f"/run/{name}", "/run/shared", None])),
        ready=draw(st.booleans()),
        finished=draw(st.sampled_from([False, False, True])),
    )


@st.composite
def services(draw: st.DrawFn, name: str) -> Service:
    addresses = st.sampled_from([parse_ip("10.96.0.1"), parse_ip("2001:db8:96::1")])
    return Service(
        "shop",
        name,
        tuple(draw(st.lists(addresses, max_size=2))),
        (ServicePort("http", 80, draw(targets)),),
        draw(labels),
        draw(st.booleans()),
    )


@st.composite
def slices(draw: st.DrawFn) -> EndpointSlice:
    backend = SliceEndpoint(
        (draw(ips),),
        draw(st.booleans()),
        draw(st.sampled_from([None, "u-a", "u-shared"])),
    )
    return EndpointSlice("shop", "one", "api", (NamedPort("http", 8080),), (backend,))


@st.composite
def objects(draw: st.DrawFn) -> Objects:
    """A few of each kind, many of them in each other's way."""
    keys = draw(st.sets(st.sampled_from(["shop/a", "shop/b", "bank/a", "bank/c"])))
    names = draw(st.sets(st.sampled_from(["api", "web"])))
    linkerd = [
        server("shop/one", draw(targets), app="a"),
        server("bank/two", 80),
        authorization("shop/let", ref("Server", "one"), ref("ServiceAccount", "other")),
        network("shop/net", "10.0.0.0/8"),
    ]
    chosen = draw(st.sets(st.integers(0, len(linkerd) - 1)))
    return Objects(
        workloads=tuple(draw(pods(key)) for key in sorted(keys)),
        namespaces=tuple(Namespace(n, draw(marks)) for n in ("shop", "bank")),
        services=tuple(draw(services(name)) for name in sorted(names)),
        endpoint_slices=tuple(draw(st.lists(slices(), max_size=1))),
        linkerd=policies(*(linkerd[n] for n in sorted(chosen))),
    )


def forgetful(registry: Registry) -> None:
    """Leave it what is state (who holds an address), take what is only memory."""
    for memory in (
        registry._settled,
        registry._peers,
        registry._compiled,
        registry._services,
    ):
        memory.end_round()
    registry._book._seen = None
    registry._book._linkerd = LinkerdResolver(TD)
    registry._book._istio = IstioResolver(TrustDomain("cluster.local"))


@given(st.lists(objects(), min_size=2, max_size=5))
def test_memory_changes_nothing(changes: list[Objects]) -> None:
    """Whatever changes: pods, policies, directory, identities and problems."""
    remembers, forgets = Registry("n1", TD), Registry("n1", TD)
    for change in changes:
        expected = forgets.apply(change)
        assert remembers.apply(change) == expected
        forgetful(forgets)
    other = SpiffeId.for_workload(TD, "shop", "other")
    assert remembers.runs_on("n1", other) == forgets.runs_on("n1", other)


def test_what_did_not_change_is_the_same_object() -> None:
    """All but one of a thousand pods, with their services and policies."""
    registry, before = Registry("node-0", TD), cluster(1000)
    old = registry.apply(before)
    new = registry.apply(moved(before, 501, 0))
    held, now = old.directory, new.directory
    assert sum(now.peers.get(ip) is not peer for ip, peer in held.peers.items()) == 1
    changed = [at for at, found in held.services.items() if now.services[at] != found]
    same = [at for at, found in held.services.items() if now.services[at] is found]
    assert len(changed) == 1
    # The services of the pod's own namespace are worked out again.
    assert len(same) >= 0.9 * len(held.services)
    assert all(new.policies[uid] is made for uid, made in old.policies.items())
