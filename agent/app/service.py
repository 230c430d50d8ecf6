"""`podlock identity serve`: the certificate authority of a cluster, as a process."""

from __future__ import annotations

from functools import partial

import trio

from agent.app.authority import open_authority
from agent.app.dumps import forbid_dumps
from agent.app.federation import keep_federated
from agent.app.stopping import until_signalled
from agent.config import Config
from agent.identity import service
from agent.identity.clock import utc_now
from agent.identity.endpoints import Limits
from agent.identity.limits import Rate
from agent.identity.reviewing import JoinTokens, UsedTokens
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
    registry = Registry(config.node, config.trust_domain)
    running = open_authority(config, registry, "service")
    store, settings = running.source.store, config.authority
    used = UsedTokens.open(settings.directory, utc_now())
    tokens = JoinTokens(store.token_key(), config.trust_domain, used)
    rate = Rate(settings.requests_per_second, settings.request_burst)
    limits = Limits(rate, settings.concurrent_requests)

    def adopt(change: Change) -> None:
        registry.apply(change.objects)
        for problem in change.problems:
            log.warning("problem", object=problem.object, message=problem.message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(until_signalled, nursery.cancel_scope)
        await nursery.start(directory.run, config.manifests, adopt)
        nursery.start_soon(running.follow, _in_the_log)
        domains = config.federation.domains
        nursery.start_soon(keep_federated, domains, running, _in_the_log)
        start = partial(
            service.serve,
            service.Settings(bind=settings.listen, limits=limits),
            running.issuance,
            tokens,
            state=running.view,
        )
        await nursery.start(start)


def _in_the_log(kind: str, subject: str, text: str) -> None:
    """What happens to the authority is in the log already."""
    del kind, subject, text
