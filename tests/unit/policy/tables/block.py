"""
What a table is made of: objects, and connections with their verdicts.

Objects are `Kind namespace/name: spec` in YAML. `Istio` before a kind is Istio's, and
`?` after a name is its dry-run annotation. `Namespace NAME` and `Pod NAMESPACE/NAME`
take Linkerd's default-inbound-policy instead of a spec. A row is

    CLIENT  TARGET  PORT  allow|deny  OBJECT THAT DECIDED  [~ OBJECT THAT WOULD DENY]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import yaml

from agent.addresses import parse_ip
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.kube.objects import read
from agent.policy import istio, linkerd
from agent.policy.compiler import InboundDefaults
from agent.policy.decision import Denied, Request, authorize
from agent.policy.objects import PolicyObject, parse_network
from agent.policy.problem import Problem
from agent.policy.rule import DEFAULT_ANNOTATION, DefaultPolicy, InboundPolicy
from agent.workload.model import NamedPort, Namespace, Objects, Service, Workload
from agent.workload.policies import PolicyBook

T = TypeVar("T", bound=PolicyObject)

TRUST_DOMAIN: Final = TrustDomain("cluster.local")
NETWORKS: Final = ("10.0.0.0/8", "fd00::/8")

CLIENTS: Final[dict[str, tuple[str | None, str]]] = {
    "web": ("spiffe://cluster.local/ns/shop/sa/web", "10.1.0.9"),
    "batch": ("spiffe://cluster.local/ns/jobs/sa/batch", "10.2.0.7"),
    "dotted": ("spiffe://cluster.local/ns/jobs/sa/web.shop", "10.2.0.8"),
    "edge": ("spiffe://cluster.local/ns/shop/sa/edge", "192.0.2.50"),
    "vm": ("spiffe://cluster.local/vm/db", "10.4.0.1"),
    "foreign": ("spiffe://example.org/ns/shop/sa/web", "172.16.9.9"),
    "plain": (None, "10.3.0.5"),
    "mapped": (None, "::ffff:10.3.0.5"),
    "plain6": (None, "fd00::9"),
    "outside": (None, "192.0.2.9"),
    "outside6": (None, "2001:db8::9"),
}
TARGETS: Final = {
    "api": ("shop", "10.1.0.20"),
    "cart": ("shop", "10.1.0.21"),
    "job": ("jobs", "10.2.0.20"),
    "root": ("istio-system", "10.9.0.20"),
}
_VERSIONS: Final = {
    "Server": "v1beta3",
    "ServerAuthorization": "v1beta1",
}


@dataclass(frozen=True, slots=True)
class Block:
    """Objects and what they make of some connections; `source`: who says so."""

    name: str
    source: str
    objects: str
    rows: str
    default: str = "all-unauthenticated"


@dataclass(frozen=True, slots=True)
class Row:
    """One connection and its verdict, in words."""

    client: str
    target: str
    port: int
    verdict: str
    decided: str
    would_deny: str = ""

    @classmethod
    def parse(cls, line: str) -> Row:
        """Read a line as the module says."""
        told, _, would_deny = line.partition("~")
        client, target, port, verdict, decided = told.split(maxsplit=4)
        assert verdict in ("allow", "deny"), line
        words = (client, target, int(port), verdict, decided.strip())
        return cls(*words, would_deny.strip())


def rows(block: Block) -> list[Row]:
    """The rows of a block."""
    return [Row.parse(line) for line in block.rows.splitlines() if line.strip()]


@dataclass(frozen=True, slots=True)
class Compiled:
    """Every target's policy under a block's objects, and what was wrong with them."""

    policies: dict[str, InboundPolicy]
    problems: tuple[Problem, ...]

    def judge(self, client: str, target: str, port: int) -> Row:
        """What becomes of a connection."""
        identity, source = CLIENTS[client]
        request = Request(
            SpiffeId.parse(identity) if identity else None,
            parse_ip(source),
            port,
            parse_ip(TARGETS[target][1]),
        )
        try:
            permit = authorize(request, self.policies[target])
        except Denied as denied:
            if not (denied.reason and denied.field):
                raise AssertionError("a refusal without a reason") from denied
            return Row(client, target, port, "deny", denied.object)
        would = ", ".join(denial.object for denial in permit.would_deny)
        return Row(client, target, port, "allow", permit.object, would)


def compiled(objects: str, default: str = "all-unauthenticated") -> Compiled:
    """Compile a block's objects, as the agent does from manifests."""
    return compile_all(*documents(objects), default=default)


