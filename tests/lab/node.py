"""
The agent of a lab's node: its configuration, its process, and what it tells.

It runs as an operator would run it, `podlock run --config FILE`, in the node's network
namespace and the host's mount namespace. It is asked only through its status socket.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.lab import names, system
from tests.lab.identity import (
    REPOSITORY,
    TRUST_DOMAIN,
    IdentityService,
    podlock,
    run_podlock,
)
from tests.lab.topology import Lab, LabNode
from tests.patience import patient

# The first start compiles the eBPF programs.
READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 15.0

Document = dict[str, Any]


@dataclass(slots=True)
class Agent:
    """One node's agent. `settings` are merged over the lab's configuration."""

    lab: Lab
    node: LabNode
    manifests: Path
    identity: IdentityService | None = None
    settings: Document = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None

    @property
    def socket(self) -> Path:
        """The status socket."""
        return self.node.directory / "agent.sock"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.node.directory / "config.yaml"

    @property
    def log(self) -> Path:
        """Standard error of all of the agent's processes: one JSON object a line."""
        return self.node.directory / "agent.log"

    @property
    def cgroup(self) -> Path:
        """Where the agent's own processes are: outside of what it redirects."""
        return self.lab.host_cgroup(f"agent-{self.node.name}")

    def configuration(self) -> Document:
        """The whole configuration of this node's agent."""
        # Deadlines are as long as they are by default, on a usual machine.
        identity: Document = {"taint_deadline_seconds": patient(10.0)}
        if self.identity is not None:
            identity |= {
                "service": self.identity.url,
                "anchors": str(self.identity.anchors),
                "token": str(self.identity.join_token(self.node.name)),
            }
        configuration: Document = {
            "node": self.node.name,
            "trust_domain": TRUST_DOMAIN,
            "manifests": str(self.manifests),
            "run_dir": str(self.node.directory),
            "state_dir": str(self.node.directory / "state"),
            "workers": 1,
            "redirect": {"pins": str(self.node.pins), "cgroup": str(self.node.cgroup)},
            "identity": identity,
            "policy": {
                "default_inbound": "all-unauthenticated",
                "cluster_networks": list(names.POD_NETWORKS),
            },
            "limits": {
                "connect_timeout_seconds": patient(10.0),
                "handshake_timeout_seconds": patient(10.0),
                "worker_timeout_seconds": patient(10.0),
            },
            "log": {"level": "info", "format": "json"},
            "status": {"socket": str(self.socket)},
        }
        return merged(configuration, self.settings)

    def start(self, *, wait: bool = True) -> float:
        """Write the configuration and start; return the seconds until ready."""
        began = time.monotonic()
        self.config.write_text(yaml.safe_dump(self.configuration(), sort_keys=False))
        argv = podlock("run", "--config", self.config)
        command = system.inside(self.node.netns, self.cgroup, argv)
        with self.log.open("a") as log:
            self._process = self.lab.children.start(
                command, log, subprocess.STDOUT, directory=REPOSITORY
            )
        if wait:
            self.wait_ready()
        return time.monotonic() - began

    def wait_ready(self, seconds: float = READY_SECONDS) -> Document:
        """Wait until the status says ready. Raises: LabError with the log's end."""
        try:
            return system.wait_until(self._ready, f"agent of {self.node.name}", seconds)
        except system.LabError as error:
            raise system.LabError(
                f"{error}; its log ends: {self.log_tail()}"
            ) from error

    def _ready(self) -> Document | None:
        if self._process and self._process.poll() is not None:
            raise system.LabError(f"it ended with {self._process.returncode}")
        if not self.socket.exists():
            return None  # httpcore leaks its socket when it cannot connect
        with contextlib.suppress(httpx.HTTPError, OSError):
            status = self.ask("status")
            return status if status["ready"] else None
        return None

    def ask(self, document: str, **parameters: str) -> Document:
        """A document of the status socket: `ask("connections")`. Raises: OSError."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(str(self.socket))  # httpcore leaks its socket if it cannot
        transport = httpx.HTTPTransport(uds=str(self.socket))
        with httpx.Client(transport=transport, base_url="http://agent") as client:
            answer = client.get(f"/v1/{document}", params=parameters).raise_for_status()
            parsed: Document = answer.json()
        return parsed

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `podlock` command against this agent: `command("status", "--json")`."""
        return run_podlock(*arguments, "--socket", self.socket)

    def processes(self) -> list[int]:
        """The ids of control, its workers and whatever else it started."""
        return system.processes_in(self.cgroup)

    def kill(self) -> None:
        """SIGKILL to every process of the agent at once."""
        system.kill_cgroup(self.cgroup)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, as an init system would, and wait for the end."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(patient(seconds))
        system.wait_until(
            lambda: not self.processes(), f"agent of {self.node.name} stops", seconds
        )

    def log_tail(self, lines: int = 8) -> str:
        """The last lines of the log."""
        text = self.log.read_text() if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:]) or "(nothing)"


def merged(base: Document, over: Document) -> Document:
    """`base` with the values of `over`, section by section."""
    result = dict(base)
    for key, value in over.items():
        section = isinstance(base.get(key), dict) and isinstance(value, dict)
        result[key] = merged(base[key], value) if section else value
    return result
