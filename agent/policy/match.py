"""
What a policy's rule asks of a connection: the one model of both families.

A rule matches where one of its terms does, a term where all of its constraints do, a
constraint where one of its values does, or, if it is negative, where none does. What
a client did not prove has no value: no positive constraint on it holds, and every
negative one does. So `notPrincipals` admits plaintext, as it does in Istio.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

from agent.addresses import IPAddress, IPNetwork, unmapped
from agent.identity.spiffe import SCHEME, SpiffeId
from agent.policy.names import dns_key

IpValue = tuple[int, int]
"""An address as its version and its number: hashed and shifted without objects."""

# How many identities' names are remembered; a pod has tens of callers, not thousands.
_REMEMBERED_IDENTITIES: Final = 1024


class Attribute(IntEnum):
    """What a constraint is about; the value is its place in `Facts`."""

    PORT = 0
    SOURCE = 1
    DESTINATION = 2
    PRINCIPAL = 3
    DNS_NAME = 4
    NAMESPACE = 5
    ACCOUNT = 6
    TRUST_DOMAIN = 7


class Facts(NamedTuple):
    """
    One connection, as constraints see it; None where there is nothing to see.

    `principal` is the SPIFFE ID without its scheme, `dns_name` the same identity as
    Linkerd writes it, with `@` before the trust domain (see `names.dns_key`);
    `account` is `namespace/service-account`.
    """

    port: int
    source: IpValue
    destination: IpValue | None = None
    principal: str | None = None
    dns_name: str | None = None
    namespace: str | None = None
    account: str | None = None
    trust_domain: str | None = None

    @classmethod
    def of(
        cls,
        identity: SpiffeId | None,
        source: IPAddress,
        port: int,
        destination: IPAddress | None,
    ) -> Facts:
        """The facts; IPv4-mapped addresses count as the IPv4 that they are."""
        to = None if destination is None else ip_value(destination)
        if identity is None:
            return cls(port, ip_value(source), to)
        return cls(port, ip_value(source), to, *_names(identity))


class TextForm(IntEnum):
    """What a `Pattern` compares."""

    EXACT = 1
    PREFIX = 2
    SUFFIX = 3
    ANY = 4


@dataclass(frozen=True, slots=True)
class Pattern:
    """Some texts; `ANY` is every text but the empty one."""

    form: TextForm
    text: str = ""

    def matches(self, value: str) -> bool:
        """Whether `value` is one of these."""
        match self.form:
            case TextForm.EXACT:
                return value == self.text
            case TextForm.PREFIX:
                return value.startswith(self.text)
            case TextForm.SUFFIX:
                return value.endswith(self.text)
            case TextForm.ANY:
                return bool(value)


Value = int | IPNetwork | Pattern
FactValue = int | IpValue | str


@dataclass(frozen=True, slots=True)
class Constraint:
    """
    One field of a rule: `field` is its path in the object.

    A positive constraint without values holds for nobody, a negative one for all.
    """

    attribute: Attribute
    values: tuple[Value, ...]
    field: str
    negative: bool = False

    def holds(self, facts: Facts) -> bool:
        """Whether a connection meets it. Slow: the index asks all at once."""
        value: FactValue | None = facts[self.attribute]
        hit = value is not None and any(_is(one, value) for one in self.values)
        return hit is not self.negative


@dataclass(frozen=True, slots=True)
class Term:
    """Constraints that must all hold; without any it always matches."""

    constraints: tuple[Constraint, ...] = ()

    def matches(self, facts: Facts) -> bool:
        """Whether all of them hold."""
        return all(constraint.holds(facts) for constraint in self.constraints)

    def failures(self, facts: Facts) -> list[Constraint]:
        """Those that do not hold."""
        return [item for item in self.constraints if not item.holds(facts)]


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule of a policy object; without terms it never matches.

    `object` names the object, `field` the rule's path in it: "spec.rules[2]".
    """

    object: str
    field: str
    terms: tuple[Term, ...]


def ip_value(address: IPAddress) -> IpValue:
    """An address to compare; IPv4-mapped IPv6 is IPv4."""
    address = unmapped(address)
    return (address.version, int(address))


def ip_of(value: IpValue) -> IPAddress:
    """The address that `ip_value` made this of."""
    version, number = value
    if version == 4:
        return ipaddress.IPv4Address(number)
    return ipaddress.IPv6Address(number)


@lru_cache(_REMEMBERED_IDENTITIES)
def _names(
    identity: SpiffeId,
) -> tuple[str, str | None, str | None, str | None, str]:
    principal = str(identity).removeprefix(SCHEME)
    namespace, account = identity.namespace, identity.service_account
    domain = str(identity.trust_domain)
    if namespace is None:
        return principal, None, None, None, domain
    return principal, dns_key(identity), namespace, f"{namespace}/{account}", domain


def _is(value: Value, fact: FactValue) -> bool:
    if isinstance(value, Pattern):
        return isinstance(fact, str) and value.matches(fact)
    if isinstance(value, int):
        return value == fact
    return isinstance(fact, tuple) and ip_of(fact) in value
