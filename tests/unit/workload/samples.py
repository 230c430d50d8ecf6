"""Pods and services for tests."""

from __future__ import annotations

from collections.abc import Mapping

from agent.addresses import parse_ip
from agent.workload.model import NamedPort, Service, ServicePort, Workload

ENABLED = {"podlock.io/mesh": "enabled"}
DISABLED = {"podlock.io/mesh": "disabled"}


def pod(
    key: str,
    *addresses: str,
    node: str = "n1",
    labels: Mapping[str, str] = ENABLED,
    netns: str | None = "",
    account: str = "default",
    uid: str = "",
    ports: Mapping[str, int] | None = None,
    annotations: Mapping[str, str] | None = None,
    host_network: bool = False,
    static: bool = False,
    ready: bool = True,
    finished: bool = False,
) -> Workload:
    """A meshed pod on n1, in a network namespace of its own."""
    namespace, _, name = key.partition("/")
    return Workload(
        uid=uid or f"uid-{namespace}-{name}",
        namespace=namespace,
        name=name,
        node=node,
        service_account=account,
        addresses=tuple(parse_ip(text) for text in addresses),
        labels=labels,
        annotations=annotations or {},
        ports=tuple(NamedPort(port, number) for port, number in (ports or {}).items()),
        host_network=host_network,
        static=static,
        netns=f"/run/netns/{namespace}-{name}" if netns == "" else netns,
        ready=ready,
        finished=finished,
    )


def service(
    key: str,
    *addresses: str,
    target: int | str = 8080,
    selector: Mapping[str, str] | None = None,
    publish_not_ready: bool = False,
) -> Service:
    """A service of port 80, named http."""
    namespace, _, name = key.partition("/")
    return Service(
        namespace,
        name,
        tuple(parse_ip(text) for text in addresses),
        (ServicePort("http", 80, target),),
        selector or {},
        publish_not_ready,
    )
