"""
Objects in force as the manifests that make them: what `read` reads, the other way.

Only what we read of an object is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import msgspec

from agent.addresses import IPAddress
from agent.policy.objects import PolicyObject
from agent.workload.model import (
    EndpointSlice,
    NamedPort,
    Namespace,
    Objects,
    Service,
    SliceEndpoint,
    Workload,
)

Manifest = dict[str, Any]


def manifests(objects: Objects) -> Iterator[Manifest]:
    """Every object, kind by kind."""
    yield from (_namespace(item) for item in objects.namespaces)
    yield from (_pod(item) for item in objects.workloads)
    yield from (_service(item) for item in objects.services)
    for item in objects.endpoint_slices:
        yield from map(_endpoint_slice, _by_ports(item))
    for each in fields(objects):
        family = getattr(objects, each.name)
        if is_dataclass(family):
            for kind in fields(family):
                yield from _policies(getattr(family, kind.name))


def _policies(items: Iterable[object]) -> Iterator[Manifest]:
    for item in items:
        if isinstance(item, PolicyObject):
            document: Manifest = _written(item)
            yield document


def _written(value: Any) -> Any:
    """
    A part of a policy as plain data, without what is as it would be if it were absent:
    an earlier version of a kind may not have a field that the latest one has.
    """
    if isinstance(value, msgspec.Struct):
        return {
            each.encode_name: _written(found)
            for each in msgspec.structs.fields(value)
            if (found := getattr(value, each.name)) != _default(each)
        }
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_written(item) for item in value]
    return msgspec.to_builtins(value)


def _default(of: msgspec.structs.FieldInfo) -> object:
    """NODEFAULT, which is equal to nothing else, where it must be written."""
    if of.default_factory is not msgspec.NODEFAULT:
        return of.default_factory()
    return of.default


def _object(kind: str, item: Any, version: str = "v1", **rest: Any) -> Manifest:
    metadata = {"name": item.name}
    if not isinstance(item, Namespace):
        metadata["namespace"] = item.namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def _namespace(item: Namespace) -> Manifest:
    document = _object("Namespace", item)
    document["metadata"] |= {
        "labels": dict(item.labels),
        "annotations": dict(item.annotations),
    }
    return document


def _pod(pod: Workload) -> Manifest:
    ports = [{"name": port.name, "containerPort": port.port} for port in pod.ports]
    document = _object(
        "Pod",
        pod,
        spec={
            "serviceAccountName": pod.service_account,
            "hostNetwork": pod.host_network,
            "containers": [{"ports": ports}],
        },
        status={
            "phase": "Succeeded" if pod.finished else "Running",
            "podIPs": [{"ip": str(ip)} for ip in pod.addresses],
            "conditions": [{"type": "Ready", "status": str(pod.ready)}],
        },
    )
    if pod.node:
        document["spec"]["nodeName"] = pod.node
    document["metadata"] |= {
        "uid": pod.uid,
        "labels": dict(pod.labels),
        "annotations": dict(pod.annotations),
    }
    return document


def _service(item: Service) -> Manifest:
    spec: Manifest = {
        "clusterIPs": ["None"] if item.headless else _texts(item.addresses),
        "selector": dict(item.selector),
        "ports": [
            {"name": each.name, "port": each.port, "targetPort": each.target}
            for each in item.ports
        ],
        "publishNotReadyAddresses": item.publish_not_ready,
    }
    if item.external_name is not None:
        spec |= {"type": "ExternalName", "externalName": item.external_name}
    return _object("Service", item, spec=spec)


def _by_ports(item: EndpointSlice) -> Iterator[EndpointSlice]:
    """Endpoints of the older kind bring their own ports: a slice for each set."""
    found: dict[tuple[NamedPort, ...] | None, list[SliceEndpoint]] = {None: []}
    for each in item.endpoints:
        found.setdefault(each.ports, []).append(replace(each, ports=None))
    for number, (ports, endpoints) in enumerate(found.items()):
        if ports is not None:
            name = f"{item.name}-{number}"
            yield replace(item, name=name, ports=ports, endpoints=tuple(endpoints))
        elif endpoints or len(found) == 1:
            yield replace(item, endpoints=tuple(endpoints))


def _endpoint_slice(item: EndpointSlice) -> Manifest:
    six = any(":" in str(ip) for each in item.endpoints for ip in each.addresses)
    document = _object(
        "EndpointSlice",
        item,
        "discovery.k8s.io/v1",
        addressType="IPv6" if six else "IPv4",
        ports=[_slice_port(port) for port in item.ports],
        endpoints=[
            {
                "addresses": _texts(each.addresses),
                "conditions": {"ready": each.ready}
                | ({"serving": True, "terminating": True} if each.draining else {}),
                "targetRef": {
                    "kind": "Pod",
                    "name": each.pod_name,
                    "uid": each.pod_uid,
                }
                if each.pod_name or each.pod_uid
                else {},
            }
            for each in item.endpoints
        ],
    )
    document["metadata"]["labels"] = {"kubernetes.io/service-name": item.service}
    return document


def _slice_port(port: NamedPort) -> Manifest:
    return {"name": port.name, "port": port.port, "protocol": "TCP"}


def _texts(addresses: Iterable[IPAddress]) -> list[str]:
    return [str(ip) for ip in addresses]
