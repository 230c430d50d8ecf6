"""Step 9: TCP stays TCP."""

from __future__ import annotations

from pathlib import Path

from tests.demo.calls import Program
from tests.demo.report import Notes
from tests.demo.stage import (
    BULK_PORT,
    HALF_CLOSE_PORT,
    RESET_PORT,
    SLOW_PORT,
    Stage,
)
from tests.lab import system

MIB = 1 << 20
BULK_BYTES = 256 * MIB
# What sockets and tunnels between two applications may hold back, and by how much all
# agents together may grow meanwhile.
HELD_BYTES = 64 * MIB
STUCK_SECONDS = 20.0
TRANSFER_SECONDS = 60.0


def behaves(stage: Stage, notes: Notes) -> None:
    """Bulk, half-close, reset, back-pressure, from web to sink."""
    _bulk(stage, notes)
    _half_close(stage, notes)
    _reset(stage, notes)
    _slow_reader(stage, notes)


def _bulk(stage: Stage, notes: Notes) -> None:
    web, sink = stage.pods["web"], stage.pods["sink"]
    notes.did(f"{BULK_BYTES // MIB} MiB from web to sink, and as many back")
    for verb in ("put", "get"):
        done = web.ask(
            "bulk",
            verb,
            sink.address.v4,
            BULK_PORT,
            BULK_BYTES,
            seconds=TRANSFER_SECONDS,
        )
        rate = BULK_BYTES / MIB / done["seconds"]
        notes.saw(
            f"{verb}: SHA-256 {done['received'][:8]}... at both ends, {rate:.0f} MiB/s",
            done["sent"] == done["received"],
        )


def _half_close(stage: Stage, notes: Notes) -> None:
    web, sink = stage.pods["web"], stage.pods["sink"]
    notes.did("web sends 1 MiB, shuts down writing, and then reads the answer")
    for address in sink.address:
        told = web.ask("halfclose", "ask", address, HALF_CLOSE_PORT, MIB)
        notes.saw(
            f"{address}: answered with what was sent", told["sent"] == told["answer"]
        )


def _reset(stage: Stage, notes: Notes) -> None:
    web, sink = stage.pods["web"], stage.pods["sink"]
    notes.did("sink answers a line and then resets the connection")
    told = web.ask("reset", "ask", sink.address.v4, RESET_PORT)
    first = told["answer"] == "before the reset"
    notes.saw(f"web read {told['answer']!r}, then {told['then']}", first)
    notes.saw("a reset, not an end of file", told["then"] == "ConnectionResetError")


def _slow_reader(stage: Stage, notes: Notes) -> None:
    web, sink = stage.pods["web"], stage.pods["sink"]
    notes.did(f"web pushes {BULK_BYTES // MIB} MiB to a reader that does not read")
    before = _memory(stage)
    arguments = (sink.address.v4, SLOW_PORT, BULK_BYTES, stage.gate)
    push = Program(web, "slowreader", "push", *arguments)
    stuck = push.wait("stuck", seconds=STUCK_SECONDS)
    grown = _memory(stage) - before
    notes.saw(
        f"it got stuck after {stuck['pushed'] / MIB:.1f} MiB",
        stuck["pushed"] < HELD_BYTES,
    )
    notes.saw(f"both agents' memory grew by {grown / MIB:.1f} MiB", grown < HELD_BYTES)
    Path(stage.gate).touch()
    done = push.wait("done", seconds=TRANSFER_SECONDS)
    notes.saw(
        f"then the reader read, and all {done['received'] // MIB} MiB arrived",
        done["received"] == BULK_BYTES,
    )


def _memory(stage: Stage) -> int:
    """The proportional memory of all agents' processes, in bytes."""
    pids = [pid for agent in stage.agents.values() for pid in agent.processes()]
    return system.proportional_memory(pids)
