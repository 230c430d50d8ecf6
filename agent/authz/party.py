"""
The two ends of a question: what `--from` and `--to` name. Pure.

A client is a pod, an identity or an address; a server is a pod, by its name, by the
name of a Service in front of it, or by an address of either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from agent.addresses import InvalidAddress, IPAddress, parse_ip
from agent.authz.servers import NoSuchParty, Server, behind
from agent.authz.survey import Survey
from agent.identity.spiffe import SCHEME, InvalidSpiffeId, SpiffeId
from agent.policy.names import DNS_FORM_INFIX
from agent.spelling import did_you_mean
from agent.workload.model import Service, Workload

T = TypeVar("T", Workload, Service)


@dataclass(frozen=True, slots=True)
class Client:
    """
    Who asks. `identity` None: in plaintext; `addresses` empty: they are not known.

    `pod` is the pod that it is, where it is one.
    """

    identity: SpiffeId | None
    addresses: tuple[IPAddress, ...] = ()
    pod: str | None = None


def clients(
    text: str,
    survey: Survey,
    *,
    address: IPAddress | None = None,
    plaintext: bool = False,
) -> list[Client]:
    """
    Whom `text` names: `web`, `shop/web`, a SPIFFE ID, a name in DNS form, an address.

    `address` stands in for the client's own; `plaintext`: it shows no certificate.
    Raises: NoSuchParty.
    """
    identity = parse_identity(text)
    if identity is not None:
        if plaintext:
            raise NoSuchParty(f"{text}: who shows no certificate has no identity")
        holders = [
            pod
            for pod in survey.workloads.values()
            if pod.meshed and pod.identity(survey.setting.trust_domain) == identity
        ]
        if address is None and holders:
            return [_client(pod, survey, plaintext=False) for pod in holders]
        return [Client(identity, _own(address))]
    ip = _ip(text)
    if ip is not None:
        peer = survey.directory.peer_at(ip)
        if peer is None or not peer.meshed or plaintext:
            return [Client(None, (ip,), peer.name if peer else None)]
        return [Client(peer.identity, (ip,), peer.name)]
    found = [_client(pod, survey, plaintext=plaintext) for pod in _pods(text, survey)]
    if address is None:
        return found
    return [Client(each.identity, (address,), each.pod) for each in found]


def servers(text: str, port: int, survey: Survey) -> list[Server]:
    """
    The pods that `text` names, each with the port that a connection arrives at.

    Raises: NoSuchParty, also for a Service without such a port or without a pod.
    """
    ip = _ip(text)
    if ip is None:
        named = _named(text, survey.workloads.values())
        if named:
            return [Server(_only(text, named), port)]
        services = _named(text, survey.objects.services)
        if services:
            return behind(_only(text, services), port, survey)
        raise _nobody(text, survey)
    peer = survey.directory.peer_at(ip)
    if peer is not None:
        return [Server(survey.workloads[peer.name], port, ip)]
    owner = [item for item in survey.objects.services if ip in item.addresses]
    if owner:
        return behind(owner[0], port, survey)
    raise NoSuchParty(f"{ip}: no pod and no Service has this address")


def _client(pod: Workload, survey: Survey, *, plaintext: bool) -> Client:
    meshed = pod.meshed and not plaintext
    identity = pod.identity(survey.setting.trust_domain) if meshed else None
    return Client(identity, pod.addresses, pod.key)


def _own(address: IPAddress | None) -> tuple[IPAddress, ...]:
    return () if address is None else (address,)


def _pods(text: str, survey: Survey) -> list[Workload]:
    found = _named(text, survey.workloads.values())
    if not found:
        raise _nobody(text, survey)
    return [_only(text, found)]


def _named(text: str, items: Iterable[T]) -> list[T]:
    """Those called `name` or `namespace/name`."""
    return [item for item in items if text in (item.name, item.key)]


def _only(text: str, found: list[T]) -> T:
    if len(found) > 1:
        keys = ", ".join(sorted(item.key for item in found))
        raise NoSuchParty(f"{text}: which one of {keys}?")
    return found[0]


def _nobody(text: str, survey: Survey) -> NoSuchParty:
    keys = [*survey.workloads, *(item.key for item in survey.objects.services)]
    hint = did_you_mean(text, keys)
    return NoSuchParty(f"{text}: no pod or Service has this name{hint}")


def parse_identity(text: str) -> SpiffeId | None:
    """A SPIFFE ID, or Linkerd's `web.shop.serviceaccount.identity.linkerd.DOMAIN`."""
    try:
        if text.startswith(SCHEME):
            return SpiffeId.parse(text)
        account, infix, domain = text.rpartition(f".{DNS_FORM_INFIX}.")
        if not infix:
            return None
        # A ServiceAccount's name may have dots, a namespace's has none.
        name, dot, namespace = account.rpartition(".")
        if not dot:
            raise NoSuchParty(f"{text}: expected SERVICEACCOUNT.NAMESPACE{infix}...")
        return SpiffeId.parse(f"{SCHEME}{domain}/ns/{namespace}/sa/{name}")
    except InvalidSpiffeId as error:
        raise NoSuchParty(f"{text[:80]}: {error}") from error


def _ip(text: str) -> IPAddress | None:
    try:
        return parse_ip(text)
    except InvalidAddress:
        return None
