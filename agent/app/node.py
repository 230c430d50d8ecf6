"""
`podlock run`: one node's agent, from start to stop.

Start order is fail closed: the redirect is loaded (or found pinned) and the status
socket answers before any pod is captured; a pod is captured as soon as it is known,
and its connections wait for its certificate. On the way out nothing is detached: the
redirect stays, so that pods of a node without an agent are refused and not bypassed.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Final

import trio

from agent.app.control import Control
from agent.app.descriptors import allow_descriptors
from agent.app.direct import Direct
from agent.app.objects import ObjectSource, node_objects
from agent.app.reporter import ControlReporter
from agent.app.service import load_authority
from agent.app.stopping import until_signalled
from agent.config import Config
from agent.identity import keystore
from agent.identity.client import IdentityClient
from agent.identity.clock import utc_now
from agent.identity.local import EmbeddedIdentity
from agent.identity.source import CertificateSource
from agent.log import configure, logger
from agent.policy.compiler import InboundDefaults
from agent.policy.rule import DefaultPolicy
from agent.redirect import program, sockets
from agent.redirect.enrolment import Enrolment
from agent.redirect.kernel import RedirectMaps
from agent.status import readiness, server
from agent.workload.registry import Registry

log = logger()

# How soon a pod whose capture failed, or whose namespace was replaced, is looked at.
RECONCILE_SECONDS: Final = 0.5
# How soon a direct connection is told of; and every how many times all are counted.
TRACE_SECONDS: Final = 1.0
COUNT_EVERY: Final = 10


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises: PodlockError for what prevents a start."""
    configure(config.log.level, config.log.format)
    allow_descriptors()
    trio.run(_run, config)


def remove_redirect(config: Config) -> None:
    """Detach and unpin everything on this node. Raises: KernelError."""
    program.unload(config.redirect.pins)


async def _run(config: Config) -> None:
    log.info("starting", settings=config.document()["values"])
    loaded = await trio.to_thread.run_sync(
        partial(
            program.ensure_loaded,
            source=config.redirect.source,
            pins=config.redirect.pins,
            cgroup=config.redirect.cgroup,
        )
    )
    log.info("redirect in force", **asdict(loaded))
    registry = Registry(
        config.node,
        config.trust_domain,
        InboundDefaults(
            DefaultPolicy(config.policy.default_inbound),
            config.policy.cluster_networks,
        ),
        by_mark=config.kubernetes.is_used,
    )
    maps = RedirectMaps.open(config.redirect.pins)
    try:
        async with (
            certificate_source(config, registry) as source,
            node_objects(config) as objects,
        ):
            enrolment = Enrolment(config.redirect.pins, maps)
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
            )
            await _serve(config, control, objects.source)
    finally:
        maps.close()


async def _serve(config: Config, control: Control, objects: ObjectSource) -> None:
    assert control.direct is not None
    control.direct.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_signalled, nursery.cancel_scope, control.stop)
        await nursery.start(
            server.serve, config.status.socket, ControlReporter(control)
        )
        await nursery.start(control.renewer.run)
        await nursery.start(control.workers.run)
        await nursery.start(objects.run, control.adopt)
        if config.status.readiness:
            await nursery.start(
                readiness.serve,
                config.status.readiness,
                lambda: control.not_serving_because,
            )
        nursery.start_soon(_reconcile, control)
        nursery.start_soon(_trace, control.direct)
        log.info("serving", socket=str(config.status.socket))


async def _reconcile(control: Control) -> None:
    while True:
        await trio.sleep(RECONCILE_SECONDS)
        control.reconcile()


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
    config: Config, registry: Registry
) -> AsyncIterator[CertificateSource]:
    """The identity service, or an authority of our own in the state directory."""
    identity = config.identity
    if identity.service is None:
        where = config.authority.directory
        if not where.exists():
            keystore.create(where, config.trust_domain, now=utc_now())
            log.info("authority created", directory=str(where))
        authority = load_authority(config)
        yield EmbeddedIdentity(authority, registry, config.node)
        return
    assert identity.anchors is not None
    assert identity.token is not None
    anchors = await trio.Path(identity.anchors).read_bytes()
    async with IdentityClient(identity.service, anchors, identity.token) as client:
        yield client
