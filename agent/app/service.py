"""`podlock identity serve`: the certificate authority of a cluster, as a process."""

from __future__ import annotations

from datetime import timedelta

import trio

from agent.app.objects import api_client, authority_objects
from agent.app.stopping import until_signalled
from agent.config import Config
from agent.identity import keystore, service
from agent.identity.authority import Authority
from agent.identity.clock import utc_now
from agent.identity.endpoints import CallerCheck
from agent.kube.client import Client
from agent.kube.manifests import Change
from agent.kube.token_review import TokenReviews
from agent.log import configure, logger
from agent.workload.running import Running

log = logger()


def serve_identity(config: Config) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Raises: PodlockError, before anything is served, for a bad authority directory.
    """
    configure(config.log.level, config.log.format)
    trio.run(_serve, config)


async def _serve(config: Config) -> None:
    if not config.kubernetes.is_used:
        await _serve_with(config, None)
        return
    async with api_client(config) as client:
        await _serve_with(config, client)


async def _serve_with(config: Config, client: Client | None) -> None:
    """`client`: the API server knows pods and callers; None: manifests, join tokens."""
    running = Running(config.trust_domain)

    def adopt(change: Change) -> None:
        running.apply(change.objects.workloads)
        for problem in change.problems:
            log.warning("problem", object=problem.object, message=problem.message)

    authority = load_authority(config)
    callers: CallerCheck = (
        TokenReviews(client, config.kubernetes.agent)
        if client
        else service.JoinTokens(
            keystore.load_token_key(config.authority.directory), config.trust_domain
        )
    )
    objects = authority_objects(config, client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_signalled, nursery.cancel_scope)
        await nursery.start(objects.run, adopt)
        await nursery.start(
            service.serve,
            service.Settings(bind=config.authority.listen),
            authority,
            running,
            callers,
        )


def load_authority(config: Config) -> Authority:
    """The authority of `config`, with its lifetime. Raises: InvalidKeystore."""
    return keystore.load_authority(
        config.authority.directory,
        config.trust_domain,
        now=utc_now(),
        lifetime=timedelta(hours=config.identity.certificate_lifetime_hours),
    )
