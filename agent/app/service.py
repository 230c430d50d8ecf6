"""`podlock identity serve`: the certificate authority of a cluster, as a process."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import trio

from agent.app.authority import RunningAuthority, open_authority
from agent.app.dumps import forbid_dumps
from agent.app.federation import keep_federated
from agent.app.objects import api_client, authority_objects
from agent.app.stopping import until_signalled
from agent.config import Config
from agent.identity import service
from agent.identity.clock import utc_now
from agent.identity.endpoints import Limits
from agent.identity.issuer_files import read_issuer_files
from agent.identity.ledger import LedgerUnavailable
from agent.identity.limits import Rate
from agent.identity.reviewing import JoinTokens, TokenReviewer, UsedTokens
from agent.identity.store import Store
from agent.kube.client import Client
from agent.kube.manifests import Change
from agent.kube.shared_state import SharedState
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
    forbid_dumps()
    trio.run(_serve, config)


async def _serve(config: Config) -> None:
    if not config.kubernetes.is_used:
        await _serve_with(config, None)
        return
    async with api_client(config) as client:
        await _serve_with(config, client)


async def _serve_with(config: Config, client: Client | None) -> None:
    """`client`: the API server knows pods and callers; None: manifests, join tokens."""
    pods = Running(config.trust_domain)
    shared = await _join(config, client)
    running = open_authority(config, pods, "service")
    settings = config.authority
    rate = Rate(settings.requests_per_second, settings.request_burst)
    limits = Limits(rate, settings.concurrent_requests)

    objects = authority_objects(config, client)
    async with trio.open_nursery() as nursery:

        def adopt(change: Change) -> None:
            had_pods = pods.pods > 0
            pods.apply(change.objects.workloads)
            if not pods.pods:
                _warn_of_no_pods(config)
            elif not had_pods:
                log.info("pods known", count=pods.pods)
            for problem in change.problems:
                log.warning("problem", object=problem.object, message=problem.message)
            if shared is not None:
                nursery.start_soon(_count_on, running, config, change)

        nursery.start_soon(until_signalled, nursery.cancel_scope)
        await nursery.start(objects.run, adopt)
        nursery.start_soon(running.follow, _in_the_log)
        if shared is not None:
            nursery.start_soon(shared.run, _in_the_log)
        domains = config.federation.domains
        nursery.start_soon(keep_federated, domains, running, _in_the_log)
        start = partial(
            service.serve,
            service.Settings(bind=settings.listen, limits=limits),
            running.issuance,
            _reviewer(config, client, running),
            state=running.view,
        )
        await nursery.start(start)


def _warn_of_no_pods(config: Config) -> None:
    """Each request will be refused, by reasons that seem to be about the caller."""
    is_api = config.kubernetes.is_used
    where = "the API server" if is_api else f"manifests, {config.manifests}"
    log.warning(
        "no pods known",
        objects=where,
        message="every request for a certificate is refused until there are some",
    )


async def _join(config: Config, client: Client | None) -> SharedState | None:
    """Where replicas share one state, start from it. Raises: PodlockError."""
    settings = config.authority
    if settings.config_map is None:
        return None
    assert client is not None
    assert settings.issuer is not None
    files = await trio.to_thread.run_sync(read_issuer_files, settings.issuer)
    store = Store(settings.directory)
    shared = SharedState(client, store, settings.config_map, config.trust_domain)
    await shared.join(files)
    return shared


async def _count_on(running: RunningAuthority, config: Config, change: Change) -> None:
    """
    Nodes with an agent count, though they may report to another replica.

    An anchor does not go while one of them has not told us that it can do without.
    """
    ledger = running.issuance.ledger
    namespace, _, account = config.kubernetes.agent.partition("/")
    agents = {
        pod.node
        for pod in change.objects.workloads
        if pod.service_account == account and pod.namespace == namespace
    }
    until = utc_now() + timedelta(hours=config.identity.certificate_lifetime_hours)
    for node in sorted(agents - {"", *ledger.records}):
        try:
            await ledger.issued(node, until)
        except LedgerUnavailable as error:
            log.warning("node not noted", node=node, reason=str(error))


def _reviewer(
    config: Config, client: Client | None, running: RunningAuthority
) -> TokenReviewer:
    """Who finds out who calls. Raises: InvalidKeystore."""
    if client is not None:
        return TokenReviews(client, config.kubernetes.agent)
    used = UsedTokens.open(config.authority.directory, utc_now())
    return JoinTokens(running.source.store.token_key(), config.trust_domain, used)


def _in_the_log(kind: str, subject: str, text: str) -> None:
    """What happens to the authority is in the log already."""
    del kind, subject, text
