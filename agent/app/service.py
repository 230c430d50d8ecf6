"""`podlock identity serve`: the certificate authority of a cluster, as a process."""

from __future__ import annotations

from datetime import timedelta

import trio

from agent.app.dumps import forbid_dumps
from agent.app.stopping import until_signalled
from agent.config import Config
from agent.identity import keystore, service
from agent.identity.authority import Authority
from agent.identity.clock import utc_now
from agent.identity.issuance import Issuance
from agent.identity.token import TokenKey
from agent.kube import directory
from agent.kube.manifests import Change
from agent.log import configure, logger
from agent.workload.registry import Registry

log = logger()


def serve_identity(config: Config) -> None:
    """
    Serve until SIGTERM or SIGINT.

    Raises: PodlockError, before anything is served, for a bad authority directory.
    """
    configure(config.log.level, config.log.format)
    forbid_dumps()
    trio.run(_serve, config)


async def _serve(config: Config) -> None:
    authority, token_key = load_authority(config)
    registry = Registry(config.node, config.trust_domain)

    def adopt(change: Change) -> None:
        registry.apply(change.objects)
        for problem in change.problems:
            log.warning("problem", object=problem.object, message=problem.message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_signalled, nursery.cancel_scope)
        await nursery.start(directory.run, config.manifests, adopt)
        await nursery.start(
            service.serve,
            service.Settings(bind=config.authority.listen),
            Issuance(authority, registry, logger(part="identity", mode="service")),
            service.JoinTokens(token_key, config.trust_domain),
        )


def load_authority(config: Config) -> tuple[Authority, TokenKey]:
    """The authority of `config`, with its lifetime. Raises: InvalidKeystore."""
    return keystore.load(
        config.authority.directory,
        config.trust_domain,
        now=utc_now(),
        lifetime=timedelta(hours=config.identity.certificate_lifetime_hours),
    )
