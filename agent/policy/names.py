"""How Linkerd's policies name a workload: a DNS name made of its ServiceAccount."""

from __future__ import annotations

import re
from typing import Final

from agent.identity.spiffe import SpiffeId

# Linkerd names a workload by DNS: SA.NS.serviceaccount.identity.CONTROL.TRUST-DOMAIN.
# We have no control plane's namespace; policies written for Linkerd say "linkerd".
DNS_FORM_INFIX: Final = "serviceaccount.identity.linkerd"

_DNS_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
DNS_NAME: Final = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*", re.ASCII)
_NAMESPACE: Final = re.compile(_DNS_LABEL, re.ASCII)


def dns_name(namespace: str, service_account: str, trust_domain: str) -> str:
    """A ServiceAccount's identity in Linkerd's DNS form."""
    return f"{service_account}.{namespace}.{DNS_FORM_INFIX}.{trust_domain}"


def dns_key(identity: SpiffeId) -> str | None:
    """
    `identity` in DNS form with its trust domain set apart, or None where it has none.

    `web.shop.serviceaccount.identity.linkerd@cluster.local`: one joined name would let
    the domain `shop.serviceaccount.identity.linkerd.cluster.local` pass for ours. A
    namespace with a dot, which SPIFFE allows and Kubernetes does not, has no DNS form:
    its last label would pass for the namespace of another workload.
    """
    namespace, account = identity.namespace, identity.service_account
    if namespace is None or account is None:
        return None
    if not _NAMESPACE.fullmatch(namespace) or not DNS_NAME.fullmatch(account):
        return None
    return f"{account}.{namespace}.{DNS_FORM_INFIX}@{identity.trust_domain}"


def name_key(name: str) -> str:
    """
    A name in DNS form as `dns_key` writes it; without the infix it is no identity's.

    The last infix counts, so a trust domain that contains one has no DNS form here.
    """
    head, infix, domain = name.rpartition(f".{DNS_FORM_INFIX}.")
    return f"{head}.{DNS_FORM_INFIX}@{domain}" if infix else name


def suffix_key(suffix: str) -> str:
    """`.suffix` of DNS names, as the end of a `dns_key`; always a whole domain."""
    key = name_key(suffix)
    return key if "@" in key else f"@{suffix[1:]}"
