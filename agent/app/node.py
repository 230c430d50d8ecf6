"""
`podlock run`: one node's agent, from start to stop.

Start order is fail closed: the redirect is loaded (or found pinned) and the status
socket answers before any pod is captured; a pod is captured as soon as it is known,
and its connections wait for its certificate. On the way out nothing is detached: the
redirect stays, so that pods of a node without an agent are refused and not bypassed.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from agent.addresses import SocketAddress
from agent.app.authority import RunningAuthority, open_authority
from agent.app.control import Control
from agent.app.descriptors import allow_descriptors
from agent.app.direct import Direct
from agent.app.dumps import forbid_dumps
from agent.app.federation import keep_federated
from agent.app.objects import ObjectSource, node_objects
from agent.app.probes import Probes, Tell
from agent.app.reporter import ControlReporter
from agent.app.stopping import until_signalled
from agent.app.verifier import Verifier, own_cgroup
from agent.config import Config
from agent.dependencies import Dependencies
from agent.errors import InputError, KernelError
from agent.findings import Faults
from agent.identity import crl_files
from agent.identity.acquaintance import read_anchors
from agent.identity.client import IdentityClient
from agent.identity.local import EmbeddedIdentity
from agent.identity.source import CertificateSource
from agent.identity.workload_api import WorkloadApi, require_package
from agent.kube.manifests import Change
from agent.log import configure, logger
from agent.policy.compiler import InboundDefaults
from agent.policy.rule import DefaultPolicy
from agent.redirect import bpffs, pinset, program, sockets
from agent.redirect.enrolment import Enrolment
from agent.redirect.gate import Gate
from agent.redirect.kernel import RedirectMaps
from agent.redirect.layout import PinLayout
from agent.redirect.observed import KernelObserver
from agent.redirect.sideline import Sideline
from agent.redirect.tenure import Tenure
from agent.status import readiness, server
from agent.workload.registry import Registry

log = logger()

# How soon a pod whose capture failed, or whose namespace was replaced, is looked at.
RECONCILE_SECONDS: Final = 0.5
# How soon a direct connection is told of; and every how many times all are counted.
TRACE_SECONDS: Final = 1.0
COUNT_EVERY: Final = 10
# How soon an agent that waits for another to leave takes over.
TAKE_SECONDS: Final = 0.05
GATE_SECONDS: Final = 1.0


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises: PodlockError for what prevents a start."""
    configure(config.log.level, config.log.format)
    forbid_dumps()
    allow_descriptors()
    trio.run(_run, config)


def remove_redirect(config: Config, *, force: bool = False) -> None:
    """
    Detach and unpin everything on this node.

    Raises: InputError where nothing is pinned, or an agent runs and not `force`;
    KernelError.
    """
    pins = config.redirect.pins
    if not pinset.exists(PinLayout(pins)):
        raise InputError(f"{pins}: nothing is pinned there, so nothing was removed")
    with contextlib.closing(Tenure(pins)) as tenure:
        alone = tenure.try_take()
        if not alone and not force:
            raise InputError(
                f"an agent of this node is running and uses {pins}: stop it first, or"
                " use --force (a running agent attaches its programs again)"
            )
        program.unload(pins, forget_lock=alone)


async def _run(config: Config) -> None:
    log.info("starting", settings=config.document()["values"])
    cgroup = bpffs.find_cgroup(config.redirect.cgroup)
    with contextlib.closing(Tenure(config.redirect.pins, cgroup)) as tenure:
        await _take_office(tenure)
        await _hold_office(config, tenure)


async def _take_office(tenure: Tenure) -> None:
    """Wait for an agent that is there to leave. Raises: KernelError."""
    if tenure.try_take():
        return
    log.info("waiting", reason="another agent has this node")
    while not tenure.try_take():  # noqa: ASYNC110 - another process lets go
        await trio.sleep(TAKE_SECONDS)


