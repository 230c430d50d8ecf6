"""
Verifies the redirect of this node without end, and repairs it.

Twice a second: look at the node's part and at each captured pod's, put back what is
missing, look again. What was opened past the agent meanwhile is ended and reported.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import trio

from agent.app.descriptors import shortages
from agent.app.enrolled import Note
from agent.app.verification import Interruption, Verification, sentences
from agent.errors import PodlockError
from agent.redirect import sockets
from agent.redirect.bypassed import Census, Surroundings, passing_by, summary
from agent.redirect.enrolment import Capture, Enrolment
from agent.redirect.facts import (
    Fault,
    PodFacts,
    needs_renewal,
    node_faults,
    node_repairs,
    pod_faults,
)
from agent.redirect.inet_diag import DiagSocket
from agent.redirect.observed import KernelObserver
from agent.redirect.restored import restore_node, restore_pod
from agent.status import documents
from agent.status.documents import iso

VERIFY_SECONDS: Final = 0.5

Pods = Callable[[], Iterable[tuple[Capture, str, str | None]]]
"""Each captured pod: its capture, name, and the path of its network namespace."""


class Verifier:
    """Compares the kernel with what control wants of it."""

    def __init__(
        self,
        observer: KernelObserver,
        enrolment: Enrolment,
        pods: Pods,
        is_captured: Callable[[Capture], bool],
        state: Verification,
        note: Note,
        agent_cgroup: int,
        processes: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        """`processes`: those of this agent, by name and process id."""
        self._observer = observer
        self._enrolment = enrolment
        self._pods = pods
        self._is_captured = is_captured
        self._state = state
        self._note = note
        self._agent_cgroup = agent_cgroup
        self._processes = processes
        self._census: dict[int, Census] = {}

    async def run(self) -> None:
        """Until cancelled: at once, when another agent may take over."""
        self._state.begin(time.time())
        while True:
            await self.verify()
            await trio.sleep(VERIFY_SECONDS)

    async def verify(self) -> None:
        """One look, repairs where they are needed, and a second look then."""
        self._end_barred()
        faults = await self._pass(repair=True)
        self._report(faults)
        if any(not each.lasting for each in faults):
            self._report(await self._pass(repair=False))

    def _end_barred(self) -> None:
        """Direct connections that reached another holder of the address."""
        with contextlib.suppress(PodlockError, OSError):
            barred = self._observer.barred()
            for capture, name, _ in self._pods() if barred else ():
                ended: list[DiagSocket] = []
                sockets.destroy_sockets(
                    capture.netns_fd, partial(_chosen, barred, ended)
                )
                if ended:
                    text = (
                        f"reached no captured pod, nothing was sent: {summary(ended)}"
                    )
                    self._note("direct-refused", name, text)

    async def _pass(self, *, repair: bool) -> list[Fault]:
        faults = [*self._node(repair=repair), *shortages(self._processes())]
        pods = list(self._pods())
        self._forget([capture for capture, _, _ in pods])
        for capture, name, netns in pods:
            await trio.lowlevel.checkpoint()
            # It may have been released or captured again in between.
            if self._is_captured(capture):
                faults += self._pod(capture, name, netns, repair=repair)
        return faults

    def _node(self, *, repair: bool) -> list[Fault]:
        try:
            facts = self._observer.node()
        except (PodlockError, OSError) as error:
            return [Fault("redirect", f"cannot be verified: {error}")]
        faults = node_faults(facts)
        if repair and faults:
            self._failed("redirect", restore_node(self._observer, node_repairs(facts)))
        return faults

    def _pod(
        self, capture: Capture, name: str, netns: str | None, *, repair: bool
    ) -> list[Fault]:
        try:
            facts = self._observer.pod(capture, name, netns)
        except (PodlockError, OSError) as error:
            return [Fault(name, f"cannot be verified: {error}", capture.uid)]
        if needs_renewal(facts):
            if repair:
                self._renew(capture, facts)
        elif self._state.since is None:
            self._count(capture)
        return pod_faults(facts)

    def _renew(self, capture: Capture, facts: PodFacts) -> None:
        failed = restore_pod(self._observer, self._enrolment, capture, facts)
        self._failed(facts.name, failed)

    def _failed(self, name: str, failed: list[str]) -> None:
        for text in failed:
            self._note("repair-failed", name, text)

    def _report(self, faults: list[Fault]) -> None:
        new, ended = self._state.observed(faults, time.time())
        lasting = [each for each in new if each.lasting]
        for each in lasting:
            self._note("redirect", each.object, each.message)
        missing = [each for each in new if not each.lasting]
        if missing and self._state.since is not None:
            since = iso(self._state.since)
            text = f"missing since {since}: {sentences(missing)}"
            self._note("redirect-missing", "redirect", text)
        if ended:
            self._ended(ended)

    def _ended(self, ended: Interruption) -> None:
        """End what was opened past the agent, and say what that was."""
        times = f"missing from {iso(ended.since)} to {iso(ended.until)}, repaired"
        self._note("redirect-restored", "redirect", times)
        if not any(each.bypass for each in ended.faults):
            return
        for capture, name, _ in self._pods():
            with contextlib.suppress(PodlockError, OSError):
                self._end_bypassing(capture, name)

    def _end_bypassing(self, capture: Capture, name: str) -> None:
        census = self._census.setdefault(capture.netns_cookie, Census())
        found = census.new(self._passing(capture))
        if not found:
            return
        cookies = {each.cookie for each in found}
        text = f"opened past the agent while the redirect was missing: {summary(found)}"
        ended = sockets.destroy_sockets(
            capture.netns_fd, lambda each: each.cookie in cookies
        )
        self._note("bypassed", name, f"{text}; {ended} of them ended now")

    def _count(self, capture: Capture) -> None:
        """Once a pod, while nothing is missing: what is open was there before."""
        census = self._census.setdefault(capture.netns_cookie, Census())
        if not census.counted:
            with contextlib.suppress(PodlockError, OSError):
                census.begin(self._passing(capture))

    def _passing(self, capture: Capture) -> list[DiagSocket]:
        traced = frozenset(
            (trace.source, trace.destination)
            for _, trace in self._observer.maps.direct.traces()
        )
        around = Surroundings(self._agent_cgroup, traced)
        found = sockets.list_sockets(capture.netns_fd)
        return passing_by(found, capture.addresses, around)

    def _forget(self, captures: list[Capture]) -> None:
        self._observer.forget_all_but(captures)
        known = {each.netns_cookie for each in captures}
        for cookie in self._census.keys() - known:
            del self._census[cookie]


def _chosen(cookies: set[int], chosen: list[DiagSocket], each: DiagSocket) -> bool:
    """Whether it is one of these; then it is noted as well."""
    if each.cookie in cookies:
        chosen.append(each)
    return each.cookie in cookies


def own_cgroup(cgroup2: Path, text: str) -> int:
    """
    The id of the cgroup v2 that /proc/self/cgroup names, 0 where it is not to be found.
    """
    for line in text.splitlines():
        if line.startswith("0::"):
            with contextlib.suppress(OSError):
                return (cgroup2 / line[3:].lstrip("/")).stat().st_ino
    return 0


def document(state: Verification, now: float) -> documents.RedirectState:
    """For the status: what is known, and of when."""
    return {
        "loaded": state.is_fresh(now),
        "verified_at": None if state.verified_at is None else iso(state.verified_at),
        "missing_since": None if state.since is None else iso(state.since),
        "faults": [
            {"object": each.object, "message": each.message} for each in state.faults
        ],
        "interruptions": [
            {
                "since": iso(each.since),
                "until": iso(each.until),
                "faults": sentences(each.faults),
            }
            for each in state.past
        ],
    }
