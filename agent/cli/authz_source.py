"""Where `podlock authz` takes its facts from: an agent's socket, and files."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.authz.survey import Setting, Survey
from agent.identity.spiffe import TrustDomain
from agent.kube import offline
from agent.policy.compiler import InboundDefaults
from agent.policy.rule import DefaultPolicy
from agent.status import flows
from agent.status.flows import InvalidSeen

if TYPE_CHECKING:
    from agent.authz.seen import NodeFlows
    from agent.config import Config


def setting_of(config: Config) -> Setting:
    """What a configuration says about policy."""
    default = DefaultPolicy(config.policy.default_inbound)
    policy = config.policy
    federated = frozenset(item.trust_domain for item in config.federation.domains)
    defaults = InboundDefaults(
        default,
        policy.cluster_networks,
        policy.root_namespace,
        federated,
        only_pods=config.identity.workload_api is None,
    )
    return Setting(config.trust_domain, defaults)


def live(socket: Path) -> Survey:
    """
    What is in force at the agent behind `socket`.

    Raises: NoAnswer; InvalidManifests for an agent of another version whose objects
    are not understood here.
    """
    from agent.status import client  # slow to import, and files need none

    told = client.fetch(socket, "objects")
    objects = offline.read_documents(
        (f"{socket}", document) for document in told["manifests"]
    )
    lost = {
        family: frozenset((one, other) for one, other in pairs)
        for family, pairs in told["unreadable"].items()
    }
    linkerd = replace(objects.linkerd, unreadable_servers=lost["linkerd"])
    istio = replace(objects.istio, unreadable=lost["istio"])
    setting = told["setting"]
    defaults = InboundDefaults(
        DefaultPolicy(setting["default_inbound"]),
        tuple(ipaddress.ip_network(text) for text in setting["cluster_networks"]),
        setting["root_namespace"],
        frozenset(TrustDomain(text) for text in setting.get("federated", ())),
        only_pods=setting.get("only_pods", True),
    )
    return Survey.of(
        replace(objects, linkerd=linkerd, istio=istio),
        Setting(TrustDomain(setting["trust_domain"]), defaults),
    )


def seen_by(socket: Path) -> NodeFlows:
    """The node and the flows that its agent has seen. Raises: NoAnswer."""
    from agent.status import client

    return flows.read(client.fetch(socket, "seen"), str(socket))


def seen_in(path: Path) -> NodeFlows:
    """The same from a file. Raises: InvalidSeen."""
    try:
        told: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict)
    except OSError as error:
        raise InvalidSeen(f"{path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise InvalidSeen(f"{path}: not JSON: {error}") from error
    return flows.read(told, str(path))
