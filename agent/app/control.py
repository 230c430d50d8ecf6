"""
The control process of one node: knows the objects, keeps pods captured and
certificates current, feeds the workers, and can be asked about all of it.

Every decision is one synchronous step over values (`_adopt`, `_reconcile`); tasks only
bring news and carry results out.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from agent.app.allegiance import Allegiance
from agent.app.announcing import Announcer, Silent
from agent.app.direct import Direct
from agent.app.enrolled import EnrolledPods
from agent.app.tracer import Message as Traced
from agent.app.tracer import Note
from agent.app.verification import Verification
from agent.app.workers import Told, WorkerProcess, Workers
from agent.app.world import world_of
from agent.authz.seen import Seen
from agent.config import Config
from agent.dependencies import Dependencies
from agent.errors import KernelError
from agent.findings import Faults
from agent.identity.schedule import USABLE
from agent.identity.source import CertificateSource
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.kube.manifests import Change
from agent.log import logger
from agent.policy.problem import Problem
from agent.proxy import instructions
from agent.redirect.enrolment import Enrolment
from agent.redirect.gate import Gate
from agent.status.documents import ObjectsFrom
from agent.status.events import EventRing
from agent.status.ledger import ConnectionLedger, ConnectionMessage
from agent.workload.connection import (
    ConnectionOpened,
    ConnectionRefused,
    Incident,
    TrustInstalled,
    WorldWanted,
)
from agent.workload.delta import Snapshot, diff
from agent.workload.directory import Directory
from agent.workload.model import Objects
from agent.workload.registry import NodeView, Registry
from agent.workload.retained import staying, with_retained
from agent.workload.without_effect import EffectJudge

log = logger()

# How long a node that starts waits for each pod before it says that it serves.
START_SECONDS: Final = 60.0

MakeDirect = Callable[[Note, Callable[[Traced], None]], Direct]


class Control:
    """The state of one node's agent and the steps that change it."""

    def __init__(
        self,
        config: Config,
        cgroup: str,
        registry: Registry,
        enrolment: Enrolment,
        source: CertificateSource,
        direct: MakeDirect | None = None,
        announcer: Announcer | None = None,
        missing: Callable[[], list[str]] = list,
        objects_from: Callable[[], ObjectsFrom] | None = None,
        gate: Gate | None = None,
        dependencies: Dependencies | None = None,
        faults: Faults | None = None,
    ) -> None:
        """
        `missing`: why the objects that are known are not all, for people. `gate`: shut
        for pods that nobody has looked at.
        """
        self.config = config
        self.cgroup = cgroup
        self.started = time.time()
        self.events = EventRing()
        self.ledger = ConnectionLedger()
        self.seen = Seen(since=self.started)
        self.objects = Objects()
        self.view = NodeView({}, {}, Directory(), frozenset(), ())
        self.problems: tuple[Problem, ...] = ()
        self.loaded = False
        self._is_complete = False
        self._strangers_gone = False
        self._stopping = False
        self._has_served = False
        self._waits_since: float | None = None
        self.verification = Verification()
        self._world = instructions.WorldUpdated(Snapshot())
        self._announcer = announcer or Silent()
        self.dependencies = dependencies or Dependencies()
        self.faults = faults or Faults()
        self._missing = missing
        self.gate = gate
        self.objects_from = objects_from or partial(_manifests_in, config.manifests)
        self._registry = registry
        self.workers = Workers(config, self._state, self._hear, self._lost)
        self.enrolled = EnrolledPods(
            enrolment,
            self.workers,
            self._announcer,
            config.trust_domain,
            self._note,
            lambda identity: self.allegiance.has(identity),
        )
        self.allegiance = Allegiance(
            *(config, source, self.workers, self.ledger.by_authority, self._note),
            dependencies=self.dependencies,
        )
        self.direct = direct(self._note, self._record) if direct else None
        self._effects = EffectJudge(config.trust_domain, config.policy.root_namespace)
        self._announcer.advise(self.without_effect)
        self.allegiance.on_trust = self._federate
        self.allegiance.on_issued = self._issued

    @property
    def federated(self) -> frozenset[TrustDomain]:
        """The foreign trust domains of the configuration and of the active trust."""
        trust = self.allegiance.trust
        bundles = trust.federated if trust else ()
        return frozenset(
            {item.trust_domain for item in self.config.federation.domains}
            | {bundle.trust_domain for bundle in bundles}
        )

    def _federate(self) -> None:
        """The trust changed: warnings about foreign names depend on its domains."""
        gone = set(self.view.policy_problems)
        self.view = self._registry.federate(self.view, self.objects, self.federated)
        others = (each for each in self.problems if each not in gone)
        self.problems = (*others, *self.view.policy_problems)
        if self.loaded:
            self._announcer.judged(self.view.policy_problems)

    async def without_effect(self) -> tuple[Problem, ...]:
        """Policies that change nothing, while all objects are known."""
        if not self._is_complete:
            return ()
        # With very many policies it takes a while, and nothing here waits for it.
        return await trio.to_thread.run_sync(self._effects, self.objects)

    # News from outside.

    def adopt(self, change: Change) -> None:
        """The objects changed: everything that follows from them, in one step."""
        if self._stopping:
            return
        before = set(self.problems)
        captured = self.enrolled.captured_as
        objects = with_retained(change.objects, captured, complete=change.complete)
        self._is_complete = change.complete
        stays = staying(self.view.workloads, captured, complete=change.complete)
        self.view = self._registry.apply(objects, stays)
        self.objects = replace(objects, workloads=self.view.workloads)
        self.problems = (*change.problems, *self.view.problems)
        for problem in self.problems:
            if problem not in before:
                self._note(
                    "problem", problem.object, f"{problem.field}: {problem.message}"
                )
        self._announcer.judged(self.view.policy_problems)
        first = not self.loaded
        if first:
            self.enrolled.forget_connections()
        self.loaded = True
        self._want_identities()
        outside = self._outside() if self.gate else {}
        self._admit(outside)
        # While the namespaces of pods that left are open still.
        self._judge_direct()
        if self.enrolled.give_up(self.view, complete=change.complete).leave:
            self._strangers_gone = False
        # Before any pod is captured: a worker that did not know the peers of a new
        # pod would take them for the outside.
        self._tell_world()
        self.reconcile()
        if self.gate:
            self.gate.retain(outside)
        if first and self.direct:
            self.direct.settle_earlier()

    def _want_identities(self) -> None:
        self.allegiance.want(self.view.identities | self.enrolled.identities)

    def _issued(self, identity: SpiffeId) -> None:
        """A pod whose account has changed may have waited for this certificate."""
        waits = self.view.identities - self.enrolled.identities
        if identity in waits:
            self.reconcile()
            self._want_identities()

    def reconcile(self) -> None:
        """Make the captured pods those of the view; what fails is tried again later."""
        if self._stopping:
            return
        self._judge_direct()
        self.enrolled.reconcile(self.view, complete=self._is_complete)
        self._judge_direct()
        if self._is_complete and not self._strangers_gone and not self._missing():
            # Last: a pod that holds the namespace of an earlier one has it by now.
            self._strangers_gone = self.enrolled.forget_strangers(self.view)
        if self.loaded:
            wanted = self.view.pods.keys() | self.view.unplaced
            self._announcer.in_mesh(self.enrolled.captures, wanted)

    @property
    def is_being_removed(self) -> bool:
        """
        Whether the namespace that agents live in is being deleted.

        Then there will be no next agent, and pods must not be left closed.
        """
        home = self.config.kubernetes.agent.partition("/")[0]
        namespaces = self.objects.namespaces if self.config.kubernetes.is_used else ()
        return any(each.name == home and each.terminating for each in namespaces)

    @property
    def not_serving_because(self) -> list[str]:
        """
        What is missing before this node serves. Names no pod: anybody on it may ask.

        At the start that is also the certificates of the pods that are there, for
        START_SECONDS after all else is there; then, and later, one pod's trouble is its
        own, which the status tells, and no reason to hold up a rollout.
        """
        reasons = self._lacking()
        if reasons or self._has_served:
            return reasons
        faults = self._pod_faults()
        self._waits_since = self._waits_since or time.monotonic()
        if faults and time.monotonic() - self._waits_since < START_SECONDS:
            return [f"{len(faults)} pods or certificates are not ready yet"]
        self._has_served = True
        return []

    @property
    def not_ready_because(self) -> list[str]:
        """What is missing before every pod of this node is in the mesh."""
        return self._lacking() + self._pod_faults()

    def _lacking(self) -> list[str]:
        reasons = list(self._missing())
        if not self.loaded and not reasons:
            reasons.append("the objects have not been looked at yet")
        if self.workers.running < len(self.workers.slots):
            reasons.append("a proxy worker is not running")
        return reasons + self.verification.reasons(time.time())

    def _pod_faults(self) -> list[str]:
        uncertified = [
            f"no valid certificate for {status.identity}: {status.state.value}"
            + (f" ({status.last_error})" if status.last_error else "")
            for status in self.allegiance.renewer.report()
            if status.state not in USABLE
        ]
        return uncertified + [
            f"{self.view.pods[uid].key} is not captured: {why}"
            for uid, why in self.enrolled.waiting.items()
        ]

    async def stop(self, then: Callable[[], None] = lambda: None) -> None:
        """
        Take no more connections, `then`, let those there are finish, end the workers.

        Pods stay enrolled: until the next agent they are refused, not let through. It
        may be there at once, so from now on nothing is changed about them.
        """
        self._stopping = True
        self.enrolled.stop()
        # The workers have these listeners too.
        await self.workers.drain(then)

    # Pods.

    def _outside(self) -> dict[str, str]:
        """This node's pods that stay outside the mesh, and their namespaces."""
        return {
            pod.uid: pod.netns
            for pod in self.view.workloads
            if pod.netns and pod.node == self.config.node and not pod.meshed
        }

    def _admit(self, outside: Mapping[str, str]) -> None:
        """Before a pod that leaves the mesh is released: it never meets the gate."""
        if self.gate:
            try:
                self.gate.admit(outside)
            except KernelError as error:
                self._note("gate", "pods outside the mesh", str(error))

    def _judge_direct(self) -> None:
        if self.direct is None:
            return
        valid = [
            s.identity for s in self.allegiance.renewer.report() if s.state in USABLE
        ]
        self.direct.refresh(
            world_of(self.view, self.enrolled.captures, self.config.trust_domain, valid)
        )

    def processes(self) -> dict[str, int]:
        """This agent's processes that serve connections, by name."""
        workers = {f"worker {s.index}": s.pid for s in self.workers.slots if s.outbox}
        return {"control": os.getpid(), **workers}

    # What the workers are told.

    def _state(self) -> Iterator[tuple[instructions.Instruction, Sequence[int]]]:
        """Everything that a new worker must know, in the order it needs it."""
        for instruction in self.allegiance.told():
            yield instruction, ()
        yield self._world, ()
        yield from self.enrolled.told(self.view)

    def _tell_world(self) -> None:
        """Who has the last world gets what changed; nothing where nothing did."""
        old, view = self._world.snapshot, self.view
        new = Snapshot(old.version + 1, view.directory, view.policies)
        delta = diff(old, new)
        if delta:
            self._world = instructions.WorldUpdated(new)
            self.workers.forget_world()
            self.workers.broadcast(instructions.WorldChanged(delta))

    # What the workers tell.

    def _hear(self, worker: WorkerProcess, message: Told) -> None:
        match message:
            case WorldWanted(reason=reason):
                log.warning("world wanted", worker=worker.index, reason=reason)
                self.workers.tell_world(worker, self._world)
            case TrustInstalled(version=version):
                worker.trust_version = version
            case Incident():
                self.events.incident(message)
                log.warning(
                    message.kind, object=message.object, message=message.message
                )
            case ConnectionRefused(outcome=outcome, reason=reason, destination=to):
                self._record(message)
                name = to.workload or to.address
                self.events.add(f"connection-{outcome}", name, reason, time.time())
            case _:
                self._record(message)
                if self.direct and isinstance(message, ConnectionOpened):
                    self.direct.learn(message)

    def _record(self, message: ConnectionMessage) -> None:
        """What happened to a connection, for who asks about it or about its like."""
        self.ledger.apply(message)
        self.seen.apply(message)

    def _lost(self, worker: WorkerProcess) -> None:
        lost = self.ledger.worker_lost(worker.index, time.time())
        self.seen.worker_lost(worker.index)
        name = f"worker {worker.index}"
        if worker.fault is not None:
            text = f"process {worker.pid} {worker.fault} and was killed"
            self._note("worker-hung", name, text)
        self._note(
            "worker-died",
            name,
            f"process {worker.pid} ended, and {lost} connections with it",
        )

    def _note(self, kind: str, subject: str, text: str, **facts: object) -> None:
        self.events.add(kind, subject, text, time.time())
        log.info(kind, object=subject, message=text, **facts)


def _manifests_in(directory: Path) -> ObjectsFrom:
    return {"source": "manifests", "place": str(directory), "not_installed": []}
