"""
etcd and a kube-apiserver of our own, on loopback, in a directory of their own.

The API server is real: RBAC, watch cache, token signing and review, custom resources.
There is no kubelet and no controller, so a pod is what somebody writes.
"""

from __future__ import annotations

import base64
import json
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.cluster.credentials import Authority, account_keys

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 20.0
HOST: Final = "127.0.0.1"

Document = Mapping[str, Any]


class Unanswered(Exception):
    """The API server said no; `code` is HTTP's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@dataclass(slots=True)
class ControlPlane:
    """One API server and its etcd; `admin` asks with every right."""

    assets: Path
    directory: Path
    port: int = 0
    etcd_port: int = 0
    more: tuple[str, ...] = ()
    authority: Authority = field(init=False)
    etcd: subprocess.Popen[bytes] | None = None
    server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    def start(self) -> None:
        """Make keys and certificates, start both, wait until all is ready."""
        self.authority = Authority(self.directory)
        self.authority.issue("server", hosts=(HOST, "kubernetes.default.svc"))
        self.authority.issue("admin", "system:masters")
        account_keys(self.directory)
        self.port, self.etcd_port = free_port(), free_port()
        self._start_etcd()
        self.start_server()

    def _start_etcd(self) -> None:
        client = f"http://{HOST}:{self.etcd_port}"
        peer = f"http://{HOST}:{free_port()}"
        self.etcd = self._spawn(
            "etcd",
            *("--data-dir", self.directory / "etcd"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
            # A test's data is gone with the test; waiting for the disk is not.
            "--unsafe-no-fsync",
        )

    def start_server(self) -> None:
        """The API server alone, as after `stop_server`: same port, same data."""
        keys = self.directory
        self.server = self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://{HOST}:{self.etcd_port}",
            *(f"--bind-address={HOST}", f"--secure-port={self.port}"),
            f"--tls-cert-file={keys}/server.crt",
            f"--tls-private-key-file={keys}/server.key",
            f"--client-ca-file={self.authority.certificate}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.201.0.0/24",
            f"--service-account-issuer={self.url}",
            f"--service-account-key-file={keys}/accounts.pub",
            f"--service-account-signing-key-file={keys}/accounts.key",
            f"--api-audiences={self.url},podlock",
            # There is no controller that would make a default one in each namespace.
            "--disable-admission-plugins=ServiceAccount",
            # Compaction is what a test asks for.
            "--etcd-compaction-interval=0",
            f"--cert-dir={keys}/generated",
            *self.more,
        )
        self.wait("/readyz")

    def stop_server(self) -> None:
        """As when its machine fails. In order, it would wait a minute for watches."""
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        self.server = None

    def stop(self) -> None:
        """End both; safe to call twice."""
        self.stop_server()
        self._stop(self.etcd)
        self.etcd = None

    def _spawn(self, name: str, *arguments: object) -> subprocess.Popen[bytes]:
        log = (self.directory / f"{name}.log").open("ab")
        with log:
            return subprocess.Popen(
                [self.assets / name, *map(str, arguments)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
            )

    @staticmethod
    def _stop(process: subprocess.Popen[bytes] | None) -> None:
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait(self, path: str) -> None:
        """Until a GET of `path` is answered with success."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.admin("GET", path)
            except (OSError, Unanswered) as error:
                self._check_alive()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.url}{path}: {error}") from error
                time.sleep(0.1)
            else:
                return

    def _check_alive(self) -> None:
        for process in (self.etcd, self.server):
            if process is not None and process.poll() is not None:
                name = Path(str(process.args[0])).name  # type: ignore[index]
                log = (self.directory / f"{name}.log").read_text()
                raise RuntimeError(f"{name} ended:\n{log[-2000:]}")

    def admin(self, method: str, path: str, document: Document | None = None) -> Any:
        """A request with every right. Raises: Unanswered, OSError."""
        body = json.dumps(document).encode() if document is not None else None
        kind = "application/json"
        if method == "PATCH":
            kind = "application/merge-patch+json"
        request = urllib.request.Request(  # noqa: S310 - https, to loopback
            self.url + path, body, {"content-type": kind}, method=method
        )
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        context.load_cert_chain(
            self.directory / "admin.crt", self.directory / "admin.key"
        )
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise Unanswered(error.code, error.read().decode()) from None
        return json.loads(text) if text[:1] in b"{[" else text.decode()

    def compact(self) -> None:
        """Have etcd forget every version but the present one."""
        version = self._etcd("/v3/kv/range", {"key": "Lw=="})["header"]["revision"]
        self._etcd("/v3/kv/compaction", {"revision": version, "physical": True})

    def _etcd(self, path: str, document: Document) -> Any:
        request = urllib.request.Request(
            f"http://{HOST}:{self.etcd_port}{path}", json.dumps(document).encode()
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read())

    def kubeconfig(self, user: str, *, inline: bool = False) -> Path:
        """A kubeconfig with the client certificate of `user`."""
        files = {
            "certificate-authority": self.authority.certificate,
            "client-certificate": self.directory / f"{user}.crt",
            "client-key": self.directory / f"{user}.key",
        }
        fields = {
            f"{name}-data": base64.b64encode(path.read_bytes()).decode()
            if inline
            else str(path)
            for name, path in files.items()
        }
        if not inline:
            fields = {name: str(path) for name, path in files.items()}
        authority = {k: v for k, v in fields.items() if k.startswith("certificate")}
        client = {k: v for k, v in fields.items() if k.startswith("client")}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url, **authority}}],
            "users": [{"name": "u", "user": client}],
        }
        path = self.directory / f"{user}{'-inline' if inline else ''}.kubeconfig"
        path.write_text(json.dumps(document))
        return path


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def running(assets: Path, *more: str) -> Iterator[ControlPlane]:
    """A control plane for the length of a block, and nothing of it after."""
    directory = Path(tempfile.mkdtemp(prefix="podlock-kube-"))
    plane = ControlPlane(assets, directory, more=more)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
        shutil.rmtree(directory, ignore_errors=True)


def until(check: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until `check` is true. Raises: AssertionError."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
