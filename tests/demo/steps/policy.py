"""Steps 4, 5 and 6: who may, who may not, and when that changes."""

from __future__ import annotations

import json
import time

from tests.demo.calls import (
    NewConnections,
    Program,
    curl,
    logged_client,
    never_logged,
    summary,
    url,
)
from tests.demo.report import Notes
from tests.demo.stage import Stage
from tests.lab import system
from tests.lab.capture import WireTap
from tests.lab.node import Document
from tests.lab.pod import Pod
from tests.patience import patient

# "within a second", and how long web's connection must outlive batch's.
SECOND = 1.0


def refused(stage: Stage, notes: Notes) -> None:
    """batch may not: curl fails, nginx hears nothing, and both agents say why."""
    batch, api = stage.pods["batch"], stage.pods["api"]
    here = NewConnections(stage.agents["n1"], workload="shop/batch")
    there = NewConnections(stage.agents["n2"], workload="shop/batch")
    notes.did("curl from batch to api, which lets in web and courier")
    path = f"/?refused-{stage.secret}"
    answer = curl(batch, url(api.address.v4, path))
    notes.saw(f"{answer}", answer.exit_code != 0)
    notes.saw("nginx's access log has no such request", never_logged(api, path))
    inbound = there.wait(_refused, "an inbound refusal")
    names = f"{inbound['reason']} {inbound['rule']}"
    notes.saw(
        f"node 2: {inbound['reason']} ({inbound['rule']})",
        "shop/api-http" in names and inbound["source"]["workload"] == "shop/batch",
    )
    outbound = here.wait(_refused, "an outbound refusal")
    notes.saw(f"node 1: {outbound['reason']}", outbound["reason"])
    told = _asked(stage, "batch")
    notes.saw(
        f"`podlock authz check` had said so: {told['verdict']}, {told['rule']}",
        (told["verdict"], told["reason"]) == ("deny", inbound["reason"]),
    )
    _command(stage, notes, inbound)


def _asked(stage: Stage, source: str) -> Document:
    """What `podlock authz check` says of a call to api, by IPv4."""
    words = ("check", "--from", source, "--to", "api", "--port", "80", "--json")
    told = json.loads(stage.agents["n2"].command("authz", *words).stdout)
    answer: Document = told["answers"][0]
    return answer


def _refused(connection: Document) -> bool:
    return bool(connection["outcome"] == "refused")


def _command(stage: Stage, notes: Notes, refusal: Document) -> None:
    """The same by the command, as data and for people; and in the log."""
    agent = stage.agents["n2"]
    listed = json.loads(agent.command("connections", "--json").stdout)["recent"]
    same = [each for each in listed if each["id"] == refusal["id"]]
    told = same and same[0]["reason"] == refusal["reason"]
    notes.saw("`podlock connections --json` tells the same", told)
    log = [line for line in agent.log.read_text().splitlines() if "api-http" in line]
    notes.saw("the log of node 2 names the Server", log)


def changed(stage: Stage, notes: Notes) -> None:
    """The policy file changes and changes back, under a live connection of each."""
    web, batch, api = (stage.pods[name] for name in ("web", "batch", "api"))
    notes.did("wrote batch into the MeshTLSAuthentication shop/api-callers")
    began = time.monotonic()
    stage.let_in("web", "courier", "batch")
    system.wait_until(
        lambda: curl(batch, url(api.address.v4)).served, "batch is let in", 5 * SECOND
    )
    took = time.monotonic() - began
    notes.saw(f"batch is served {took * 1000:.0f} ms later", took < patient(SECOND))
    told = _asked(stage, "batch")
    notes.saw(
        f"`podlock authz check`: {told['verdict']}, {told['rule']}",
        told["verdict"] == "allow",
    )
    mine, other = (Program(pod, "hold", api.address.v4, 80) for pod in (web, batch))
    mine.wait("answer", 2)
    other.wait("answer", 2)
    notes.did("opened a live connection of each to api; took batch out again")
    watch = NewConnections(stage.agents["n2"], workload="shop/batch", outcome="refused")
    began = time.monotonic()
    stage.let_in("web", "courier")
    end = other.wait("closed")
    took = end["at"] - began
    notes.saw(
        f"batch's live connection was closed {took * 1000:.0f} ms later: {end['why']}",
        took < patient(SECOND),
    )
    mine.wait("answer", len(mine.told("answer")) + 5)
    lived = mine.told("answer")[-1]["at"] - end["at"]
    notes.saw(
        f"web's goes on answering, {lived:.1f} s after that",
        lived > SECOND / 2 and not mine.told("closed"),
    )
    mine.kill()
    notes.saw(
        "a new one of batch is refused", not curl(batch, url(api.address.v4)).served
    )
    refusal = summary(watch.wait(_refused, "the refusal"))
    notes.saw(f"node 2: {refusal}", "shop/api-http" in refusal)
    verdicts = [_asked(stage, name)["verdict"] for name in ("web", "batch")]
    notes.saw(
        f"`podlock authz check`: web {verdicts[0]}, batch {verdicts[1]}",
        verdicts == ["allow", "deny"],
    )


def outsider(stage: Stage, notes: Notes) -> None:
    """Without a certificate: `strict` refuses, `open` serves and sees the truth."""
    pod = stage.pods["outsider"]
    agent = stage.agents["n2"]
    notes.did("curl from outsider, which is in no mesh, to strict and to open")
    watch = NewConnections(agent, path="plaintext")
    with WireTap(stage.lab, "step-6") as tap:
        for family, address in enumerate(stage.pods["strict"].address):
            answer = curl(pod, url(address))
            notes.saw(
                f"strict (all-authenticated) at {address}: {answer}", answer.exit_code
            )
            if family == 0:
                refusal = watch.wait(_refused, "the refusal")
                notes.saw(
                    f"node 2: {refusal['reason']} ({refusal['rule']})",
                    refusal["reason"],
                )
        for address in stage.pods["open"].address:
            _served(stage, notes, pod, address)
    wire = tap.read()
    notes.saw(
        "the capture shows this one in plaintext, so it would have shown the others",
        wire.readable([stage.secret.encode()]),
    )


def _served(stage: Stage, notes: Notes, pod: Pod, address: str) -> None:
    path = f"/?outsider-{address}"
    answer = curl(pod, url(address, path))
    client, _ = logged_client(stage.pods["open"], path)
    page = answer.served and answer.body == stage.page("open")
    notes.saw(f"open (all-unauthenticated) at {address}: {answer}", page)
    notes.saw(f"nginx's access log: client {client}", client in set(pod.address))
