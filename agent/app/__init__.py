"""
The composition root: the only place where the parts meet.

    node      `podlock run`: the parts of a node's agent, started and stopped
    control   the state of a node and the steps that change it
    enrolled  its pods in the mesh: captured, released, tried again
    workers   the proxy workers' processes, from control's side
    worker    a proxy worker, from its own side
    direct    same node, direct: verdicts kept to policy; tracer and traces tell of
              the connections, world is what they are judged by
    reporter  control's state as the status documents
    service   `podlock identity serve`
    objects   where objects come from; announcing: who is told of captures
    probes    the kubelet, found and followed, so that its connections are known
    checks    `podlock check --pre`

A worker imports this package too, so nothing is imported here before it is needed:
what only control needs (HTTP, YAML) is not resident in a worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config import Config
    from agent.findings import Finding


def run(config: Config) -> None:
    """Be the agent of a node until SIGTERM or SIGINT. Raises: PodlockError."""
    from agent.app import node

    node.run(config)


def serve_identity(config: Config) -> None:
    """Be the identity service until SIGTERM or SIGINT. Raises: PodlockError."""
    from agent.app import service

    service.serve_identity(config)


def check_before(config: Config) -> list[Finding]:
    """What would keep an agent from working here. Raises: ConfigError."""
    from agent.app import checks

    return checks.before(config)


def remove_redirect(config: Config, *, force: bool = False) -> None:
    """
    Detach and unpin everything on this node.

    Raises: InputError where nothing is pinned, or an agent runs and not `force`;
    KernelError.
    """
    from agent.app import node

    node.remove_redirect(config, force=force)
