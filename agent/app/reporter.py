"""What the status socket tells: control's state as the documents of `agent.status`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final, Literal, cast

import trio

from agent import __version__
from agent.app.allegiance import what_outdated_means
from agent.app.control import Control
from agent.app.direct import Direct
from agent.app.trust_documents import (
    anchor_of_bundle,
    certificate,
    revocation_list,
)
from agent.app.verifier import document
from agent.app.workload_rows import workloads
from agent.config import Config
from agent.dependencies import Dependency
from agent.kube.export import manifests
from agent.policy.index import RuleSet
from agent.policy.problem import Problem
from agent.policy.rule import Authorization, InboundPolicy, IstioPolicy
from agent.proxy.instructions import CountTraffic
from agent.redirect.features import Level, Outcome
from agent.status import documents, flows
from agent.status.documents import iso

# How long a question about connections waits for the workers' latest counts.
COUNT_SECONDS: Final = 0.2
MAX_OBJECTS: Final = 100  # of one kind of rules, of one workload


class ControlReporter:
    """Answers each question from the state at that moment."""

    def __init__(self, control: Control, features: Iterable[Outcome] = ()) -> None:
        self._control = control
        self._without_effect: tuple[Problem, ...] = ()
        self._features: list[documents.KernelFeature] = [
            {
                "name": each.feature.name,
                "level": "native" if each.level is Level.NATIVE else "fallback",
                "reason": None if each.level is Level.NATIVE else each.message,
            }
            for each in features
        ]

    async def document(self, name: documents.Name) -> dict[str, Any]:
        """The named document (shapes: `agent.status.documents`)."""
        if name == "connections":
            self._control.workers.broadcast(CountTraffic())
            await trio.sleep(COUNT_SECONDS if self._control.ledger.open_count() else 0)
            if self._control.direct:
                await self._control.direct.count()
        if name == "status":
            self._without_effect = await self._control.without_effect()
        builders = {
            "status": self._status,
            "workloads": self._workloads,
            "certificates": self._certificates,
            "policies": self._policies,
            "connections": self._control.ledger.document,
            "seen": self._seen,
            "events": self._control.events.document,
            "objects": self._objects,
        }
        return cast(dict[str, Any], builders[name]())

    def _status(self) -> documents.Status:
        control, config = self._control, self._control.config
        not_ready = control.not_ready_because
        return {
            "version": __version__,
            "node": config.node,
            "pid": os.getpid(),
            "started": iso(control.started),
            "uptime_seconds": round(time.time() - control.started, 3),
            "trust_domain": str(config.trust_domain),
            "ready": not not_ready,
            "not_ready_because": not_ready,
            "workers": self._workers(),
            "redirect": {
                "pins": str(config.redirect.pins),
                "cgroup": str(control.cgroup),
                **document(control.verification, time.time()),
                "features": self._features,
            },
            "same_node": _same_node(control.direct),
            "objects_from": control.objects_from(),
            "identity": {
                "mode": _mode(config),
                "bundle": [a.fingerprint for a in self._anchors()],
                "trust_version": control.workers.trust_version or None,
            },
            "dependencies": [_dependency(each) for each in control.dependencies],
            "counts": {
                "captured": len(control.enrolled.captures),
                "waiting": len(control.enrolled.waiting),
                **control.ledger.counts(),
                "audited": control.seen.audited,
            },
            "audited": flows.audited(control.seen.flows()),
            "problems": self._problems(),
            "warnings": [
                {"object": each.object, "field": each.field, "message": each.message}
                for each in self._without_effect
            ],
        }

    def _workers(self) -> list[documents.Worker]:
        return [
            {
                "index": slot.index,
                "pid": slot.pid if slot.outbox else None,
                "started": iso(slot.started) if slot.outbox else None,
                "restarts": max(slot.restarts, 0),
                "connections": self._control.ledger.open_count(slot.index),
            }
            for slot in self._control.workers.slots
        ]

    def _workloads(self) -> documents.Workloads:
        control = self._control
        return workloads(
            control.view,
            control.config.node,
            control.config.trust_domain,
            control.enrolled.captures.keys(),
            control.enrolled.waiting,
        )

    def _certificates(self) -> documents.Certificates:
        allegiance = self._control.allegiance
        chains, outdated = allegiance.chains, allegiance.outdated
        return {
            "certificates": [
                certificate(status, chains.get(status.identity))
                for status in allegiance.renewer.report()
            ],
            "bundle": [
                anchor_of_bundle(anchor, allegiance.trust) for anchor in self._anchors()
            ],
            "trust": self._trust(),
            "revocation_lists": [
                revocation_list(each, outdated=each in outdated)
                for each in allegiance.crls.lists
            ],
        }

    def _trust(self) -> documents.TrustState:
        control, allegiance = self._control, self._control.allegiance
        trust = allegiance.trust
        return {
            "version": trust.version if trust else None,
            "workers": [
                {"worker": slot.index, "version": slot.trust_version}
                for slot in control.workers.slots
            ],
            "acknowledged": allegiance.reports.acknowledged,
            "error": allegiance.reports.error,
            "retiring": sorted(trust.retiring) if trust else [],
            "tainted": sorted(trust.tainted) if trust else [],
        }

    def _problems(self) -> list[documents.Problem]:
        control, allegiance = self._control, self._control.allegiance
        found = [
            *((p.object, p.field, p.message) for p in control.problems),
            *((subject, None, text) for subject, text in control.faults),
            *((path, None, text) for path, text in allegiance.crls.faults.items()),
            *((each.issuer, "issuer", why) for each, why in allegiance.unsigned),
            *((str(who), "certificate", why) for who, why in allegiance.not_renewed),
            *(
                (each.issuer, "nextUpdate", what_outdated_means(each))
                for each in allegiance.outdated
            ),
        ]
        return [{"object": o, "field": f, "message": m} for o, f, m in found]

    def _policies(self) -> documents.Policies:
        policies = self._control.view.policies.values()
        return {
            "policies": [_policy(p) for p in sorted(policies, key=lambda p: p.workload)]
        }

    def _seen(self) -> documents.Seen:
        control = self._control
        return flows.document(control.seen, control.config.node, time.time())

    def _objects(self) -> documents.ObjectList:
        control, policy = self._control, self._control.config.policy
        return {
            "node": control.config.node,
            "setting": {
                "trust_domain": str(control.config.trust_domain),
                "default_inbound": policy.default_inbound,
                "cluster_networks": [str(net) for net in policy.cluster_networks],
                "root_namespace": policy.root_namespace,
                "federated": sorted(map(str, control.federated)),
                "only_pods": control.config.identity.workload_api is None,
            },
            "unreadable": {
                "linkerd": _pairs(control.objects.linkerd.unreadable_servers),
                "istio": _pairs(control.objects.istio.unreadable),
            },
            "manifests": list(manifests(control.objects)),
        }

    def _anchors(self) -> tuple[Any, ...]:
        trust = self._control.allegiance.trust
        return trust.bundle.anchors if trust else ()


def _pairs(found: frozenset[tuple[str, str]]) -> list[list[str]]:
    return [list(pair) for pair in sorted(found)]


def _mode(config: Config) -> Literal["embedded", "service", "spiffe-agent"]:
    if config.identity.workload_api is not None:
        return "spiffe-agent"
    return "service" if config.identity.service else "embedded"


def _dependency(each: Dependency) -> documents.Dependency:
    return {
        "kind": each.kind,
        "name": each.name,
        "state": each.state,
        "last_contact": iso(each.last_contact) if each.last_contact else None,
        "since": iso(each.failing_since) if each.failing_since else None,
        "why": each.why,
        "attempts": each.attempts,
    }


def _same_node(direct: Direct | None) -> documents.SameNode:
    return {
        "mode": "direct" if direct and direct.enabled else "tunnel",
        "reason": direct.why_not if direct else None,
        "pairs": direct.pairs if direct else 0,
        "unrecorded": direct.unrecorded if direct else 0,
    }


def _policy(policy: InboundPolicy) -> documents.WorkloadPolicy:
    return {
        "workload": policy.workload,
        "default": policy.default.value,
        "default_from": policy.default_from,
        "ports": [
            {
                "port": port,
                "server": rule.server,
                "access_policy": rule.access_policy.value,
                "authorizations": [_authorization(a) for a in rule.authorizations],
            }
            for port, rule in sorted(policy.ports.items())
        ],
        "istio": None if policy.istio is None else _istio(policy.istio),
    }


def _istio(policy: IstioPolicy) -> documents.IstioRules:
    tls = policy.mutual_tls
    mandates = (
        {}
        if tls is None
        else {"": tls.default}
        | {str(port): mandate for port, mandate in sorted(tls.ports.items())}
    )
    return {
        "mutual_tls": {
            port: f"{mandate.mode} ({mandate.object})"
            for port, mandate in mandates.items()
        },
        "denies": _objects(policy.denies),
        "allows": _objects(policy.allows),
        "dry_run": _objects((*policy.dry_denies, *policy.dry_allows)),
    }


def _objects(sets: tuple[RuleSet, ...]) -> list[str]:
    names = (name for rules in sets for name in rules.objects)
    return list(islice(names, MAX_OBJECTS))


def _authorization(authorization: Authorization) -> documents.Authorization:
    networks = authorization.networks
    identities = authorization.identities
    return {
        "name": authorization.name,
        # Not demanded at all, which is not the same as an empty list.
        "identities": ["unauthenticated"]
        if identities is None
        else [match.text for match in identities],
        "networks": ["any"]
        if networks is None
        else [str(match.cidr) for match in networks],
    }
