"""Step 3: identities, serials and expiry, as both ends tell them."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

from tests.demo.calls import NewConnections, curl, url
from tests.demo.report import Notes
from tests.demo.stage import Stage
from tests.lab.node import Document


def both_ends(stage: Stage, notes: Notes) -> None:
    """What node 1 says of api is what node 2 holds for api, and the other way round."""
    notes.did("one request of web to api; then asked both status sockets")
    watches = {
        name: NewConnections(agent, workload="shop/web")
        for name, agent in stage.agents.items()
    }
    curl(stage.pods["web"], url(stage.pods["api"].address.v4))
    for here, there, pod, direction in (
        ("n1", "n2", "api", "outbound"),
        ("n2", "n1", "web", "inbound"),
    ):
        seen = watches[here].wait(
            functools.partial(_has_peer, direction),
            f"an {direction} connection of web with a peer",
        )
        _compare(stage, notes, seen, here, there, pod)


def _has_peer(direction: str, connection: Document) -> bool:
    return connection["direction"] == direction and connection["peer"] is not None


def _compare(
    stage: Stage, notes: Notes, seen: Document, here: str, there: str, pod: str
) -> None:
    expected, peer = stage.identity_of(pod), seen["peer"]
    held = certificate(stage, there, expected)
    notes.saw(f"{here} sees {peer['identity']}", peer["identity"] == expected)
    same = peer["serial"] == held["serial"] and peer["not_after"] == held["not_after"]
    notes.saw(
        f"serial {peer['serial']}, until {peer['not_after']}: "
        f"the certificate that {there} holds",
        same,
    )
    until = datetime.fromisoformat(peer["not_after"])
    notes.saw("it has not expired", until > datetime.now(UTC))
    carried = seen["path"] == "tunnel" and seen["outcome"] in ("open", "closed")
    notes.saw(f"{seen['path']}, {seen['direction']}, {seen['outcome']}", carried)


def certificate(stage: Stage, node: str, identity: str) -> Document:
    """The certificate that a node's agent holds for an identity."""
    document = stage.agents[node].ask("certificates", identity=identity)
    found: list[Document] = document["certificates"]
    return found[0] if found else {"serial": None, "not_after": None}
