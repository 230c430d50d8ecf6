"""Step 10: integrity and authenticity, against somebody who owns the wire."""

from __future__ import annotations

import time

from tests.demo.calls import NewConnections, NewEvents, curl, url
from tests.demo.report import Notes
from tests.demo.stage import COLLECT_PORT, Stage
from tests.lab.attacker import Attacker, Impostor, Relay, flip_one_byte, replay
from tests.lab.certificates import Authority, Credential
from tests.patience import patient

SENT_BYTES = 200_000
# Larger than any handshake message or frame header: a record of payload.
PAYLOAD_RECORD_BYTES = 4000
TOLD_SECONDS = 3.0
TAMPERED = "bad record MAC"


def on_wire(stage: Stage, notes: Notes) -> None:
    """Alter, replay, and pose as api, with two kinds of wrong certificate."""
    recorded = _relayed(stage, notes)
    _replayed(stage, notes, recorded)
    _altered(stage, notes)
    for what, credential, reason in (
        ("a valid certificate of batch", _as_batch(stage), "sa/batch, expected"),
        (
            "api's name from a foreign authority",
            _as_foreign_api(stage),
            "does not verify",
        ),
    ):
        _impostor(stage, notes, what, credential, reason)
    answer = curl(stage.pods["courier"], url(stage.pods["api"].address.v4))
    notes.saw(f"with the attacker gone courier reaches api: {answer}", answer.served)


def _relayed(stage: Stage, notes: Notes) -> bytes:
    """He first only relays: that proves that he is really in between."""
    courier, sink = stage.pods["courier"], stage.pods["sink"]
    notes.did("he relays courier's tunnel to sink and records it")
    relay, before = Relay(), len(stage.collected)
    with Attacker(stage.lab, courier, sink, relay):
        told = courier.ask("collect", "send", sink.address.v4, COLLECT_PORT, SENT_BYTES)
    arrived = len(stage.collected) - before
    answered = told["answer"] == str(SENT_BYTES)
    notes.saw(f"{arrived} bytes arrived", arrived == SENT_BYTES and answered)
    recorded = bytes(max(relay.sent, key=len, default=b""))
    notes.saw(f"he has {len(recorded)} bytes of it", len(recorded) > SENT_BYTES)
    notes.saw("and can read none", b"collect-me" not in recorded)
    return recorded


def _replayed(stage: Stage, notes: Notes, recorded: bytes) -> None:
    courier, sink = stage.pods["courier"], stage.pods["sink"]
    notes.did("he replays the recording to sink's node, from courier's address")
    events, before = NewEvents(stage.agents["n2"]), stage.collected
    with Attacker(stage.lab, courier, sink, Relay()) as attacker:
        answer = replay(attacker, recorded)
    notes.saw("sink received nothing", stage.collected == before)
    notes.saw(f"he was answered {len(answer)} bytes, and the connection closed")
    _told(notes, events)


def _altered(stage: Stage, notes: Notes) -> None:
    courier, sink = stage.pods["courier"], stage.pods["sink"]
    notes.did("he flips one bit in a record of courier's payload to sink")
    events = NewEvents(stage.agents["n2"])
    relay, before = Relay(flip_one_byte(PAYLOAD_RECORD_BYTES, after=2)), stage.collected
    with Attacker(stage.lab, courier, sink, relay):
        told = courier.ask("collect", "send", sink.address.v4, COLLECT_PORT, SENT_BYTES)
    arrived = stage.collected[len(before) :]
    notes.saw("one record was altered", relay.altered == 1)
    intact = _pattern(SENT_BYTES).startswith(arrived)
    notes.saw(f"{len(arrived)} bytes reached sink, all of them as sent", intact)
    notes.saw(f"courier was told: {told['ended']}", not told["answer"])
    _told(notes, events)


def _impostor(
    stage: Stage, notes: Notes, what: str, credential: Credential, reason: str
) -> None:
    courier, api = stage.pods["courier"], stage.pods["api"]
    notes.did(f"he answers on api's address with {what}")
    impostor = Impostor(credential)
    watch = NewConnections(stage.agents["n1"], workload="shop/courier")
    with Attacker(stage.lab, courier, api, impostor):
        answer = curl(courier, url(api.address.v4, f"/?{stage.secret}"))
    notes.saw(f"courier: {answer}", answer.exit_code != 0)
    notes.saw(
        "he was connected to, and heard not a byte of the request",
        (impostor.refusals or impostor.accepted) and not impostor.leaked,
    )
    failure = watch.wait(
        lambda each: each["outcome"] in ("refused", "failed") and each["reason"],
        "the failure",
    )
    notes.saw(f"node 1: {failure['reason']}", reason in failure["reason"])


def _told(notes: Notes, events: NewEvents) -> None:
    """Wait until the status of node 2 tells of a record that was tampered with."""
    deadline = time.monotonic() + patient(TOLD_SECONDS)
    while True:
        told = [message for message in events.messages() if TAMPERED in message]
        if told or time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    notes.saw(f"node 2: {told[-1] if told else 'nothing in the events'}", told)


def _as_batch(stage: Stage) -> Credential:
    """A certificate of the lab's own authority, for another workload."""
    directory = stage.lab.directory / "attacker-batch"
    return stage.identity.stolen().issue(directory, stage.identity_of("batch"))


def _as_foreign_api(stage: Stage) -> Credential:
    """The right name, signed by an authority that nobody trusts."""
    directory = stage.lab.directory / "attacker-foreign"
    foreign = Authority.foreign("a foreign authority")
    return foreign.issue(directory, stage.identity_of("api"))


def _pattern(count: int) -> bytes:
    """What `collect.py send` sends."""
    piece = b"collect-me-" + bytes(range(256))
    return (piece * (count // len(piece) + 1))[:count]
