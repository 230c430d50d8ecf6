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


def dns_form(identity: SpiffeId) -> str | None:
    """
    `identity` in DNS form, or None where it has none.

    A namespace with a dot, which SPIFFE allows and Kubernetes does not, has none:
    its last label would pass for the namespace of another workload.
    """
    namespace, account = identity.namespace, identity.service_account
    if namespace is None or account is None:
        return None
    if not _NAMESPACE.fullmatch(namespace) or not DNS_NAME.fullmatch(account):
        return None
    return dns_name(namespace, account, str(identity.trust_domain))