def compile_all(
    *found: dict[str, Any] | Workload | Namespace, default: str = "all-unauthenticated"
) -> Compiled:
    """Compile documents of policies, and pods and namespaces with their defaults."""
    policies: list[PolicyObject] = []
    for document in found:
        if isinstance(document, dict):
            reading = read(document, "table")
            assert not reading.faults, reading.faults[0].problem
            ((_, value),) = reading.objects
            assert isinstance(value, PolicyObject)
            policies.append(value)
    pods = {name: _pod(name, namespace) for name, (namespace, _) in TARGETS.items()}
    for item in found:
        if isinstance(item, Workload):
            pods[item.name] = item
    namespaces = {item.name: item for item in found if isinstance(item, Namespace)}
    defaults = InboundDefaults(
        DefaultPolicy(default), tuple(parse_network(one) for one in NETWORKS)
    )
    book = PolicyBook(TRUST_DOMAIN, defaults)
    rules = book.rules(_objects(policies))
    made = {
        name: book.compile(pod, namespaces.get(pod.namespace), rules)
        for name, pod in pods.items()
    }
    problems = [problem for _, faults in made.values() for problem in faults]
    return Compiled(
        {name: policy for name, (policy, _) in made.items()},
        (*rules.problems, *dict.fromkeys(problems)),
    )


def documents(objects: str) -> list[dict[str, Any] | Workload | Namespace]:
    """The documents of a block's objects, and whoever sets a default."""
    found: list[dict[str, Any] | Workload | Namespace] = []
    for title, spec in (yaml.safe_load(objects) or {}).items():
        *family, kind, name = title.split()
        namespace, _, short = name.rstrip("?").partition("/")
        if kind == "Namespace":
            found.append(Namespace(name, annotations={DEFAULT_ANNOTATION: spec}))
        elif kind == "Pod":
            annotations = {DEFAULT_ANNOTATION: spec}
            found.append(_pod(short, namespace, annotations))
        else:
            metadata: dict[str, Any] = {"namespace": namespace, "name": short}
            spec = dict(spec)
            created = spec.pop("created", None)
            labels = spec.pop("labels", None)
            if created:
                metadata["creationTimestamp"] = created
            if labels:
                metadata["labels"] = labels
            if name.endswith("?"):
                metadata["annotations"] = {istio.DRY_RUN_ANNOTATION: "true"}
            is_istio = family == ["Istio"]
            group = istio.GROUP if is_istio else linkerd.GROUP
            version = "v1" if is_istio else _VERSIONS.get(kind, "v1alpha1")
            found.append(
                {
                    "apiVersion": f"{group}/{version}",
                    "kind": kind,
                    "metadata": metadata,
                    "spec": spec,
                }
            )
    return found


def _pod(
    name: str, namespace: str, annotations: dict[str, str] | None = None
) -> Workload:
    return Workload(
        uid=name,
        namespace=namespace,
        name=name,
        node="n1",
        service_account="default",
        addresses=(parse_ip(TARGETS[name][1]),),
        labels={"app": name, "tier": "back"},
        annotations=annotations or {},
        ports=(NamedPort("http", 8080), NamedPort("admin", 9000)),
    )


def _objects(policies: list[PolicyObject]) -> Objects:
    def of_type(kind: type[T]) -> tuple[T, ...]:
        return tuple(item for item in policies if isinstance(item, kind))

    return Objects(
        services=(
            Service("shop", "api", selector={"app": "api"}),
            Service("shop", "headless"),
        ),
        linkerd=linkerd.LinkerdPolicies(
            servers=of_type(linkerd.Server),
            authorization_policies=of_type(linkerd.AuthorizationPolicy),
            mesh_tls_authentications=of_type(linkerd.MeshTLSAuthentication),
            network_authentications=of_type(linkerd.NetworkAuthentication),
            server_authorizations=of_type(linkerd.ServerAuthorization),
        ),
        istio=istio.IstioPolicies(
            authorization_policies=of_type(istio.AuthorizationPolicy),
            peer_authentications=of_type(istio.PeerAuthentication),
        ),
    )
