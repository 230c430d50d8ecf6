"""
Who can open a port of a pod: `podlock authz who-can`. Pure.

Every pod that is known is judged; and, beyond those, every identity that the policy
names, one that nobody has, and all addresses in plaintext. So what is listed is what
the policy does, not what it says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.addresses import IPNetwork
from agent.authz.check import check
from agent.authz.judgement import NeedsAddress, Verdict, admitted_networks, judge
from agent.authz.party import Client, NoSuchParty, Server, parse_identity
from agent.authz.survey import Survey
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.policy.rule import IdentityForm, IdentityMatch, InboundPolicy

# Nobody has it: who is admitted under it is admitted whoever they are.
_NOBODY: Final = "podlock-nobody-has-this-name"


@dataclass(frozen=True, slots=True)
class Admitted:
    """
    Some who are let in: `who` is an identity, a pattern of identities, a pod or a
    network; `pods` are those that are known to be among them.
    """

    who: str
    rule: str
    pods: tuple[str, ...] = ()
    audit: bool = False
    partly: bool = False
    """From some addresses only."""


@dataclass(frozen=True, slots=True)
class Reach:
    """All who can open one port of one pod."""

    server: Server
    identities: tuple[Admitted, ...]
    networks: tuple[Admitted, ...]
    """In plaintext, from these addresses; `pods` are those outside the mesh."""


def who_can(server: Server, survey: Survey) -> Reach:
    """Everybody whom the agent of `server` lets in."""
    if not server.pod.meshed:
        raise NoSuchParty(f"{server.pod.key} is not in the mesh: nobody judges there")
    policy = survey.policy_of(server.pod)
    known = _known(server, survey)
    named = [
        admitted
        for pattern, identity in _named(policy, survey.setting.trust_domain)
        if pattern not in {each.who for each in known}
        and (admitted := _stranger(pattern, identity, server.port, policy))
    ]
    return Reach(server, (*known, *named), tuple(_plaintext(server, survey, policy)))


def _known(server: Server, survey: Survey) -> list[Admitted]:
    """The identities of pods that there are."""
    pods: dict[SpiffeId, list[str]] = {}
    judged: dict[SpiffeId, list[Verdict]] = {}
    for pod in survey.workloads.values():
        if not pod.meshed or pod.key == server.pod.key:
            continue
        identity = pod.identity(survey.setting.trust_domain)
        client = Client(identity, pod.addresses, pod.key)
        verdicts = [answer.verdict for answer in check(client, server, survey)]
        judged.setdefault(identity, []).extend(verdicts)
        if any(verdict.allowed for verdict in verdicts):
            pods.setdefault(identity, []).append(pod.key)
    return [
        _summed(str(identity), tuple(pods[identity]), verdicts)
        for identity, verdicts in judged.items()
        if identity in pods
    ]


def _summed(who: str, pods: tuple[str, ...], verdicts: list[Verdict]) -> Admitted:
    allowed = [verdict for verdict in verdicts if verdict.allowed]
    partly = len(allowed) < len(verdicts)
    return Admitted(who, allowed[0].rule, pods, allowed[0].audit, partly)


def _stranger(
    pattern: str, identity: SpiffeId, port: int, policy: InboundPolicy
) -> Admitted | None:
    try:
        verdict = judge(identity, None, port, policy)
    except NeedsAddress:
        networks = admitted_networks(identity, port, policy)
        rule = next(found.rule for _, found in networks)
        return Admitted(pattern, rule, partly=True)
    if not verdict.allowed:
        return None
    return Admitted(pattern, verdict.rule, audit=verdict.audit)


def _named(
    policy: InboundPolicy, trust_domain: TrustDomain
) -> Iterator[tuple[str, SpiffeId]]:
    """What the policy calls clients, each with one identity that stands for it."""
    anyone = SpiffeId.for_workload(trust_domain, _NOBODY, _NOBODY)
    yield "*", anyone
    for match in dict.fromkeys(_matches_in(policy)):
        if match.form is IdentityForm.EXACT:
            identity = parse_identity(match.text)
            if identity is not None:
                yield str(identity), identity
        elif match.form is IdentityForm.SUFFIX:
            # `*.shop.serviceaccount...`: somebody of that namespace.
            somebody = f"{_NOBODY}.{match.text.removeprefix('*.')}"
            known = None if match.matches(anyone) else parse_identity(somebody)
            yield match.text, known or anyone


def _matches_in(value: Any) -> Iterator[IdentityMatch]:
    """Every identity anywhere in a policy, whatever its rules look like."""
    if isinstance(value, IdentityMatch):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _matches_in(item)
    elif isinstance(value, tuple | list | frozenset):
        for item in value:
            yield from _matches_in(item)
    elif dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            yield from _matches_in(getattr(value, each.name))


def _plaintext(
    server: Server, survey: Survey, policy: InboundPolicy
) -> Iterator[Admitted]:
    outside = [pod for pod in survey.workloads.values() if not pod.meshed]
    for network, verdict in admitted_networks(None, server.port, policy):
        pods = tuple(
            pod.key for pod in outside if any(ip in network for ip in pod.addresses)
        )
        yield Admitted(_named_network(network), verdict.rule, pods, verdict.audit)


def _named_network(network: IPNetwork) -> str:
    return (
        str(network)
        if network.prefixlen < network.max_prefixlen
        else str(network.network_address)
    )
