"""This node's pods in the mesh: captured, changed, released, and tried again."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent.app.announcing import Announcer
from agent.app.workers import Workers
from agent.errors import KernelError, PodlockError
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.proxy import instructions
from agent.redirect.enrolment import Capture, Enrolment
from agent.workload.captures import Held, Inode, Plan, plan
from agent.workload.model import Workload
from agent.workload.registry import NodeView

Captured = tuple[instructions.PodCaptured, Sequence[int]]
"""What a worker is told of a pod, and the descriptors that go along."""


class Note(Protocol):
    """Tells what happened to an object, for the log and for who asks."""

    def __call__(self, kind: str, subject: str, text: str, **facts: object) -> None:
        """`facts` are for the log only."""


class EnrolledPods:
    """
    Keeps the captured pods those of a view, and the workers' listeners with them.

    A pod that is in the mesh stays captured, whatever changes about it: it is captured
    over the old state, and where that fails the old state holds. What it gives up goes
    first, for an address may pass from one pod to the next.
    """

    def __init__(
        self,
        enrolment: Enrolment,
        workers: Workers,
        announcer: Announcer,
        trust_domain: TrustDomain,
        note: Note,
        has_certificate: Callable[[SpiffeId], bool],
    ) -> None:
        self._has_certificate = has_certificate
        self.captures: dict[str, Capture] = {}
        """By pod uid."""
        self.waiting: dict[str, str] = {}
        """Why a pod could not be captured, by uid; it is tried again."""
        self._captured_as: dict[str, Workload] = {}
        self._enrolment = enrolment
        self._workers = workers
        self._announcer = announcer
        self._trust_domain = trust_domain
        self._note = note

    def reconcile(self, view: NodeView, *, complete: bool) -> None:
        """
        Hand over, release, change, capture; who cannot be captured now waits.

        `complete`: all objects were read, so that who is absent is gone.
        """
        planned = self.give_up(view, complete=complete)
        for uid, successor in planned.hand_over.items():
            self._hand_over(uid, planned.pods[successor])
        for uid in planned.change:
            self._give_up_addresses(planned.pods[uid])
        for uid in planned.capture:
            self._capture(view, planned.pods[uid])
        self.waiting = {
            uid: why for uid, why in self.waiting.items() if uid in view.pods
        }

    def give_up(self, view: NodeView, *, complete: bool) -> Plan:
        """The first steps of the plan, which it returns: release and leave."""
        planned = plan(
            {uid: self._held(uid) for uid in self.captures},
            view.pods,
            view.unplaced,
            _inode_at,
            lambda pod: self._has_certificate(self._identity(pod)),
            complete=complete,
        )
        for uid in planned.release:
            self._release(uid)
        for uid in planned.leave:
            self._leave(uid)
        return planned

    @property
    def captured_as(self) -> Mapping[str, Workload]:
        """The captured pods by uid, each as it was when it was captured."""
        return self._captured_as

    @property
    def identities(self) -> set[SpiffeId]:
        """Those that captured pods have now: the old one, until there is the new."""
        return {self._identity(pod) for pod in self._captured_as.values()}

    def forget_connections(self) -> None:
        """Drop what connections of an earlier agent left in the maps."""
        self._enrolment.forget_connections()

    def forget_strangers(self, view: NodeView) -> bool:
        """
        Release what an earlier agent captured and no pod of the view accounts for.

        After the first captures: a pod of another uid in the same namespace has taken
        the earlier capture over by then. Returns: whether that was possible.
        """
        waiting = [view.pods[uid] for uid in self.waiting if uid in view.pods]
        namespaces = [Path(pod.netns) for pod in waiting if pod.netns]
        try:
            # A pod that is in the mesh still, and not found yet, is no stranger.
            known = view.pods.keys() | view.unplaced
            strangers = self._enrolment.forget_strangers(known, namespaces)
        except (PodlockError, OSError) as error:
            self._note("release-failed", "pods of an earlier agent", str(error))
            return False
        for uid in strangers:
            self._note("released", uid, "captured by an earlier agent, and gone since")
        return True

    def told(self, view: NodeView) -> Iterator[Captured]:
        """Each captured pod, for a new worker."""
        for uid in self.captures:
            yield self._captured(view, uid)

    def pods(self) -> Iterator[tuple[Capture, str, str | None]]:
        """Each captured pod: its capture, name, and path of its network namespace."""
        for uid, capture in self.captures.items():
            pod = self._captured_as[uid]
            yield capture, pod.key, pod.netns

    def is_captured(self, capture: Capture) -> bool:
        """Whether this very capture stands."""
        return self.captures.get(capture.uid) is capture

    def stop(self) -> None:
        """Close the listeners; the pods stay enrolled, for the next agent."""
        for capture in self.captures.values():
            for listener in (capture.tunnel, capture.inbound, *capture.outbound):
                listener.close()

    def _held(self, uid: str) -> Held:
        inode = _inode(self.captures[uid].netns_fd)
        assert inode is not None  # of an open descriptor
        return Held(self._captured_as[uid], inode)

    def _hand_over(self, uid: str, pod: Workload) -> None:
        """
        Make a capture that of another pod in the same namespace, in place: the
        redirect and the listeners stay. The pod is captured over it afterwards.
        """
        earlier = self._captured_as[uid]
        try:
            capture = self._enrolment.rename(self.captures[uid], pod.uid)
        except PodlockError as error:
            self._note("capture-failed", pod.key, str(error))
            return
        self._workers.broadcast(instructions.PodReleased(uid))
        del self.captures[uid], self._captured_as[uid]
        self.captures[pod.uid] = capture
        # So it differs from what is wanted until it is captured.
        self._captured_as[pod.uid] = earlier
        self._note("replaced", earlier.key, f"its namespace is now that of {pod.key}")

    def _give_up_addresses(self, wanted: Workload) -> None:
        """Let go of the addresses that a captured pod has no more, and no others."""
        held = self.captures[wanted.uid]
        kept = [address for address in held.addresses if address in wanted.addresses]
        if len(kept) < len(held.addresses):
            # Its path may lead to a new namespace by now, or to another pod's.
            netns = Path(f"/proc/self/fd/{held.netns_fd}")
            with contextlib.suppress(PodlockError):  # told when it is captured again
                capture = self._enrolment.capture(wanted.uid, netns, kept)
                self.captures[wanted.uid] = capture

    def _capture(self, view: NodeView, pod: Workload) -> None:
        uid = pod.uid
        try:
            capture = self._enrolment.capture(uid, Path(pod.netns or ""), pod.addresses)
        except PodlockError as error:
            if self.waiting.get(uid) != str(error):
                self._note("capture-failed", pod.key, str(error))
                self._announcer.refused(pod, str(error))
            self.waiting[uid] = str(error)
            return
        self.captures[uid] = capture
        self._captured_as[uid] = pod
        try:
            self._workers.broadcast(*self._captured(view, uid))
        except KernelError as error:  # no descriptors left; the capture comes again
            del self.captures[uid], self._captured_as[uid]
            self.waiting[uid] = str(error)
            return
        self.waiting.pop(uid, None)
        text = f"in the mesh as {self._identity(pod)}"
        # The kernel makes the namespace's inode when it makes the namespace.
        age = time.time() - os.fstat(capture.netns_fd).st_ctime
        self._note("captured", pod.key, text, age_seconds=round(age, 4))
        self._announcer.captured(pod, text)

    def _release(self, uid: str) -> None:
        pod = self._captured_as.pop(uid)
        self._workers.broadcast(instructions.PodReleased(uid))
        try:
            self._enrolment.release(self.captures.pop(uid))
        except PodlockError as error:
            self._note("release-failed", pod.key, str(error))
        else:
            self._note("released", pod.key, "left the mesh")

    def _leave(self, uid: str) -> None:
        """As an agent that ends does: still redirected, and refused."""
        pod = self._captured_as.pop(uid)
        self._workers.broadcast(instructions.PodReleased(uid))
        try:
            self._enrolment.leave(self.captures.pop(uid))
        except PodlockError as error:
            self._note("leave-failed", pod.key, str(error))
        else:
            text = "refused: no object says whether it is in the mesh"
            self._note("closed", pod.key, text)

    def _captured(self, view: NodeView, uid: str) -> Captured:
        capture, pod = self.captures[uid], self._captured_as[uid]
        message = instructions.PodCaptured(
            uid=uid,
            name=pod.key,
            identity=self._identity(pod),
            netns_cookie=capture.netns_cookie,
            addresses=capture.addresses,
            policy=view.policies[uid],
            outbound_listeners=len(capture.outbound),
        )
        listeners = (capture.tunnel, capture.inbound, *capture.outbound)
        return message, (capture.netns_fd, *(sock.fileno() for sock in listeners))

    def _identity(self, pod: Workload) -> SpiffeId:
        return pod.identity(self._trust_domain)


def _inode_at(path: str | None) -> Inode | None:
    return _inode(Path(path)) if path else None


def _inode(file: Path | int) -> Inode | None:
    """What identifies a namespace by its path or descriptor; None if it is gone."""
    try:
        info = os.stat(file)
    except OSError:
        return None
    return info.st_dev, info.st_ino
