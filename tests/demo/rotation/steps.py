"""The steps of the scenario, each an operator's command and what came of it."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Final

from tests.demo.report import Notes
from tests.demo.rotation.world import PAIRS, World
from tests.lab import system
from tests.lab.node import Document
from tests.patience import bearable, patient

CLOSED_WITHIN_SECONDS: Final = 10.0
ROTATIONS: Final = 3


def traffic_starts(world: World, notes: Notes) -> None:
    """Four pods, each a client and a server of a pod on the other node."""
    effort, traffic = world.effort, world.traffic
    rate = bearable(effort.requests_per_second)
    for source, to in PAIRS:
        traffic.ask(world.pods[source], world.pods[to], rate / len(PAIRS))
        count = effort.streams // len(PAIRS)
        traffic.stream(world.pods[source], world.pods[to], count)
    notes.did(
        f"{rate:g} requests/s on new connections and "
        f"{effort.streams} streams, between 4 pods on 2 nodes"
    )
    _watch(world, notes, time.monotonic())


def issuer_rotated(world: World, notes: Notes) -> None:
    """Three times; each time every workload has a certificate under the new one."""
    before = world.authority()["issuer"]["fingerprint"]
    for _ in range(ROTATIONS):
        began = time.monotonic()
        _command(world, notes, "rotate-issuer")
        issuer = world.authority()["issuer"]["fingerprint"]
        notes.saw(f"the issuer is {issuer[:12]} now", issuer != before)
        took = world.until(
            partial(_all_under, world, issuer), "every workload under the new issuer"
        )
        notes.saw(f"every workload presents a certificate under it {took:.1f} s later")
        _watch(world, notes, began)
        before = issuer


def _all_under(world: World, issuer: str) -> bool:
    return world.presented("issuer") == {issuer}


def anchor_added(world: World, notes: Notes) -> None:
    """A second anchor; every node says that it trusts it, the workers included."""
    began = time.monotonic()
    (old,) = world.authority()["anchors"]
    added = _command(world, notes, "add-anchor")
    version, new = added["version"], added["fingerprint"]
    world.figures |= {"old_anchor": old["fingerprint"], "new_anchor": new}
    took = world.until(lambda: world.knows(version), "both nodes trust the new anchor")
    notes.saw(f"both nodes acknowledged version {version} {took:.1f} s later")
    told = [agent.ask("certificates") for agent in world.agents.values()]
    bundles = [{anchor["fingerprint"] for anchor in each["bundle"]} for each in told]
    notes.saw(
        "the status of both nodes shows both anchors",
        all(bundle == {old["fingerprint"], new} for bundle in bundles),
    )
    workers = [each["version"] for one in told for each in one["trust"]["workers"]]
    notes.saw(f"their workers have version {workers}", set(workers) == {version})
    _watch(world, notes, began)


def early_retirement_refused(world: World, notes: Notes) -> None:
    """The old anchor is in use by everything: refused, naming every workload."""
    began, old = time.monotonic(), str(world.figures["old_anchor"])
    notes.did(f"podlock ca retire-anchor {old[:12]}")
    refused = world.ca("retire-anchor", old)
    said = refused.stderr.strip().splitlines()
    notes.saw(f"refused: {said[0] if said else 'without a word'}", refused.returncode)
    named = [name for name in world.pods if f"/sa/{name}" in refused.stderr]
    notes.saw(f"it names {', '.join(named)}", set(named) == set(world.pods))
    _watch(world, notes, began)


def anchor_promoted(world: World, notes: Notes) -> None:
    """What signs is under the new anchor, and soon everything that is presented."""
    began, new = time.monotonic(), str(world.figures["new_anchor"])
    _command(world, notes, "promote-anchor", new)
    took = world.until(
        lambda: world.presented("anchor") == {new}, "everything under the new anchor"
    )
    notes.saw(f"every workload presents a certificate under it {took:.1f} s later")
    _watch(world, notes, began)


def anchor_retired(world: World, notes: Notes) -> None:
    """Nothing needs the old anchor any more: it goes, and nothing else with it."""
    began, old = time.monotonic(), str(world.figures["old_anchor"])
    took = world.until(
        lambda: world.ca("show", "--may-retire", old).returncode == 0,
        "the old anchor may be retired",
    )
    notes.saw(f"nothing needs {old[:12]} any more, {took:.1f} s later")
    version = _command(world, notes, "retire-anchor", old)["version"]
    world.until(lambda: world.knows(version), "both nodes know")
    told = [agent.ask("certificates")["bundle"] for agent in world.agents.values()]
    gone = all(old != anchor["fingerprint"] for each in told for anchor in each)
    notes.saw("the status of both nodes shows the new anchor alone", gone)
    _watch(world, notes, began)


def issuer_tainted(world: World, notes: Notes) -> None:
    """What is under it is closed within ten seconds; everything else goes on."""
    traffic, tainted = world.traffic, str(world.authority()["issuer"]["fingerprint"])
    old = set(traffic.flowing())
    for source, to in PAIRS:
        fresh = world.effort.fresh_streams // len(PAIRS)
        traffic.stream(world.pods[source], world.pods[to], fresh)
    under = set(traffic.flowing()) - old
    notes.did(f"{len(under)} more streams, on tunnels under the issuer of now")
    time.sleep(world.effort.ripen_seconds)
    began = time.monotonic()
    _command(world, notes, "taint", tainted)
    took = world.until(
        lambda: tainted not in world.presented("issuer"), "everything issued again"
    )
    notes.saw(f"every workload has a clean certificate {took:.1f} s later")
    world.until(lambda: not under & set(traffic.flowing()), "streams are closed")
    closed = [line for line in traffic.broken() if line["stream"] in under]
    last = max(line["at"] for line in closed) - began
    notes.saw(
        f"{len(closed)} of {len(under)} streams under it are closed, "
        f"the last {last:.1f} s after the command",
        len(closed) == len(under) and last < patient(CLOSED_WITHIN_SECONDS),
    )
    world.until(partial(_nothing_rests, world, tainted), "nothing rests on it")
    notes.saw("no open connection rests on it, at either end")
    world.figures |= {
        "streams_under_the_taint": len(under),
        "closed_after_seconds": round(last, 2),
        "issued_again_after_seconds": round(took, 2),
    }
    notes.saw(f"the other {len(old)} streams flow on", old <= set(traffic.flowing()))
    _watch(world, notes, began, expected=under)


def all_is_told(world: World, notes: Notes) -> None:
    """Traffic ends in order; every request and every stream is accounted for."""
    traffic = world.traffic
    flowing = len(traffic.flowing())
    traffic.finish()
    failures, wrong = traffic.failures(), traffic.wrong()
    expected = int(str(world.figures["streams_under_the_taint"]))
    broken = len(traffic.broken()) - expected
    answered = traffic.answered()
    world.figures |= {
        "requests": answered + len(failures),
        "failed_requests": len(failures),
        "streams": flowing + expected,
        "broken_streams": broken,
        "wrong_streams": len(wrong),
    }
    notes.did("traffic was stopped, and what was under way finished")
    notes.saw(f"{answered} requests answered, {len(failures)} failed", not failures)
    notes.saw(f"{flowing} streams flowed to the end, {broken} broken", not broken)
    notes.saw(f"bytes lost, doubled or altered: on {len(wrong)} streams", not wrong)


def _nothing_rests(world: World, issuer: str) -> bool:
    peers = (connection["peer"] for connection in world.connections())
    return all(peer is None or peer["issuer"] != issuer for peer in peers)


def _command(world: World, notes: Notes, *arguments: str) -> Document:
    """A command of `podlock ca` that must succeed; what it says as JSON."""
    notes.did(f"podlock ca {' '.join(word[:16] for word in arguments)}")
    done = world.ca(*arguments, "--json")
    if done.returncode != 0:
        raise system.LabError(f"podlock ca {arguments[0]}: {done.stderr.strip()}")
    document: Document = json.loads(done.stdout)
    return document


def _watch(
    world: World, notes: Notes, since: float, expected: set[int] | None = None
) -> None:
    """Watch traffic for a while; nothing but what is expected may have broken."""
    time.sleep(world.effort.watch_seconds)
    traffic = world.traffic
    failed = [line for line in traffic.failures() if line["at"] > since]
    broken = [
        line
        for line in traffic.broken()
        if line["at"] > since and line["stream"] not in (expected or set())
    ]
    slowest = traffic.slowest_ms(since, time.monotonic())
    said = f"; the first: {failed[0]['why']}" if failed else ""
    notes.saw(
        f"meanwhile {len(failed)} requests failed, {len(broken)} streams broke "
        f"(slowest answer {slowest:.0f} ms){said}",
        not failed and not broken and not traffic.wrong(),
    )


STEPS: Final = (
    ("traffic runs", traffic_starts),
    (f"the issuer is rotated {ROTATIONS} times", issuer_rotated),
    ("an anchor is added, and every node trusts it", anchor_added),
    ("the old anchor is not retired while it is in use", early_retirement_refused),
    ("the new anchor is promoted", anchor_promoted),
    ("the old anchor is retired", anchor_retired),
    ("the issuer is tainted", issuer_tainted),
    ("every request and every stream is accounted for", all_is_told),
)
