"""`podlock check --pre`: what would keep an agent from working here."""

from __future__ import annotations

import trio

from agent.app.objects import api_client
from agent.config import Config
from agent.findings import Finding
from agent.identity.clock import utc_now
from agent.kube import preflight
from agent.kube.resources import of_node
from agent.redirect import preflight as node


def before(config: Config) -> list[Finding]:
    """Raises: ConfigError for files that cannot be used."""
    redirect = config.redirect
    return [*node.findings(redirect.pins, redirect.cgroup), *_of_objects(config)]


def _of_objects(config: Config) -> list[Finding]:
    if not config.kubernetes.is_used:
        return [Finding("objects", f"from manifests in {config.manifests}")]
    return trio.run(_ask_api_server, config)


async def _ask_api_server(config: Config) -> list[Finding]:
    async with api_client(config) as client:
        return await preflight.look(client, of_node(config.node), utc_now())
