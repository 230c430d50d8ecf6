"""
Pods, services and policies at one time: what questions about policy are asked of.

Made of the same objects, by the same code, as what agents enforce; so an answer that
is given without an agent is the one that an agent would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent.identity.spiffe import TrustDomain
from agent.policy.compiler import InboundDefaults
from agent.policy.problem import Problem
from agent.policy.rule import InboundPolicy
from agent.workload.directory import Directory
from agent.workload.model import Objects, Workload
from agent.workload.registry import Registry

# No pod runs there, so nothing is captured and everything can be asked about.
_NO_NODE: Final = "(none)"


@dataclass(frozen=True, slots=True)
class Setting:
    """What the configuration says about policy."""

    trust_domain: TrustDomain
    defaults: InboundDefaults


@dataclass(frozen=True, slots=True)
class Survey:
    """
    A cluster as one set of objects has it. `workloads` are its running pods by key.

    `policy_of` may be asked about any meshed pod, on any node.
    """

    setting: Setting
    objects: Objects
    workloads: Mapping[str, Workload]
    directory: Directory
    problems: tuple[Problem, ...]
    _registry: Registry
    _policies: dict[str, InboundPolicy] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Objects, setting: Setting) -> Survey:
        """What `objects` come to."""
        registry = Registry(_NO_NODE, setting.trust_domain, setting.defaults)
        view = registry.apply(objects)
        pods = {pod.key: pod for pod in view.workloads}
        return cls(setting, objects, pods, view.directory, view.problems, registry)

    def policy_of(self, pod: Workload) -> InboundPolicy:
        """What judges connections to `pod`; compiled when it is first asked for."""
        if pod.key not in self._policies:
            self._policies[pod.key] = self._registry.policy_of(pod)
        return self._policies[pod.key]
