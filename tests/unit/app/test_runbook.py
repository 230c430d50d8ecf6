"""
Every command of deploy/runbook.md, typed as it stands, beside a running service.

A node's agent is played by the client that agents have: it follows the trust, has its
certificate signed again when that is asked for, and reports.
"""

from __future__ import annotations

import contextlib
import gc
import re
import shlex
import socket
import string
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio
import yaml
from click.testing import CliRunner

from agent.cli import podlock
from agent.errors import PodlockError
from agent.identity import operations
from agent.identity.certificate import fingerprint
from agent.identity.client import IdentityClient
from agent.identity.clock import utc_now
from agent.identity.credential import Credential
from agent.identity.crl import CertificateRevoked, Revocations
from agent.identity.crl import parse as parse_crl
from agent.identity.csr import make_csr
from agent.identity.key import PrivateKey
from agent.identity.report import Presented, TrustReport
from agent.identity.store import Store
from agent.identity.trust import Trust
from tests.unit.identity.parts import API, TD, anchor_at, signed_elsewhere

pytestmark = [
    pytest.mark.slow,
    # httpcore leaves a socket to the garbage collector when a TLS handshake is
    # cancelled, as an agent's is that ends here while it asks.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

REPOSITORY: Final = Path(__file__).parents[3]
RUNBOOK: Final = (REPOSITORY / "deploy" / "runbook.md").read_text()


@pytest.fixture(autouse=True)
def collect_what_httpcore_left() -> Iterator[None]:
    """Here, where it is allowed, and not in the next test."""
    yield
    gc.collect()


# What the page says to type again.
NOT_YET: Final = re.compile("not trusted everywhere yet|is still needed|not yet: ")
PATIENCE_SECONDS: Final = 60

POD: Final = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {podlock.io/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata:
  name: api
  namespace: shop
  uid: u-api
  annotations: {podlock.io/netns: /run/netns/api}
spec: {nodeName: n1, serviceAccountName: api}
status: {podIPs: [{ip: 10.0.0.1}]}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def commands(section: str, kind: str = "sh") -> list[str]:
    """The lines of a section's blocks of one kind, without comments."""
    text = RUNBOOK.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    assert blocks, f"no {kind} block under {section}"
    lines = "".join(blocks).splitlines()
    return [line for line in lines if not line.startswith("#")]


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    output: str


@dataclass
class Desk:
    """An operator's shell, beside one authority."""

    place: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.place / "ca")

    @property
    def config(self) -> Path:
        return self.place / "podlock.yaml"

    def prepare(self) -> None:
        """A configuration, and a pod of `api` on node n1."""
        (self.place / "manifests").mkdir()
        (self.place / "manifests" / "pods.yaml").write_text(POD)
        (self.place / "crl").mkdir()
        settings = {
            "node": "n0",
            "trust_domain": str(TD),
            "manifests": str(self.place / "manifests"),
            "run_dir": str(self.place),
            "state_dir": str(self.place / "state"),
            "authority": {
                "directory": str(self.place / "ca"),
                "listen": f"127.0.0.1:{free_port()}",
            },
        }
        self.config.write_text(yaml.safe_dump(settings))
        self.variables = {
            "AUTHORITY": str(self.place / "ca"),
            "CRL_DIRECTORY": str(self.place / "crl"),
        }

    async def type(self, lines: list[str], before: Callable[[str], None]) -> str:
        """Type each line as it stands; again while it says that it is too early."""
        output = ""
        for line in lines:
            before(line)
            with trio.fail_after(PATIENCE_SECONDS):
                while (done := await self._run(line)).code:
                    assert NOT_YET.search(done.output), (line, done)
                    await trio.sleep(0.2)
            output += done.output
        return output

    async def _run(self, line: str) -> Done:
        newest = [root.anchor.fingerprint for root in self.store.load().roots][-1]
        variables = {"NEW": newest[:12], **self.variables}
        typed = string.Template(line).substitute(variables)
        words = shlex.split(typed)
        if words[0] == "podlock":
            return await trio.to_thread.run_sync(self._podlock, words[1:])
        done = await trio.run_process(["sh", "-euc", typed])
        return Done(done.returncode, "")

    def _podlock(self, words: list[str]) -> Done:
        """Here and not as a process of its own, which would take a second each."""
        with contextlib.chdir(self.place):
            runner = CliRunner()
            result = runner.invoke(podlock, [*words, "--config", str(self.config)])
        return Done(result.exit_code, result.output)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """`podlock identity serve`, until it is left; its URL."""
        log = self.place / "service.log"
        argv = [sys.executable, "-m", "agent", "identity", "serve"]
        async with trio.open_nursery() as nursery:
            with log.open("wb") as stream:
                start = partial(
                    trio.run_process,
                    [*argv, "--config", str(self.config)],
                    cwd=REPOSITORY,
                    stderr=stream,
                    check=False,
                )
                process = await nursery.start(start)
            try:
                await until(lambda: process.poll() is not None or _ready(log))
                url = _ready(log)
                assert url is not None, log.read_text()
                yield url
            finally:
                process.terminate()


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - another process brings it about
            await trio.sleep(0.05)


READY: Final = re.compile(r'"address": "([^"]+)".*"event": "identity service ready"')


def _ready(log: Path) -> str | None:
    found = READY.search(log.read_text())
    return f"https://{found[1]}" if found else None


@dataclass
class Node:
    """The agent of n1: one certificate, kept to what the authority wants."""

    client: IdentityClient
    trust: Trust | None = None
    credential: Credential | None = None
    reported: int = 0

    async def run(self) -> None:
        while True:
            try:
                async with aclosing(self.client.watch()) as changes:
                    async for trust in changes:
                        self.trust = trust
                        await self._keep_up(trust)
            except PodlockError:
                await trio.sleep(0.1)

    async def _keep_up(self, trust: Trust) -> None:
        held = self.credential
        if (
            held is None
            or trust.condemns(held.chain_der)
            or trust.retires(held.chain_der)
        ):
            key = PrivateKey.generate()
            signed = await self.client.sign(make_csr(API, key))
            held = self.credential = Credential.assemble(signed.chain_pem, key)
        anchor = trust.bundle.anchor_of(held.chain_der)
        presented = Presented(
            API,
            anchor.fingerprint if anchor else "0" * 64,
            fingerprint(held.chain_der[1]),
            held.svid.serial,
            held.svid.not_after,
            utc_now(),
        )
        report = TrustReport("n1", trust.version, (presented,))
        await self.client.acknowledge(report)
        self.reported = trust.version

    @property
    def issuer(self) -> str | None:
        """Of the certificate that it has."""
        return fingerprint(self.credential.chain_der[1]) if self.credential else None

    @property
    def anchor(self) -> str | None:
        """Of the certificate that it has, by the trust that it knows."""
        if self.trust is None or self.credential is None:
            return None
        found = self.trust.bundle.anchor_of(self.credential.chain_der)
        return found.fingerprint if found else None

    @property
    def anchors(self) -> list[str]:
        """Those that it trusts."""
        return [a.fingerprint for a in self.trust.bundle.anchors] if self.trust else []

    @property
    def tainted(self) -> frozenset[str]:
        """What it was told to be tainted."""
        return self.trust.tainted if self.trust else frozenset()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.prepare()
    return made


@asynccontextmanager
async def node_of(desk: Desk, url: str) -> AsyncIterator[Node]:
    """The node's agent, once it has a certificate."""
    token = await desk._run("podlock identity token create --node n1")
    assert token.code == 0, token.output
    (desk.place / "n1.token").write_text(token.output)
    anchors = desk.place / "anchors.crt"
    if not anchors.exists():
        anchors.write_bytes(desk.store.load().bundle.pem)
    client = IdentityClient(
        url,
        anchors.read_bytes(),
        desk.place / "n1.token",
        anchors_file=anchors,
        memory=desk.place / "trust.json",
    )
    async with client, trio.open_nursery() as nursery:
        node = Node(client)
        nursery.start_soon(node.run)
        yield node
        nursery.cancel_scope.cancel()


def as_they_stand(line: str) -> None:
    """Nothing happens between the lines."""


async def test_first_look_and_leaked_workload_key(desk: Desk) -> None:
    """The list is signed by the issuer, names that certificate, and only grows."""
    operations.initialize(desk.store, TD, utc_now())
    async with desk.serving() as url, node_of(desk, url) as node:
        await until(lambda: node.reported)
        assert node.credential is not None
        assert node.trust is not None
        desk.variables["SERIAL"] = f"{node.credential.svid.serial:x}"
        look = RUNBOOK.partition("\n## ")[0]
        assert "podlock ca show" in look
        shown = await desk.type(["podlock ca show"], as_they_stand)
        assert "node          n1: version 2" in shown
        told = await desk.type(commands("Leaked workload key"), as_they_stand)
        assert str(API) in told
        (path,) = await trio.to_thread.run_sync(list, (desk.place / "crl").iterdir())
        revocations = Revocations(parse_crl(await trio.Path(path).read_bytes()))
        anchor = node.trust.bundle.anchors[0].der
        with pytest.raises(CertificateRevoked):
            revocations.require_good([*node.credential.chain_der, anchor])


async def test_leaked_issuer(desk: Desk) -> None:
    """Tainted and replaced at once; the node has a clean certificate."""
    operations.initialize(desk.store, TD, utc_now())
    leaked = fingerprint(desk.store.load().issuer or b"")
    desk.variables["ISSUER"] = leaked[:10]
    async with desk.serving() as url, node_of(desk, url) as node:
        await until(lambda: node.reported)
        shown = await desk.type(commands("Leaked issuer"), as_they_stand)
        assert "tainted       issuer CN=podlock identity issuer" in shown
        await until(lambda: node.tainted == {leaked} and node.issuer != leaked)


async def test_leaked_issuer_under_an_offline_anchor(desk: Desk) -> None:
    """The successor first, then the taint."""
    now = utc_now()
    offline = anchor_at(now)
    operations.initialize_under(desk.store, TD, offline.certificate_pem)
    first = signed_elsewhere(operations.request_new_issuer(desk.store), offline, now)
    operations.install_issuer(desk.store, first, now, timedelta(days=1))
    leaked = fingerprint(desk.store.load().issuer or b"")
    desk.variables["ISSUER"] = leaked

    def sign(line: str) -> None:
        if "issuer.crt" in line:
            request = (desk.place / "issuer.csr").read_bytes()
            signed = signed_elsewhere(request, offline, now)
            (desk.place / "issuer.crt").write_bytes(signed)

    async with desk.serving() as url, node_of(desk, url) as node:
        await until(lambda: node.reported)
        await desk.type(commands("Leaked issuer", "sh offline"), sign)
        await until(lambda: node.tainted == {leaked} and node.issuer != leaked)


@pytest.mark.parametrize("section", ["Leaked anchor", "Lost anchor"])
async def test_replaced_anchor(desk: Desk, section: str) -> None:
    """The node moves to the new anchor, and then the old one may go."""
    operations.initialize(desk.store, TD, utc_now())
    old = desk.store.load().roots[0].anchor.fingerprint
    desk.variables["ANCHOR"] = old
    async with desk.serving() as url, node_of(desk, url) as node:
        await until(lambda: node.reported)
        await desk.type(commands(section), as_they_stand)
        moved = await desk.type(commands(section, "sh later"), as_they_stand)
        assert "is not trusted any more" in moved
        await until(lambda: old not in node.anchors and node.anchor)
        assert node.tainted == ({old} if section == "Leaked anchor" else set())


async def test_expired_anchor(desk: Desk) -> None:
    """Agents are reached by the file that a person copies, and by nothing else."""
    long_ago = datetime.now(UTC) - timedelta(days=3700)
    operations.initialize(desk.store, TD, long_ago)
    desk.variables["ANCHOR"] = desk.store.load().roots[0].anchor.fingerprint
    anchors = desk.place / "anchors.crt"
    anchors.write_bytes(desk.store.load().bundle.pem)
    await desk.type(commands("Expired anchor"), as_they_stand)
    async with desk.serving() as url, node_of(desk, url) as node:
        await trio.sleep(0.5)
        assert node.credential is None
        await trio.Path(anchors).write_bytes((desk.place / "ca.crt").read_bytes())
        await until(lambda: node.reported)
        await desk.type(commands("Expired anchor", "sh later"), as_they_stand)
        await until(lambda: len(node.anchors) == 1)
