"""
Puts back what `observed` found missing, from what the agent holds. No compiler.

Each step stands alone: one that fails is reported, and the others are taken.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.errors import KernelError, PodlockError
from agent.redirect import bpffs, pins
from agent.redirect.enrolment import LISTEN_BACKLOG, Capture, Enrolment
from agent.redirect.facts import (
    Attach,
    Attachment,
    Detach,
    Judge,
    Lock,
    Mount,
    Pin,
    PodFacts,
    Repair,
    Repin,
)
from agent.redirect.layout import CGROUP_HOOKS
from agent.redirect.observed import KernelObserver

_HOOKS = {hook.name: hook for hook in CGROUP_HOOKS}


def restore_node(observer: KernelObserver, steps: Iterable[Repair]) -> list[str]:
    """Take the steps; what failed, each in a sentence."""
    failed: list[str] = []
    for step in steps:
        with _collecting(failed):
            _take(observer, step)
    return failed


def restore_pod(
    observer: KernelObserver, enrolment: Enrolment, capture: Capture, facts: PodFacts
) -> list[str]:
    """Put back a captured pod's listeners, pins, links and entries."""
    failed: list[str] = []
    for listener in (capture.tunnel, capture.inbound, *capture.outbound):
        with _collecting(failed):
            listener.listen(LISTEN_BACKLOG)  # no change for one that listens
    layout = observer.layout
    states = {
        layout.netns_link(capture.pin): facts.inbound,
        layout.here_link(capture.pin): facts.here,
    }
    for path, state in states.items():
        with _collecting(failed):
            _settle_pin(observer, path, state, facts.pins[f"links/{path.name}"])
    with _collecting(failed):
        enrolment.renew(capture)
    return failed


def _settle_pin(
    observer: KernelObserver, path: Path, state: Attachment, pin: Pin
) -> None:
    """A link that is attached has its pin again; of a dead one even that goes."""
    if state is Attachment.ATTACHED:
        held = observer.held_link(path)
        if held is not None and pin is not Pin.OURS:
            held.repin(path)
        return
    with contextlib.suppress(pins.MissingPin):
        pins.unlink(path)


def _take(observer: KernelObserver, step: Repair) -> None:
    match step:
        case Mount():
            bpffs.ensure_mounted(observer.layout.root)
        case Lock():
            observer.tenure.retake()
        case Repin(name=name):
            observer.held.repin(name)
        case Attach(hook=hook):
            _attach(observer, hook)
        case Detach(name=name):
            with contextlib.suppress(pins.MissingPin):
                pins.unlink(observer.layout.links / name)
        case Judge():
            if observer.gate:
                observer.gate.restore()


def _attach(observer: KernelObserver, name: str) -> None:
    """Beside a link that runs another program or elsewhere: then that one goes."""
    hook, held = _HOOKS[name], observer.held
    target = os.open(observer.cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        made = pins.link_create(
            held.program(name).fd, target, hook.attach, f"{name} to the cgroup"
        )
    finally:
        os.close(target)
    with contextlib.suppress(pins.MissingPin, KernelError):
        pins.unlink(observer.layout.links / name)
    held.replace_link(name, made)


@contextlib.contextmanager
def _collecting(failed: list[str]) -> Iterator[None]:
    try:
        yield
    except (PodlockError, OSError) as error:
        failed.append(str(error))
