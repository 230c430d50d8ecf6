"""
What was found in the kernel, what is wrong about it, and what puts it right. Pure.

`observed` looks, `restored` puts back; here is only which fact means what. A fault
says whether traffic passes the agent by (`bypass`), or is refused, or is not affected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from agent.redirect.layout import CGROUP_HOOKS

# Without these a pod's connect() goes where it wants, in plaintext.
BYPASSING: Final = frozenset({"redirect4", "redirect6"})


class Pin(StrEnum):
    """What is at the path of a pin."""

    OURS = "ours"
    MISSING = "missing"
    FOREIGN = "another object"


class Attachment(StrEnum):
    """What became of a link."""

    ATTACHED = "attached"
    DETACHED = "detached"
    ELSEWHERE = "attached elsewhere"
    REPLACED = "replaced by another program"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """
    The node's part of the redirect.

    `pins` by their path below the set's directory; `hooks` by name; `sideline` are the
    links of the start gate and of the kubelet's probes that are detached; `locked`:
    the node lock is where the next agent looks for it.
    """

    mounted: bool
    pins: Mapping[str, Pin]
    hooks: Mapping[str, Attachment]
    sideline: tuple[str, ...] = ()
    locked: bool = True
    unjudged: int = 0


@dataclass(frozen=True, slots=True)
class PodFacts:
    """
    One captured pod's part.

    `silent`: addresses whose entry in `listeners` is not our listener. `closed`: ports
    whose listener does not listen any more. `gone`: the path of its network namespace,
    where that does not exist any more. `moved`: addresses that its namespace lost.
    """

    uid: str
    name: str
    inbound: Attachment = Attachment.ATTACHED
    here: Attachment = Attachment.ATTACHED
    pins: Mapping[str, Pin] = field(default_factory=dict)
    enrolled: bool = True
    silent: tuple[str, ...] = ()
    closed: tuple[int, ...] = ()
    gone: str | None = None
    moved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One thing that is not as it should be.

    `uid` of the pod that it is about. `bypass`: traffic passes the agent. `lasting`:
    the agent cannot repair it, and it does not keep the node from being ready.
    """

    object: str
    message: str
    uid: str | None = None
    bypass: bool = False
    lasting: bool = False


# Repairs.


@dataclass(frozen=True, slots=True)
class Mount:
    """Mount bpffs again."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Take the node lock again."""


@dataclass(frozen=True, slots=True)
class Repin:
    """Pin the held object `name` again, over another object if there is one."""

    name: str


@dataclass(frozen=True, slots=True)
class Attach:
    """Attach a cgroup hook again, and pin the link."""

    hook: str


@dataclass(frozen=True, slots=True)
class Detach:
    """Remove the pin of a dead sideline link: its owner attaches it again."""

    name: str


@dataclass(frozen=True, slots=True)
class Judge:
    """Let the namespaces outside the mesh through the start gate again."""


Repair = Mount | Lock | Repin | Attach | Detach | Judge


def node_faults(facts: NodeFacts) -> list[Fault]:
    """What is wrong with the node's part."""
    found: list[Fault] = []
    if not facts.mounted:
        found.append(Fault("redirect", "bpffs is not mounted"))
    for state in (Pin.MISSING, Pin.FOREIGN):
        names = [name for name, found_as in facts.pins.items() if found_as is state]
        if names:
            found.append(Fault("redirect", _pins(state, names)))
    for hook, attached in facts.hooks.items():
        if attached is not Attachment.ATTACHED:
            bypass = hook in BYPASSING
            found.append(Fault("redirect", f"{hook}: {attached}", bypass=bypass))
    found += [Fault("redirect", f"{name}: detached") for name in facts.sideline]
    if not facts.locked:
        found.append(Fault("redirect", "the node lock is gone"))
    if facts.unjudged:
        text = f"judged: {facts.unjudged} namespaces are missing"
        found.append(Fault("redirect", text))
    return found


def pod_faults(facts: PodFacts) -> list[Fault]:
    """What is wrong with one pod's part."""
    found: list[tuple[str, bool]] = []
    if facts.inbound is not Attachment.ATTACHED:
        found.append((f"sk_lookup link: {facts.inbound}", True))
    if facts.here is not Attachment.ATTACHED:
        found.append((f"namespace link: {facts.here}", False))
    for state in (Pin.MISSING, Pin.FOREIGN):
        names = [name for name, found_as in facts.pins.items() if found_as is state]
        if names:
            found.append((_pins(state, names), False))
    if not facts.enrolled:
        found.append(("its entry in the map enrolled is missing or differs", True))
    if facts.silent:
        where = ", ".join(facts.silent)
        found.append((f"no entry in the map listeners for {where}", False))
    if facts.closed:
        ports = ", ".join(map(str, facts.closed))
        found.append((f"the agent's listener is closed: port {ports}", False))
    return [
        *(Fault(facts.name, text, facts.uid, bypass) for text, bypass in found),
        *_lasting(facts),
    ]


def _lasting(facts: PodFacts) -> list[Fault]:
    found = []
    if facts.gone:
        text = f"its network namespace {facts.gone} does not exist any more"
        found.append(Fault(facts.name, text, facts.uid, lasting=True))
    elif facts.moved:
        text = f"its network namespace does not have {', '.join(facts.moved)} any more"
        found.append(Fault(facts.name, text, facts.uid, lasting=True))
    return found


def node_repairs(facts: NodeFacts) -> list[Repair]:
    """
    In the order in which they work: maps and programs are pinned before a link is
    attached, and hooks come in their order of attachment.
    """
    steps: list[Repair] = [] if facts.mounted else [Mount()]
    if not facts.locked:
        steps.append(Lock())
    dead = {
        name for name, state in facts.hooks.items() if state is not Attachment.ATTACHED
    }
    steps += [
        Repin(name)
        for name, state in facts.pins.items()
        if state is not Pin.OURS and name.removeprefix("links/") not in dead
    ]
    steps += [Attach(hook.name) for hook in CGROUP_HOOKS if hook.name in dead]
    steps += [Detach(name) for name in facts.sideline]
    return [*steps, Judge()] if facts.unjudged else steps


def needs_renewal(facts: PodFacts) -> bool:
    """Whether a pod's entries, links or listeners must be put back."""
    return any(not each.lasting for each in pod_faults(facts))


def _pins(state: Pin, names: list[str]) -> str:
    what = "missing" if state is Pin.MISSING else "other objects"
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} pins are {what}: {shown}"
