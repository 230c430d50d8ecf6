"""Step 8: the agent of node 1 dies, and comes back."""

from __future__ import annotations

import time

from tests.demo.calls import curl, url
from tests.demo.report import Notes
from tests.demo.stage import Stage, wait_captured
from tests.lab import system
from tests.lab.capture import WireTap

BACK_SECONDS = 20.0


def killed(stage: Stage, notes: Notes) -> None:
    """Between death and return nothing new gets through, and nothing in plaintext."""
    agent = stage.agents["n1"]
    with WireTap(stage.lab, "step-8") as tap:
        notes.did(
            f"SIGKILL to all {len(agent.processes())} processes of node 1's agent"
        )
        agent.kill()
        _closed(stage, notes)
    wire = tap.read()
    readable = wire.readable([stage.secret.encode()])
    notes.saw("the capture shows nothing of the payload", not readable)
    faults = wire.faults()
    notes.saw(f"between pods: {faults[:3] or 'nothing but port 15008'}", not faults)
    _back(stage, notes)


def _closed(stage: Stage, notes: Notes) -> None:
    web, open_ = stage.pods["web"], stage.pods["open"]
    for name, address in (
        ("api", stage.pods["api"].address.v4),
        ("api's Service", stage.service("api").v6),
        ("open, which would take plaintext", open_.address.v4),
    ):
        answer = curl(web, url(address, f"/?{stage.secret}"), "--connect-timeout", "2")
        notes.saw(f"web to {name}: {answer}", not answer.served)
    answer = curl(
        stage.pods["cache"],
        url(stage.pods["till"].address.v4),
        "--connect-timeout",
        "2",
    )
    notes.saw(f"from node 2 to till on node 1: {answer}", not answer.served)


def _back(stage: Stage, notes: Notes) -> None:
    agent, web, api = stage.agents["n1"], stage.pods["web"], stage.pods["api"]
    notes.did("started it again")
    began = time.monotonic()
    agent.start(wait=False)
    system.wait_until(
        lambda: curl(web, url(api.address.v4)).served,
        "web is served again",
        BACK_SECONDS,
    )
    took = time.monotonic() - began
    notes.saw(f"web is served again {took:.1f} s after the start")
    agent.wait_ready()
    wait_captured(agent)
    notes.saw("node 1 is ready, all of its pods captured")
