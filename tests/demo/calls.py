"""Small questions that the steps ask: of applications, and of agents' status."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab import apps, system
from tests.lab.node import Agent, Document
from tests.lab.pod import Pod, program
from tests.lab.topology import LabNode
from tests.patience import patient

CURL_SECONDS = 5
STATUS_SECONDS = 3.0
LOG_SECONDS = patient(2.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What curl came back with; `said` is its own complaint."""

    exit_code: int
    status: str
    remote: str
    body: str
    said: str

    @property
    def served(self) -> bool:
        """Whether a page came back."""
        return self.exit_code == 0 and self.status == "200"

    def __str__(self) -> str:
        return f"curl: {self.status}" if self.exit_code == 0 else self.said


def curl(pod: Pod | LabNode, url: str, *options: str) -> Answer:
    """Fetch a URL with curl in a pod, or on a node itself."""
    tail = "\n%{http_code} %{remote_ip}"
    argv = ["curl", "-sS", "-m", str(patient(CURL_SECONDS)), "-w", tail, *options, url]
    done = pod.run(*argv, seconds=CURL_SECONDS + 5)
    body, _, facts = done.stdout.rpartition("\n")
    status, _, remote = facts.partition(" ")
    said = done.stderr.strip() or f"curl: ({done.returncode})"
    return Answer(done.returncode, status, remote, body, said)


def url(address: str, path: str = "/", scheme: str = "http") -> str:
    """A URL with an address, in brackets where it is IPv6."""
    host = f"[{address}]" if ":" in address else address
    return f"{scheme}://{host}{path}"


def logged_client(server: Pod, path: str) -> tuple[str, str]:
    """
    (client, server address) of a request, from nginx's own access log.

    nginx writes it when the response is through, which may be after curl has left.
    """
    deadline = time.monotonic() + LOG_SECONDS
    while not (found := _logged(server, path)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found or ("nobody", "nowhere")


def never_logged(server: Pod, path: str) -> bool:
    """Whether nginx's access log has no such request, also a moment later."""
    time.sleep(patient(0.1))
    return _logged(server, path) is None


def _logged(server: Pod, path: str) -> tuple[str, str] | None:
    whole = (line for line in apps.access_log(server) if len(line) == 4)
    return next(((line[0], line[1]) for line in whole if line[2] == path), None)


class Program:
    """A long-running one of the lab's small programs, and what it has told so far."""

    def __init__(self, pod: Pod, name: str, *arguments: str | int) -> None:
        log = f"{name}-{time.monotonic_ns()}.out"
        self._file = pod.directory / log
        self._process = pod.start(*program(name, *arguments), log=log)
        self._what = f"{name} in {pod.name}"

    def told(self, event: str) -> list[Document]:
        """The lines about an event: whole JSON objects, oldest first."""
        *whole, _unfinished = self._file.read_text().split("\n")
        lines: list[Document] = [json.loads(line) for line in whole]
        return [line for line in lines if line["event"] == event]

    def wait(self, event: str, count: int = 1, seconds: float = 5.0) -> Document:
        """The `count`th line about an event. Raises: LabError."""
        return system.wait_until(
            lambda: self.told(event)[count - 1 :], f"{self._what}: {event}", seconds
        )[0]

    def kill(self) -> None:
        """End it."""
        self._process.kill()


class NewConnections:
    """The connections that an agent tells of and did not tell of before."""

    def __init__(self, agent: Agent, **filters: str) -> None:
        self._agent = agent
        self._filters = filters
        self._before = {each["id"] for each in self._all()}

    def wait(
        self,
        is_it: Callable[[Document], bool],
        what: str,
        seconds: float = STATUS_SECONDS,
    ) -> Document:
        """The first new one that `is_it`. Raises: LabError with those that are not."""
        deadline = time.monotonic() + patient(seconds)
        while True:
            fresh = [each for each in self._all() if each["id"] not in self._before]
            if found := next(filter(is_it, fresh), None):
                return found
            if time.monotonic() >= deadline:
                told = [summary(each) for each in fresh[-3:]] or "nothing new"
                raise system.LabError(f"the status does not show {what}, but: {told}")
            time.sleep(0.02)

    def wait_for(self, count: int, seconds: float = STATUS_SECONDS) -> list[Document]:
        """So many of them, all that there are. Raises: LabError."""

        def fresh() -> list[Document] | None:
            found = [each for each in self._all() if each["id"] not in self._before]
            return found if len(found) >= count else None

        return system.wait_until(fresh, f"{count} connections", seconds)

    def _all(self) -> list[Document]:
        document = self._agent.ask("connections", **self._filters)
        everything: list[Document] = document["open"] + document["recent"]
        return everything


class NewEvents:
    """The events that an agent tells of and did not tell of before."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._before = len(agent.ask("events")["events"])

    def messages(self) -> list[str]:
        """What happened since, as one line each."""
        events: list[Document] = self._agent.ask("events")["events"][self._before :]
        return [f"{e['kind']}: {e['object']}: {e['message']}" for e in events]


def summary(connection: Document) -> str:
    """One connection in a line."""
    source, destination = connection["source"], connection["destination"]
    ends = " -> ".join(
        end["workload"] or end["address"] for end in (source, destination)
    )
    reason = connection["reason"] or connection["rule"] or ""
    return f"{connection['direction']} {ends} {connection['outcome']} {reason}".strip()
