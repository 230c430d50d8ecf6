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
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agent.identity.authority import create_anchor, create_issuer
from agent.identity.spiffe import TrustDomain
from tests.cluster.control_plane import HOST, free_port, until
from tests.kube.world import World
from tests.unit.identity.mount import Mount

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

    def signs_by(self, token: str, account: str, namespace: str) -> int:
        """The serial number of the issuer of a new certificate."""
        status, answer = self.sign(token, account, namespace)
        assert status == 200, answer
        _, issuer = x509.load_pem_x509_certificates(answer["chain"].encode())
        return issuer.serial_number

    def trust(self) -> Any:
        """The trust document."""
        url = f"https://{HOST}:{self.port}/v1/bundle"
        context = ssl.create_default_context(cafile=str(self.anchors))
        context.check_hostname = False
        with urllib.request.urlopen(url, context=context, timeout=30) as answer:
            return json.load(answer)


def request_for(identity: str) -> str:
    """A CSR in PEM for one SPIFFE ID."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(names, critical=True)
    key = ec.generate_private_key(ec.SECP256R1())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def account(world: World) -> None:
    """The ServiceAccount of the identity service, with the least of rights."""
    world.account("identity")
    world.grant(
        "identity",
        ("authentication.k8s.io", "tokenreviews", "create"),
        ("", "pods", "get,list,watch"),
        ("", "configmaps", "get,create,update"),
    )


@contextmanager
def serving(
    world: World, directory: Path, authority: dict[str, str] | None = None
) -> Iterator[Service]:
    """
    The service with a ServiceAccount's rights, reading its token from a file.

    Without settings of the `authority` it has one of its own.
    """
    directory.mkdir(exist_ok=True)
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
        "authority": {
            "directory": str(directory / "ca"),
            "listen": f"{HOST}:{port}",
            **(authority or {}),
        },
    }
    config = directory / "podlock.yaml"
    config.write_text(yaml.safe_dump(settings))
    podlock = [sys.executable, "-m", "agent"]
    if authority is None:
        begin = [*podlock, "ca", "init", "--config", str(config)]
        subprocess.run(begin, check=True, cwd=REPOSITORY)
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
    except BaseException as error:
        error.add_note(log.read_text()[-4000:])
        raise
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
    account(world)
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


def _has_signed(replica: Service, asked: tuple[str, str, str]) -> bool:
    return replica.sign(*asked)[0] == 200


def test_two_replicas_side_by_side(world: World, tmp_path: Path) -> None:
    """
    Each has the issuer's Secret mounted, as cert-manager writes it and the kubelet
    swaps it; they share one state, and the anchors are in a ConfigMap. Either signs,
    also while only one of them has the next issuer, or is left.
    """
    now = datetime.now(UTC)
    anchor = create_anchor(TrustDomain("cluster.local"), now=now, serial=0xA)
    mounts = {name: Mount(tmp_path / f"secret-{name}") for name in "ab"}

    def issue(serial: int, *names: str) -> None:
        domain = TrustDomain("cluster.local")
        issuer = create_issuer(domain, anchor, now=now, serial=serial)
        for name in names:
            mounts[name].swap(
                issuer.certificate_pem, issuer.key.pem, anchor.certificate_pem
            )

    issue(0xB1, "a", "b")
    account(world)
    for name in ("agent", "web"):
        world.account(name)
    uid = world.pod("agent-x", world.node, "10.1.0.1", account="agent")
    world.pod("web-x", world.node, "10.1.0.2", account="web")
    token = world.token("agent", "podlock", ("agent-x", uid))
    asked = (token, "web", world.namespace)
    shared = {"config_map": f"{world.namespace}/podlock-trust"}
    settings = {
        name: {"issuer": str(mount.directory), **shared}
        for name, mount in mounts.items()
    }
    with serving(world, tmp_path / "b", settings["b"]) as b:
        with serving(world, tmp_path / "a", settings["a"]) as a:
            for replica in (a, b):
                until(partial(_has_signed, replica, asked))
                assert replica.signs_by(*asked) == 0xB1
            until(lambda: a.trust() == b.trust())
            found = world.plane.admin("GET", f"{world.home}/configmaps/podlock-trust")
            assert found["data"]["ca.crt"] == anchor.certificate_pem.decode()

            issue(0xB2, "a")
            until(lambda: a.signs_by(*asked) == 0xB2)
            until(lambda: len(b.trust()["retiring"]) == 1)
            assert b.signs_by(*asked) == 0xB1
            issue(0xB2, "b")
            until(lambda: b.signs_by(*asked) == 0xB2)
            until(lambda: a.trust() == b.trust())
        # An operator's command on the one that is left; nobody reported to it.
        config = tmp_path / "b" / "podlock.yaml"
        podlock = [sys.executable, "-m", "agent", "ca"]
        command = [*podlock, "add-anchor", "--config", str(config)]
        subprocess.run(command, check=True, cwd=REPOSITORY)
        until(lambda: b.trust()["bundle"].count("BEGIN CERTIFICATE") == 2)
        assert b.signs_by(*asked) == 0xB2
        # It counts on the nodes with an agent, whoever of the two they report to.
        assert (tmp_path / f"b/ca/nodes/{world.node}.json").exists()