async def _hold_office(config: Config, tenure: Tenure) -> None:
    loaded = await trio.to_thread.run_sync(
        partial(
            program.ensure_loaded,
            source=config.redirect.source,
            pins=config.redirect.pins,
            cgroup=config.redirect.cgroup,
        )
    )
    log.info("redirect in force", **loaded.facts())
    registry = Registry(
        config.node,
        config.trust_domain,
        InboundDefaults(
            DefaultPolicy(config.policy.default_inbound),
            config.policy.cluster_networks,
            config.policy.root_namespace,
            frozenset(item.trust_domain for item in config.federation.domains),
            only_pods=config.identity.workload_api is None,
        ),
        by_mark=config.kubernetes.is_used,
    )
    maps = RedirectMaps.open(config.redirect.pins)
    dependencies, faults = Dependencies(), Faults()
    try:
        async with (
            certificate_source(config, registry, dependencies, faults) as (
                source,
                authority,
            ),
            node_objects(config) as objects,
        ):
            enrolment = Enrolment(config.redirect.pins, maps)
            gate = _gate(config, maps)
            control = Control(
                *(config, loaded.cgroup, registry, enrolment, source),
                partial(
                    Direct,
                    maps.direct,
                    sockets,
                    enabled=config.same_node == "direct",
                ),
                objects.announcer,
                objects.source.missing,
                objects.source.description,
                gate,
                dependencies,
                faults,
            )
            observer = KernelObserver(
                *(config.redirect.pins, Path(loaded.cgroup), maps, tenure, gate)
            )
            verifier = _verifier(observer, enrolment, control)
            reporter = ControlReporter(control, loaded.features)
            await _serve(
                config, control, reporter, objects.source, authority, tenure, verifier
            )
            observer.close()
            captured = len(control.enrolled.captures)
            removed = control.is_being_removed
    finally:
        maps.close()
    if removed:
        program.unload(config.redirect.pins)
        log.info("redirect removed", reason="the namespace of the agents is deleted")
    else:
        log.info("stopped", message=pinset.left_behind(captured))


async def _serve(
    config: Config,
    control: Control,
    reporter: ControlReporter,
    objects: ObjectSource,
    authority: RunningAuthority | None,
    tenure: Tenure,
    verifier: Verifier,
) -> None:
    def tell(kind: str, subject: str, text: str) -> None:
        control.events.add(kind, subject, text, time.time())

    assert control.direct is not None
    control.direct.start()
    async with trio.open_nursery() as nursery:
        probed, verified = trio.CancelScope(), trio.CancelScope()

        def let_go() -> None:
            # The next agent may replace what the verifier would put back.
            verified.cancel()
            probed.cancel()
            tenure.close()

        stop = partial(control.stop, let_go)
        nursery.start_soon(until_signalled, nursery.cancel_scope, stop)
        await nursery.start(server.serve, config.status.socket, reporter)
        if authority is not None:
            nursery.start_soon(authority.follow, tell)
            foreign = config.federation.domains, authority, tell, control.dependencies
            nursery.start_soon(keep_federated, *foreign)
        await nursery.start(control.allegiance.renewer.run)
        if config.identity.crl is not None:
            # Before the workers: the first handshake already asks these lists.
            adopt = control.allegiance.adopt_crls
            await nursery.start(crl_files.run, config.identity.crl, adopt)
        await nursery.start(control.workers.run)
        await nursery.start(objects.run, partial(_adopt, control))
        nursery.start_soon(control.allegiance.reports.run)
        if control.gate:
            nursery.start_soon(_shut, control.gate)
        if config.kubernetes.is_used:
            nursery.start_soon(_probes(config, tell).run)
        if config.status.readiness:
            where = config.status.readiness
            why_not = partial(getattr, control, "not_serving_because")
            nursery.start_soon(_be_probed, probed, where, why_not)
        nursery.start_soon(_reconcile, control)
        nursery.start_soon(_verify, verified, verifier)
        nursery.start_soon(_trace, control.direct)
        log.info("serving", socket=str(config.status.socket))


