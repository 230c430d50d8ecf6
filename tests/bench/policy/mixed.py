"""
What a decision costs, and what a changed policy costs control, among mixed rules.

100, 1,000 and 10,000 Istio policies of ten rules each, all about one namespace, which
is the worst that a tenant can do to its own pods. Callers, sources and ports are many,
so that little is remembered between two decisions; nine of ten are refused, which
takes longer than to permit. Needs no root and no agent:
`python -m tests.bench.policy.mixed`.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import pickle
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.compiler import InboundDefaults, WorkloadFacts, compile_inbound
from agent.policy.decision import Denied, Request, authorize
from agent.policy.istio import AuthorizationPolicy, IstioPolicies
from agent.policy.istio_scope import IstioResolver
from agent.policy.references import LinkerdRules
from agent.policy.rule import InboundPolicy

SIZES: Final = (100, 1_000, 10_000)
RULES: Final = 10
DECISIONS: Final = 20_000
API: Final = WorkloadFacts("shop", "api")
TRUST_DOMAIN: Final = TrustDomain("cluster.local")

T = TypeVar("T")


def main() -> None:
    """Print one line for each size."""
    gc.disable()  # as control does while it adopts a change
    out = sys.stdout.write
    columns = ("policies", "p50 us", "p99 us", "first s", "one changed s", "sent MB")
    out("".join(f"{column:>15}" for column in columns) + "\n")
    for size in SIZES:
        figures = measure(size)
        out(f"{size:15,}" + "".join(f"{figure:15.2f}" for figure in figures) + "\n")


def measure(size: int) -> tuple[float, ...]:
    """The figures of one size, in the order of the columns."""
    chance = random.Random(size)
    policies = tuple(policy(number, chance) for number in range(size))
    resolver = IstioResolver(TrustDomain("cluster.local"))
    _, first = timed(lambda: compiled(resolver, policies))
    changed = (*policies[:-1], policy(size, chance))
    inbound, again = timed(lambda: compiled(resolver, changed))
    data = pickle.dumps(inbound)
    # As a worker has it: what travelled.
    inbound = pickle.loads(data)  # noqa: S301 - our own bytes
    taken = sorted(decision(request(chance), inbound) * 1e6 for _ in range(DECISIONS))
    return (
        taken[len(taken) // 2],
        taken[len(taken) * 99 // 100],
        first,
        again,
        len(data) / 1e6,
    )


def compiled(
    resolver: IstioResolver, policies: tuple[AuthorizationPolicy, ...]
) -> InboundPolicy:
    """One pod's policy from all of these."""
    rules, _ = resolver.resolve(IstioPolicies(policies))
    inbound, _ = compile_inbound(API, LinkerdRules(), InboundDefaults(), rules)
    resolver.end_round()
    return inbound


def decision(asked: Request, inbound: InboundPolicy) -> float:
    """CPU seconds of one decision: what else runs on the machine says nothing."""
    began = time.thread_time_ns()
    with contextlib.suppress(Denied):
        authorize(asked, inbound)
    return (time.thread_time_ns() - began) / 1e9


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` returns, and its CPU seconds."""
    began = time.thread_time_ns()
    result = work()
    return result, (time.thread_time_ns() - began) / 1e9


def policy(number: int, chance: random.Random) -> AuthorizationPolicy:
    """One in five denies; each rule has one of three kinds of sources, and ports."""
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": f"p{number}", "namespace": API.namespace},
        "spec": {
            "action": "ALLOW" if number % 5 else "DENY",
            "rules": [rule(chance) for _ in range(RULES)],
        },
    }
    return msgspec.convert(document, AuthorizationPolicy)


def rule(chance: random.Random) -> dict[str, Any]:
    """A source, and two ports of which one is rare."""
    source: dict[str, Any] = chance.choice(
        [
            {"principals": [f"cluster.local/{_account(chance)}" for _ in range(2)]},
            {
                "namespaces": [f"n{chance.randrange(5_000)}"],
                "notIpBlocks": [_block(chance)],
            },
            {"ipBlocks": [_block(chance)]},
        ]
    )
    ports = [str(chance.randrange(1, 65_536)), str(8_000 + chance.randrange(100))]
    return {"from": [{"source": source}], "to": [{"operation": {"ports": ports}}]}


def request(chance: random.Random) -> Request:
    """One of 500 callers, or plaintext, from anywhere to one of 200 ports."""
    identity = None
    if chance.random() < 0.9:
        _, namespace, _, account = _account(chance, 500).split("/")
        identity = SpiffeId.for_workload(TRUST_DOMAIN, namespace, account)
    source = ipaddress.IPv4Address(chance.randrange(1 << 24, 200 << 24))
    return Request(identity, source, 8_000 + chance.randrange(200))


def _account(chance: random.Random, many: int = 60_000) -> str:
    number = chance.randrange(many)
    return f"ns/n{number % 200}/sa/s{number // 200}"


def _block(chance: random.Random) -> str:
    return f"{chance.randrange(1, 200)}.{chance.randrange(256)}.0.0/16"


if __name__ == "__main__":
    main()
