"""`podlock identity serve` beside a real API server, as a process."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.cluster.control_plane import HOST, free_port, until
from tests.kube.world import World

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Service:
    """A running identity service."""

    port: int
    anchors: Path

    def sign(self, token: str, account: str, namespace: str) -> tuple[int, Any]:
        """Ask for a certificate; status and answer."""
        identity = f"spiffe://cluster.local/ns/{namespace}/sa/{account}"
        body = json.dumps({"csr": request_for(identity)}).encode()
        asked = urllib.request.Request(
            f"https://{HOST}:{self.port}/v1/sign",
            body,
            {
                "authorization": f"Bearer {token}",
                "content-type": "application/json",
            },
        )
        context = ssl.create_default_context(cafile=str(self.anchors))
        context.check_hostname = False  # its name is not the address of loopback
        try:
            with urllib.request.urlopen(asked, context=context, timeout=30) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["error"]["reason"]


def request_for(identity: str) -> str:
    """A CSR in PEM for one SPIFFE ID."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(names, critical=True)
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@contextmanager
def serving(world: World, directory: Path) -> Iterator[Service]:
    """The service with a ServiceAccount's rights, reading its token from a file."""
    world.account("identity")
    world.grant(
        "identity",
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("", "pods", "get,list,watch"),
    )
    mounted = directory / "serviceaccount"
    mounted.mkdir()
    (mounted / "token").write_text(world.token("identity"))
    (mounted / "ca.crt").write_bytes(world.plane.authority.certificate.read_bytes())
    port = free_port()
    settings = {
        "kubernetes": {
            "in_cluster": True,
            "server": world.plane.url,
            "credentials": str(mounted),
            "agent": f"{world.namespace}/agent",
        },
        "run_dir": str(directory),
        "state_dir": str(directory),
        "authority": {"directory": str(directory / "ca"), "listen": f"{HOST}:{port}"},
    }
    config = directory / "podlock.yaml"
    config.write_text(yaml.safe_dump(settings))
    podlock = [sys.executable, "-m", "agent"]
    subprocess.run(
        [*podlock, "ca", "init", "--config", config], check=True, cwd=REPOSITORY
    )
    log = directory / "identity.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*podlock, "identity", "serve", "--config", config],
            stderr=out,
            cwd=REPOSITORY,
        )
    try:
        until(lambda: "identity service ready" in log.read_text())
        yield Service(port, directory / "ca" / "ca.crt")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def test_signs_for_what_runs_on_the_callers_node(world: World, tmp_path: Path) -> None:
    """
    An agent proves its node by the token of its pod, and gets what runs there. An
    outage of the API server is no verdict; what is known stays known.
    """
    for name in ("agent", "web", "far"):
        world.account(name)
    uid = world.pod("agent-x", world.node, "10.1.0.1", account="agent")
    world.pod("web-x", world.node, "10.1.0.2", account="web")
    world.pod("far-x", world.elsewhere, "10.2.0.1", account="far")
    token = world.token("agent", "podlock", ("agent-x", uid))
    with serving(world, tmp_path) as service:

        def answer(account: str, bearer: str = token) -> tuple[int, Any]:
            return service.sign(bearer, account, world.namespace)

        until(lambda: answer("web")[0] == 200)
        _, signed = answer("web")
        leaf = x509.load_pem_x509_certificate(signed["chain"].encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [
            f"spiffe://cluster.local/ns/{world.namespace}/sa/web"
        ]
        assert answer("far") == (403, "identity_not_on_node")
        assert answer("web", "x.y.z") == (401, "token_not_authenticated")
        mine = world.token("web", "podlock")
        assert answer("web", mine) == (401, "token_wrong_subject")

        world.plane.stop_server()
        assert answer("web") == (503, "callers_unknown")
        world.plane.start_server()
        world.pod("late-x", world.node, "10.1.0.3", account="far")
        until(lambda: answer("far")[0] == 200, 60)
