"""Requests and streams between pods, and what has become of each so far."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab import system
from tests.lab.node import Document
from tests.lab.pod import Pod, program
from tests.patience import FACTOR, patient

PORT: Final = 9100
# What is under way when traffic ends has so long to finish, as an answer has.
FINISH_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Client:
    """One `pulse` program, and the file that it tells in."""

    process: subprocess.Popen[str]
    told: Path

    def lines(self) -> list[Document]:
        """Everything that it has told, oldest first."""
        *whole, _unfinished = self.told.read_text().split("\n")
        return [json.loads(line) for line in whole]


@dataclass(slots=True)
class Traffic:
    """All clients of all pods. Times are CLOCK_MONOTONIC in seconds."""

    asking: list[Client] = field(default_factory=list)
    streaming: list[Client] = field(default_factory=list)
    servers: list[Client] = field(default_factory=list)

    def serve(self, pod: Pod) -> None:
        """A server in a pod, for clients of both kinds."""
        self.servers.append(_started(pod, "serve", PORT))
        pod.wait_listening(PORT)

    def ask(self, source: Pod, to: Pod, rate: float) -> None:
        """So many new connections a second."""
        self.asking.append(_started(source, "ask", rate, to.address.v4, PORT))

    def stream(self, source: Pod, to: Pod, count: int) -> None:
        """Streams that stay, and wait until they flow."""
        client = _started(source, "stream", count, to.address.v4, PORT)
        self.streaming.append(client)
        system.wait_until(
            lambda: sum(line["event"] == "flows" for line in client.lines()) == count,
            f"{count} streams from {source.name} to {to.name}",
            FINISH_SECONDS,
        )

    def failures(self) -> list[Document]:
        """Requests that were not answered, or wrongly."""
        return [line for line in _told(self.asking) if line["event"] == "failed"]

    def answered(self) -> int:
        """How many requests have been answered."""
        return sum(
            max((line.get("answered", 0) for line in client.lines()), default=0)
            for client in self.asking
        )

    def slowest_ms(self, since: float, until: float) -> float:
        """The slowest answer that came between two times."""
        seconds = (line for line in _told(self.asking) if line["event"] == "second")
        return max(
            (line["slowest_ms"] for line in seconds if since < line["at"] < until + 1),
            default=0.0,
        )

    def flowing(self) -> list[int]:
        """The streams that flow now, by name."""
        ended = {
            line["stream"]
            for line in _told(self.streaming)
            if line["event"] in ("broken", "wrong", "ended")
        }
        flows = (line for line in _told(self.streaming) if line["event"] == "flows")
        return [line["stream"] for line in flows if line["stream"] not in ended]

    def broken(self) -> list[Document]:
        """Streams that ended before they were told to."""
        return [line for line in _told(self.streaming) if line["event"] == "broken"]

    def wrong(self) -> list[Document]:
        """Streams on which a byte was lost, doubled or altered, at either end."""
        wrong = [line for line in _told(self.streaming) if line["event"] == "wrong"]
        told = (line for line in _told(self.servers) if line["event"] == "server")
        return wrong + [line for line in told if line["why"].startswith("Wrong")]

    def finish(self) -> None:
        """Let what is under way come to its end."""
        clients = [*self.asking, *self.streaming]
        for client in clients:
            client.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.process.wait(patient(FINISH_SECONDS))


def _started(pod: Pod, *arguments: str | float) -> Client:
    number = len(list(pod.directory.glob("pulse-*")))
    log = f"pulse-{number}.out"
    process = pod.start(*program("pulse", FACTOR, *map(str, arguments)), log=log)
    return Client(process, pod.directory / log)


def _told(clients: list[Client]) -> list[Document]:
    return [line for client in clients for line in client.lines()]