def _gate(config: Config, maps: RedirectMaps) -> Gate | None:
    """The start gate, shut from now on, if it is asked for. Raises: KernelError."""
    cgroup = bpffs.find_cgroup(config.redirect.cgroup)
    gate = Gate(maps, Sideline(config.redirect.pins), cgroup)
    if config.enrolment.gate != "strict":
        gate.open()
        return None
    log.info("start gate shut", cgroups=[str(path) for path in gate.shut()])
    return gate


async def _be_probed(
    scope: trio.CancelScope, where: SocketAddress, why_not: readiness.Reasons
) -> None:
    """Answer the kubelet until `scope` is cancelled."""
    with scope:
        await readiness.serve(where, why_not)


def _verifier(
    observer: KernelObserver, enrolment: Enrolment, control: Control
) -> Verifier:
    cgroup2 = bpffs.find_cgroup(None)
    own = Path("/proc/self/cgroup").read_text()

    def note(kind: str, subject: str, text: str, **facts: object) -> None:
        control.events.add(kind, subject, text, time.time())
        log.warning(kind, object=subject, message=text, **facts)

    return Verifier(
        observer,
        enrolment,
        control.enrolled.pods,
        control.enrolled.is_captured,
        control.verification,
        note,
        own_cgroup(cgroup2, own),
        control.processes,
    )


async def _verify(scope: trio.CancelScope, verifier: Verifier) -> None:
    """Until `scope` is cancelled."""
    with scope:
        await verifier.run()


async def _shut(gate: Gate) -> None:
    """A kubelet that comes later makes its cgroup then."""
    while True:
        await trio.sleep(GATE_SECONDS)
        try:
            await trio.to_thread.run_sync(gate.shut)
        except KernelError as error:
            log.warning("start gate", reason=str(error))


def _probes(config: Config, tell: Tell) -> Probes:
    """Who knows this node's kubelet."""
    cgroup2 = bpffs.find_cgroup(None)
    sideline = Sideline(config.redirect.pins)
    return Probes(sideline, config.kubernetes.kubelet_port, cgroup2, tell)


def _adopt(control: Control, change: Change) -> None:
    """
    One step without the garbage collector: it makes values by the hundred thousand when
    policies change, none of them in cycles, and CPython would look half the time.
    """
    gc.disable()
    try:
        control.adopt(change)
    finally:
        gc.enable()


async def _reconcile(control: Control) -> None:
    while True:
        await trio.sleep(RECONCILE_SECONDS)
        control.reconcile()
        control.allegiance.tell_outdated()


async def _trace(direct: Direct) -> None:
    """Look at direct connections, and less often for what ended unseen."""
    for turn in itertools.count():
        await trio.sleep(TRACE_SECONDS)
        if turn % COUNT_EVERY:
            await direct.collect()
        else:
            await direct.count()


@asynccontextmanager
async def certificate_source(
    config: Config, registry: Registry, dependencies: Dependencies, faults: Faults
) -> AsyncIterator[tuple[CertificateSource, RunningAuthority | None]]:
    """The identity service, a SPIFFE agent, or an authority of our own."""
    identity = config.identity
    if identity.workload_api is not None:
        await trio.to_thread.run_sync(require_package)
        address = identity.workload_api
        contact = dependencies.of("SPIFFE agent", address)
        yield WorkloadApi(address, config.trust_domain, contact=contact), None
        return
    if identity.service is None:
        running = open_authority(config, registry, "embedded", create=True)
        yield EmbeddedIdentity(running.issuance, config.node), running
        return
    assert identity.anchors is not None
    assert identity.token is not None
    client = IdentityClient(
        identity.service,
        read_anchors(identity.anchors),
        identity.token,
        anchors_file=identity.anchors,
        memory=config.state_dir / "trust.json",
        contact=dependencies.of("identity service", identity.service),
        faults=faults,
    )
    async with client:
        yield client, None
