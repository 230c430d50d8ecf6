"""`podlock check --pre`: what would keep an agent from working here."""

from __future__ import annotations

import trio

from agent.app.objects import api_client
from agent.config import Config
from agent.errors import InputError
from agent.findings import Finding
from agent.identity import preflight as preflight_of_identity
from agent.identity.acquaintance import read_anchors
from agent.identity.client import IdentityClient
from agent.identity.clock import utc_now
from agent.identity.crl_files import CrlFiles
from agent.kube import preflight
from agent.kube.resources import of_node
from agent.redirect import preflight as node


def before(config: Config) -> list[Finding]:
    """Raises: ConfigError for files that cannot be used."""
    redirect = config.redirect
    return [
        *node.findings(redirect.pins, redirect.cgroup),
        *trio.run(_of_identity, config),
        *_of_objects(config),
    ]


async def _of_identity(config: Config) -> list[Finding]:
    """What certificates, and the judgement of others', will depend on."""
    identity, found = config.identity, list[Finding]()
    if identity.workload_api is not None:
        found.append(await preflight_of_identity.look_at_agent(identity.workload_api))
    elif identity.service is not None:
        found += await _ask_service(config, identity.service)
    else:
        text = "an authority of this agent's own, with which other nodes share nothing"
        found.append(Finding("identity", text))
    if config.federation.domains and identity.service is None:
        domains = config.federation.domains
        found += await preflight_of_identity.look_at_domains(domains)
    if identity.crl is not None:
        news = CrlFiles(identity.crl).poll()
        faults = dict(news.faults) if news else {}
        found += preflight_of_identity.look_at_lists(identity.crl, faults)
    return found


async def _ask_service(config: Config, url: str) -> list[Finding]:
    identity = config.identity
    assert identity.anchors is not None
    assert identity.token is not None
    subject = "identity service"
    try:
        anchors = read_anchors(identity.anchors)
        client = IdentityClient(url, anchors, identity.token)
    except InputError as error:
        text = str(error)
        return [Finding(subject, text, "check identity.anchors and identity.service")]
    async with client:
        return await preflight_of_identity.look_at_service(client, utc_now())


def _of_objects(config: Config) -> list[Finding]:
    if not config.kubernetes.is_used:
        return [Finding("objects", f"from manifests in {config.manifests}")]
    return trio.run(_ask_api_server, config)


async def _ask_api_server(config: Config) -> list[Finding]:
    async with api_client(config) as client:
        return await preflight.look(client, of_node(config.node), utc_now())
