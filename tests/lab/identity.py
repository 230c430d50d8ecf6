"""
The identity service of a lab: one authority, serving both nodes from node 1.

The directory of the authority and the nodes' join tokens are made by the commands
that an operator would type.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from tests.lab import names, system
from tests.lab.certificates import Authority
from tests.lab.topology import Lab
from tests.patience import patient

PORT: Final = 8443
READY_SECONDS: Final = 15.0
REPOSITORY: Final = Path(__file__).parents[2]
TRUST_DOMAIN: Final = "cluster.local"
PARTNER: Final = "partner.example"


def podlock(*arguments: str | Path) -> list[str]:
    """The command line of `podlock`, from this checkout."""
    return [sys.executable, "-m", "agent", *map(str, arguments)]


def run_podlock(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a `podlock` command to its end, whatever its exit code."""
    return subprocess.run(
        podlock(*arguments),
        text=True,
        capture_output=True,
        timeout=patient(20),
        check=False,
        cwd=REPOSITORY,
    )


@dataclass(slots=True)
class IdentityService:
    """`podlock identity serve` in a node's network namespace."""

    lab: Lab
    manifests: Path
    trust_domain: str = TRUST_DOMAIN
    node: str = "n1"
    lifetime_hours: float = 24.0
    """Of the certificates that it signs."""
    _tokens: dict[str, Path] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it listens."""
        return names.node_address(self.lab.nodes[self.node].number).v4

    @property
    def url(self) -> str:
        """What the agents are configured with."""
        return f"https://{self.address}:{PORT}"

    @property
    def directory(self) -> Path:
        """The authority's directory: anchor, issuer and their keys."""
        return self.lab.directory / "ca"

    @property
    def anchors(self) -> Path:
        """The trust anchors, in PEM."""
        return self.directory / "ca.crt"

    @property
    def partner(self) -> Path:
        """Where a foreign domain's anchors may be put, to federate with PARTNER."""
        return self.lab.directory / "partner.pem"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.lab.directory / "identity.yaml"

    @property
    def log(self) -> Path:
        """Its standard error."""
        return self.lab.directory / "identity.log"

    def start(self) -> None:
        """Make the authority, start the service and wait until it listens."""
        configuration = {
            "trust_domain": self.trust_domain,
            "manifests": str(self.manifests),
            "run_dir": str(self.lab.directory),
            "state_dir": str(self.lab.directory / "identity"),
            "identity": {"certificate_lifetime_hours": self.lifetime_hours},
            "authority": {
                "directory": str(self.directory),
                "listen": f"{self.address}:{PORT}",
            },
            "federation": {
                "domains": [{"trust_domain": PARTNER, "file": str(self.partner)}]
            },
            "log": {"level": "info", "format": "json"},
        }
        self.config.write_text(yaml.safe_dump(configuration, sort_keys=False))
        self._podlock("ca", "init", "--config", self.config)
        node = self.lab.nodes[self.node]
        argv = podlock("identity", "serve", "--config", self.config)
        command = system.inside(node.netns, self.lab.host_cgroup("identity"), argv)
        with self.log.open("a") as log:
            self.lab.children.start(
                command, log, subprocess.STDOUT, directory=REPOSITORY
            )
        try:
            system.wait_until(self._answers, "identity service", READY_SECONDS, 0.05)
        except system.LabError as error:
            raise system.LabError(
                f"{error}; log: {self.log.read_text()[-400:]}"
            ) from error

    def join_token(self, node: str) -> Path:
        """The file with a node's join token, made when it is first asked for."""
        if node not in self._tokens:
            path = self.lab.directory / f"{node}.token"
            verb = ("identity", "token", "create")
            token = self._podlock(*verb, "--config", self.config, "--node", node)
            path.write_text(token.strip())
            path.chmod(0o600)
            self._tokens[node] = path
        return self._tokens[node]

    def stolen(self) -> Authority:
        """The issuer itself, as a thief of its files would have it."""
        document = json.loads((self.directory / "authority.json").read_bytes())
        certificate = self.lab.directory / "stolen.crt"
        certificate.write_text(document["issuer"])
        for key in (self.directory / "keys").iterdir():
            found = Authority.load(certificate, key)
            if found.certificates[0].public_key() == found.key.public_key():
                return found
        raise system.LabError(f"{self.directory}: no key of the issuer")

    def _podlock(self, *arguments: str | Path) -> str:
        return system.run(*podlock(*arguments), directory=REPOSITORY)

    def _answers(self) -> bool:
        def connect() -> bool:
            try:
                socket.create_connection((self.address, PORT), timeout=1).close()
            except OSError:
                return False
            return True

        return system.in_namespace(self.lab.nodes[self.node].netns, connect)
