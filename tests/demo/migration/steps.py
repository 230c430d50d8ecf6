"""The steps of the scenario: what an operator types, and what became of the traffic."""

from __future__ import annotations

import time
from typing import Final

import yaml

from tests.demo.calls import Answer, curl, url
from tests.demo.migration.world import CALLS, SHOP, World
from tests.demo.report import Notes
from tests.lab import system
from tests.lab.pod import Pod
from tests.patience import patient

SETTLE_SECONDS: Final = 1.0
TAKES_SECONDS: Final = 5.0


def traffic_runs(world: World, notes: Notes) -> None:
    """The shop as it is: everybody may call everybody."""
    for source, to in CALLS:
        world.call(source, to)
    calls = ", ".join(f"{source} -> {to}" for source, to in CALLS)
    notes.did(f"default-inbound-policy all-unauthenticated; calls: {calls}")
    _watch(world, notes)


def audited(world: World, notes: Notes) -> None:
    """audit: all are let in still, and each is told as what would be denied."""
    before = world.audited()
    world.default("audit")
    notes.did("annotated the namespace: default-inbound-policy audit")
    system.wait_until(
        lambda: world.audited() - before > 4 * len(CALLS), "audits", TAKES_SECONDS
    )
    told = world.agents["n2"].ask("status")["audited"]
    for each in told:
        notes.saw(
            f"podlock status: {each['connections']} connections to {each['workload']}:"
            f"{each['port']} would be denied by {each['rule']}",
            each["rule"].startswith(f"Namespace {SHOP}"),
        )
    _watch(world, notes)


def suggested(world: World, notes: Notes) -> None:
    """The policies for what was seen, written by a command."""
    told = world.ask("suggest", *world.seen())
    notes.did("podlock authz suggest --seen n1.json --seen n2.json > proposal.yaml")
    notes.saw(f"exit code {told.returncode}", told.returncode == 0)
    world.propose(told.stdout)
    made = list(yaml.safe_load_all(told.stdout))
    kinds = [each["kind"] for each in made]
    notes.saw(
        ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)),
        {"Namespace", "Server", "AuthorizationPolicy"} <= set(kinds),
    )
    _watch(world, notes)


def compared(world: World, notes: Notes) -> None:
    """Nobody would be refused; then somebody comes who would be."""
    told = world.ask("diff", str(world.proposal), *world.seen())
    notes.did("podlock authz diff proposal/")
    notes.saw(_last(told.stdout), told.returncode == 0)
    world.call("batch", "api")
    system.wait_until(lambda: _was_seen(world, "batch"), "batch seen", TAKES_SECONDS)
    told = world.ask("diff", str(world.proposal), *world.seen())
    notes.did("batch, whom nobody has seen so far, calls api; the same command again")
    (line,) = [line for line in told.stdout.splitlines() if "would be refused" in line]
    notes.saw(line, "/sa/batch" in line and told.returncode == 1)
    _watch(world, notes)


def checked(world: World, notes: Notes) -> None:
    """What the proposal says to one client, asked of files alone."""
    words = ("check", "--from", "batch", "--to", "api", "--port", "80")
    now = world.ask(*words)
    notes.did("podlock authz check --from batch --to api --port 80")
    notes.saw(_first(now.stdout), now.returncode == 0 and now.stdout[:5] == "audit")


def strict(world: World, notes: Notes) -> None:
    """In force: batch is refused, nobody else is."""
    good = [call for call in world.traffic if call[0] != "batch"]
    _, before = world.counts(*good)
    world.figures["refused_before_strict"] = world.counts()[1]
    notes.saw(f"refused until now: {world.counts()[1]}", world.counts()[1] == 0)
    began = time.monotonic()
    world.apply()
    notes.did("applied the proposal: policies, and default-inbound-policy deny")
    end = world.traffic["batch", "api"].wait("refused", seconds=TAKES_SECONDS)
    took = (end["at"] - began) * 1000
    notes.saw(
        f"batch is refused {took:.0f} ms later", took < patient(TAKES_SECONDS) * 1000
    )
    _watch(world, notes, good)
    _, after = world.counts(*good)
    notes.saw(f"the others: {after - before} refused", after == before)
    world.figures["others_refused"] = after - before
    served, _ = world.counts(*good)
    world.figures["others_served"] = served
    batch = world.traffic["batch", "api"]
    notes.saw("batch is not let in again", len(batch.told("served")) == 1)


def asked(world: World, notes: Notes) -> None:
    """What is refused is what the command says, live and of files alone."""
    for source, allowed in (("web", True), ("batch", False)):
        words = ("check", "--from", source, "--to", "api", "--port", "80")
        for how, told in (
            ("the agent", world.ask(*words)),
            ("the manifests", world.offline(*words)),
        ):
            code = 0 if allowed else 1
            notes.saw(f"{how}: {_first(told.stdout)}", told.returncode == code)
    told = world.ask("who-can", "--to", "db", "--port", "80")
    notes.did("podlock authz who-can --to db --port 80")
    lines = told.stdout.splitlines()[1:]
    for line in lines:
        notes.saw(line.strip())
    notes.saw(f"{len(lines)} may", len(lines) == 2 and "batch" not in told.stdout)
    answer = _curl(world.pods["outsider"], world.pods["db"])
    notes.saw(
        f"outsider, which calls db for the first time: {answer}", answer.exit_code
    )


def _curl(source: Pod, to: Pod) -> Answer:
    return curl(source, url(to.address.v4))


def _watch(
    world: World, notes: Notes, calls: list[tuple[str, str]] | None = None
) -> None:
    """Traffic goes on for a while, and nothing of it is refused."""
    some = calls or list(world.traffic)
    served, _ = world.counts(*some)
    time.sleep(SETTLE_SECONDS)
    now, refused = world.counts(*some)
    notes.saw(
        f"traffic: {now - served} more calls served, {refused} refused so far",
        now > served and not refused,
    )


def _was_seen(world: World, name: str) -> bool:
    flows = world.agents["n2"].ask("seen")["flows"]
    return any(each["client"].endswith(f"/sa/{name}") for each in flows)


def _first(text: str) -> str:
    return (text.splitlines() or ["nothing"])[0]


def _last(text: str) -> str:
    return (text.splitlines() or ["nothing"])[-1]


STEPS: Final = (
    ("a shop that is open to all, and its traffic", traffic_runs),
    ("audit: nothing is refused, everything is told", audited),
    ("suggest: the policies that allow what has been seen", suggested),
    ("diff: whom the proposal would refuse, before it does", compared),
    ("check: one question, one answer", checked),
    ("strict: what should be refused is, and nothing else", strict),
    ("what the commands say is what happens", asked),
)
