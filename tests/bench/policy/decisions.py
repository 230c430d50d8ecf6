"""
How long one decision takes, among so many policies of ten rules each.

All of them are about one pod, which is the worst there is; every rule asks for two
identities, a network and a port. Clients are of three kinds in turn: one whom some
rule lets in, one whom none does, and plaintext. Each is asked for the first time,
and then again, as the callers of a real pod come back.
"""

from __future__ import annotations

import contextlib
import ipaddress
import pickle
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from agent.addresses import IPAddress, parse_ip
from agent.authz.survey import Setting, Survey
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.compiler import InboundDefaults
from agent.policy.decision import Denied, Request, authorize
from agent.policy.istio import AuthorizationPolicy, IstioPolicies
from agent.policy.rule import InboundPolicy
from agent.workload.model import Namespace, Objects, Workload

RULES: Final = 10
PORT: Final = 8080
SEED: Final = 7
TRUST_DOMAIN: Final = TrustDomain("cluster.local")

# As many callers as a busy pod has, each coming so many times.
CALLERS: Final = 60
TIMES: Final = 200
SCANS: Final = 12
"""A scan of a million constraints takes a second; it need not be exact."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Microseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The middle one, and the one that 99 of 100 do not exceed."""
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return cls(statistics.median(values), cuts[98])


@dataclass(frozen=True, slots=True)
class Timing:
    """
    One decision, by what it comes to; `new` is about a caller's first one. `scan` is
    looking at the same rules in turn.
    """

    policies: int
    permit: Spread
    refusal: Spread
    new: Spread
    scan: Spread
    compile_seconds: float

    @property
    def gain(self) -> float:
        """How many times as fast as the scan."""
        return self.scan.p50 / max(self.permit.p50, self.refusal.p50)


def measure(policies: int) -> Timing:
    """Compile so many policies, and decide."""
    began = time.perf_counter()
    policy = compiled(policies)
    took = time.perf_counter() - began
    requests = list(asked(policies))
    permits = [request for request in requests if _is_permitted(request, policy)]
    # As a worker gets it; and it does not remember any of these callers yet.
    whole, policy = policy, pickle.loads(pickle.dumps(policy))  # noqa: S301 (our own)
    first = [_microseconds(request, policy) for request in requests]
    taken: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(TIMES):
        for request in requests:
            taken[request in permits].append(_microseconds(request, policy))
    return Timing(
        policies,
        Spread.of(taken[True]),
        Spread.of(taken[False]),
        Spread.of(first),
        Spread.of([_scanned(request, whole) for request in requests[:SCANS]]),
        took,
    )


def asked(policies: int) -> Iterator[Request]:
    """The callers, each once, in an order that repeats itself at every run."""
    chance = random.Random(SEED)
    for number in range(CALLERS):
        some = chance.randrange(policies * RULES)
        kind = number % 3
        if kind == 0:
            yield Request(_identity(some), _address(some), PORT)
        elif kind == 1:
            unknown = SpiffeId.for_workload(TRUST_DOMAIN, "nobody", f"x-{number}")
            yield Request(unknown, _address(some), PORT)
        else:
            yield Request(None, _address(some), PORT)


def compiled(policies: int) -> InboundPolicy:
    """The policy of the pod that all of them select."""
    pod = Workload(
        uid="u-api",
        namespace="shop",
        name="api",
        node="n1",
        service_account="api",
        addresses=(parse_ip("10.244.0.1"),),
        labels={"app": "api"},
    )
    objects = Objects(
        workloads=(pod,),
        namespaces=(Namespace("shop", {"podlock.io/mesh": "enabled"}),),
        istio=IstioPolicies(
            authorization_policies=tuple(_policy(n) for n in range(policies))
        ),
    )
    survey = Survey.of(objects, Setting(TRUST_DOMAIN, InboundDefaults()))
    return survey.policy_of(survey.workloads["shop/api"])


def _policy(number: int) -> AuthorizationPolicy:
    numbers = range(number * RULES, (number + 1) * RULES)
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": f"p-{number}", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "api"}},
            "action": "ALLOW",
            "rules": [_rule(each) for each in numbers],
        },
    }
    return msgspec.convert(document, AuthorizationPolicy)


def _rule(number: int) -> dict[str, object]:
    names = [_identity(number), _identity(number, "-b")]
    source = {
        "principals": [str(name).removeprefix("spiffe://") for name in names],
        "ipBlocks": [str(ipaddress.ip_network(f"{_address(number)}/24", strict=False))],
    }
    ports = [str(PORT + offset) for offset in (0, 1 + number % 3)]
    return {
        "from": [{"source": source}],
        "to": [{"operation": {"ports": ports}}],
    }


def _identity(number: int, suffix: str = "") -> SpiffeId:
    namespace = f"team-{number % 100}"
    return SpiffeId.for_workload(TRUST_DOMAIN, namespace, f"app-{number}{suffix}")


def _address(number: int) -> IPAddress:
    return ipaddress.IPv4Address(0x0A00_0000 + number % 0x00FF_FFFF)


def _is_permitted(request: Request, policy: InboundPolicy) -> bool:
    try:
        authorize(request, policy)
    except Denied:
        return False
    return True


def _microseconds(request: Request, policy: InboundPolicy) -> float:
    # CPU time of this thread: a neighbour's turn on the core is no part of it.
    began = time.thread_time_ns()
    with contextlib.suppress(Denied):
        authorize(request, policy)
    return (time.thread_time_ns() - began) / 1000


def _scanned(request: Request, policy: InboundPolicy) -> float:
    """The same question asked of one rule after the other, until one matches."""
    assert policy.istio is not None
    rules = [rule for found in policy.istio.allows for rule in found.rules]
    facts = request.facts
    began = time.thread_time_ns()
    next((rule for rule in rules if any(t.matches(facts) for t in rule.terms)), None)
    return (time.thread_time_ns() - began) / 1000
