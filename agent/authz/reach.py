"""
Who can open a port of a pod: `podlock authz who-can`. Pure.

Every pod that is known is judged; and, beyond those, everybody whom the policy names,
somebody whom nobody names, and all addresses in plaintext. So what is listed is what
the policy does, not what it says.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent.addresses import IPNetwork
from agent.authz.check import check, destination
from agent.authz.judgement import (
    Destination,
    NeedsAddress,
    Verdict,
    admitted_networks,
    judge,
)
from agent.authz.party import Client, parse_identity
from agent.authz.servers import NoSuchParty, Server
from agent.authz.survey import Survey
from agent.identity.spiffe import SCHEME, InvalidSpiffeId, SpiffeId, TrustDomain
from agent.policy.match import Attribute, Constraint, Pattern, TextForm
from agent.policy.names import dns_key
from agent.policy.rule import InboundPolicy

# Nobody has it: who is admitted under it is admitted whoever they are.
_NOBODY: Final = "podlock-nobody-has-this-name"


@dataclass(frozen=True, slots=True)
class Admitted:
    """
    Some who are let in: `who` is an identity, a pattern of identities or a network;
    `pods` are those that are known to be among them.
    """

    who: str
    rule: str
    pods: tuple[str, ...] = ()
    audit: bool = False
    partly: bool = False
    """From some addresses only."""


@dataclass(frozen=True, slots=True)
class Reach:
    """
    All who can open one port of one pod.

    `networks`: in plaintext, from these addresses; their `pods` are outside the mesh.
    `excluded`: identities that are refused, where the rest of the world is not.
    """

    server: Server
    identities: tuple[Admitted, ...]
    networks: tuple[Admitted, ...]
    excluded: tuple[str, ...] = ()


def who_can(server: Server, survey: Survey) -> Reach:
    """Everybody whom the agent of `server` lets in. Raises: NoSuchParty."""
    if not server.pod.meshed:
        raise NoSuchParty(f"{server.pod.key} is not in the mesh: nobody judges there")
    to = destination(server, survey)
    identities: dict[str, Admitted] = {}
    excluded: list[str] = []
    for identity, clients in _pods_by_identity(server, survey).items():
        admitted = _known(identity, clients, server, survey)
        if admitted is None:
            excluded.append(str(identity))
        else:
            identities[admitted.who] = admitted
    for pattern, identity in _named(to.policy, survey.setting.trust_domain):
        if pattern in identities or pattern in excluded:
            continue
        stranger = _stranger(pattern, identity, to)
        if stranger is None:
            excluded.append(pattern)
        else:
            identities[pattern] = stranger
    return Reach(
        server,
        tuple(identities.values()),
        tuple(_plaintext(survey, to)),
        tuple(excluded) if "*" in identities else (),
    )


def _pods_by_identity(server: Server, survey: Survey) -> dict[SpiffeId, list[Client]]:
    found: dict[SpiffeId, list[Client]] = {}
    for pod in survey.workloads.values():
        if pod.meshed and pod.key != server.pod.key:
            identity = pod.identity(survey.setting.trust_domain)
            client = Client(identity, pod.addresses, pod.key)
            found.setdefault(identity, []).append(client)
    return found


def _known(
    identity: SpiffeId, clients: list[Client], server: Server, survey: Survey
) -> Admitted | None:
    """An identity that pods have, by what is said to each of them."""
    pods: list[str] = []
    verdicts: list[Verdict] = []
    for client in clients:
        said = [answer.verdict for answer in check(client, server, survey)]
        verdicts += said
        if any(verdict.allowed for verdict in said):
            pods.append(client.pod or "")
    allowed = [verdict for verdict in verdicts if verdict.allowed]
    if not allowed:
        return None
    partly = len(allowed) < len(verdicts)
    first = allowed[0]
    return Admitted(str(identity), first.rule, tuple(pods), first.audit, partly)


def _stranger(pattern: str, identity: SpiffeId, to: Destination) -> Admitted | None:
    try:
        verdict = judge(identity, None, to)
    except NeedsAddress:
        _, verdict = next(admitted_networks(identity, to))
        return Admitted(pattern, verdict.rule, audit=verdict.audit, partly=True)
    if not verdict.allowed:
        return None
    return Admitted(pattern, verdict.rule, audit=verdict.audit)


def _plaintext(survey: Survey, to: Destination) -> Iterator[Admitted]:
    outside = [pod for pod in survey.workloads.values() if not pod.meshed]
    for network, verdict in admitted_networks(None, to):
        pods = tuple(
            pod.key for pod in outside if any(ip in network for ip in pod.addresses)
        )
        yield Admitted(_network_name(network), verdict.rule, pods, verdict.audit)


def _network_name(network: IPNetwork) -> str:
    alone = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if alone else str(network)


# Whom the policy names.


def _named(
    policy: InboundPolicy, trust_domain: TrustDomain
) -> Iterator[tuple[str, SpiffeId]]:
    """What the policy calls clients, each with one identity that stands for it."""
    anyone = SpiffeId.for_workload(trust_domain, _NOBODY, _NOBODY)
    yield "*", anyone
    for constraint in dict.fromkeys(_constraints_in(policy)):
        for value in constraint.values:
            if isinstance(value, Pattern) and value.form is not TextForm.ANY:
                # Not a name that a workload can have: it is about nobody.
                with contextlib.suppress(InvalidSpiffeId, NoSuchParty):
                    yield from _stand_in(constraint.attribute, value, anyone)


def _stand_in(
    attribute: Attribute, pattern: Pattern, anyone: SpiffeId
) -> Iterator[tuple[str, SpiffeId]]:
    """How a pattern is written, and somebody who fits it."""
    form, domain = pattern.form, anyone.trust_domain
    text = pattern.text.replace("@", ".")  # see names.dns_key
    written = {
        TextForm.EXACT: text,
        TextForm.PREFIX: f"{text}*",
        TextForm.SUFFIX: f"*{text}",
    }[form]
    filled = written.replace("*", _NOBODY)
    if attribute is Attribute.DNS_NAME and form is TextForm.EXACT:
        if identity := parse_identity(text):
            yield str(identity), identity
    elif attribute is Attribute.DNS_NAME:
        # `*.serviceaccount...` and wider: whoever is of this trust domain.
        everybody = (dns_key(anyone) or "").endswith(pattern.text)
        known = None if everybody else parse_identity(filled)
        yield written, known or anyone
    elif attribute is Attribute.PRINCIPAL:
        if form is TextForm.SUFFIX:
            filled = f"{domain}/ns/{_NOBODY}/{text.rpartition('/ns/')[2].lstrip('/')}"
        yield f"{SCHEME}{written}", SpiffeId.parse(f"{SCHEME}{filled}")
    elif attribute is Attribute.NAMESPACE:
        identity = SpiffeId.for_workload(domain, filled, _NOBODY)
        yield f"{SCHEME}{domain}/ns/{written}/sa/*", identity
    elif attribute is Attribute.TRUST_DOMAIN:
        identity = SpiffeId.for_workload(TrustDomain(filled), _NOBODY, _NOBODY)
        yield f"{SCHEME}{written}/*", identity
    elif attribute is Attribute.ACCOUNT:
        namespace, _, account = filled.partition("/")
        identity = SpiffeId.for_workload(domain, namespace, account)
        yield str(identity), identity


def _constraints_in(value: Any) -> Iterator[Constraint]:
    """Every constraint anywhere in a policy, whatever it is part of."""
    if isinstance(value, Constraint):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _constraints_in(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _constraints_in(item)
    elif dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            yield from _constraints_in(getattr(value, each.name))
