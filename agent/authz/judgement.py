"""
One verdict about one client, also where its address is not known. Pure.

Without an address a client is judged from every address that could make a difference:
the ends of each network that the policy names, and their neighbours outside.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from agent.addresses import IPAddress, IPNetwork
from agent.errors import InputError
from agent.identity.spiffe import SpiffeId
from agent.policy.decision import Denied, Request, authorize
from agent.policy.rule import InboundPolicy

_LAST: Final = {4: 2**32 - 1, 6: 2**128 - 1}


class NeedsAddress(InputError):
    """The policy looks at the client's address, and the question names none."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    `rule` is what decided, which is `field` of `object`; `reason` is a sentence.

    `audit`: allowed, and logged; `rule` is then what would deny it otherwise.
    """

    allowed: bool
    rule: str
    reason: str
    audit: bool = False
    object: str = ""
    field: str = ""


@dataclass(frozen=True, slots=True)
class Destination:
    """What is asked for: a port, at an address where that is known, under a policy."""

    policy: InboundPolicy
    port: int
    address: IPAddress | None = None


def judge(
    identity: SpiffeId | None,
    address: IPAddress | None,
    to: Destination,
    within: Sequence[IPNetwork] = (),
) -> Verdict:
    """
    What the destination's agent says to this client. Raises: NeedsAddress.

    `identity` None is plaintext; `address` None is one that is not known, except that
    it is `within` these networks, where there are any.
    """
    if address is not None:
        return _judge(identity, address, to)
    probes = [first for first, _ in _ranges(to.policy)]
    inside = [probe for probe in probes if any(probe in net for net in within)]
    verdicts = {
        _judge(identity, probe, to).allowed: probe for probe in inside or probes
    }
    if len(verdicts) > 1:
        raise NeedsAddress(
            f"{to.policy.workload} port {to.port}: allowed from {verdicts[True]}, "
            f"denied from {verdicts[False]}; name the client's address with --address"
        )
    (probe,) = verdicts.values()
    return _judge(identity, probe, to)


def _judge(identity: SpiffeId | None, address: IPAddress, to: Destination) -> Verdict:
    request = Request(identity, address, to.port, to.address)
    try:
        permit = authorize(request, to.policy)
    except Denied as denied:
        where = denied.object, denied.field
        return Verdict(False, denied.rule, str(denied), False, *where)
    for denial in permit.would_deny:
        reason = f"only audited, otherwise denied: {denial.reason}"
        where = denial.object, denial.field
        return Verdict(True, denial.rule, reason, True, *where)
    reason = f"{permit.rule} admits {request.client}"
    return Verdict(True, permit.rule, reason, False, permit.object, permit.field)


def admitted_networks(
    identity: SpiffeId | None, to: Destination
) -> Iterator[tuple[IPNetwork, Verdict]]:
    """The networks that this client may come from, each with its verdict."""
    held: tuple[IPAddress, IPAddress, Verdict] | None = None
    for first, last in _ranges(to.policy):
        verdict = _judge(identity, first, to)
        if held and held[0].version == first.version and _alike(held[2], verdict):
            held = held[0], last, held[2]
            continue
        yield from _networks(held)
        held = first, last, verdict
    yield from _networks(held)


def _alike(one: Verdict, other: Verdict) -> bool:
    # The reason names the address, so it always differs.
    return (one.allowed, one.rule, one.audit) == (
        other.allowed,
        other.rule,
        other.audit,
    )


def _networks(
    held: tuple[IPAddress, IPAddress, Verdict] | None,
) -> Iterator[tuple[IPNetwork, Verdict]]:
    if held is None or not held[2].allowed:
        return
    first, last, verdict = held
    for network in ipaddress.summarize_address_range(first, last):
        yield network, verdict


def _ranges(policy: InboundPolicy) -> Iterator[tuple[IPAddress, IPAddress]]:
    """All addresses, cut at both ends of every network in `policy`; IPv4 first."""
    networks = set(_networks_in(policy))
    for version, make in ((4, ipaddress.IPv4Address), (6, ipaddress.IPv6Address)):
        cuts = {0, _LAST[version] + 1}
        for network in networks:
            if network.version == version:
                cuts.add(int(network.network_address))
                cuts.add(int(network.broadcast_address) + 1)
        for start, end in pairwise(sorted(cuts)):
            yield make(start), make(end - 1)


def _networks_in(value: Any) -> Iterator[IPNetwork]:
    """Every network anywhere in a policy, whatever its rules look like."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _networks_in(item)
    elif isinstance(value, tuple | list | frozenset):
        for item in value:
            yield from _networks_in(item)
    elif dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            yield from _networks_in(getattr(value, each.name))
