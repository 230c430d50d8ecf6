"""
How fast the identity service issues: 1,000 identities over HTTPS, beside OpenSSL.

    ./run bench identity [--identities N] [--at-once N]

The service is a process of its own, with its audit log synced for each certificate.
Every request has its own identity, key and CSR, made before the clock starts. The peer
is `openssl x509 -req`, one process a CSR, one after another, in the same run: what a
script that signs CSRs costs. It authorizes nobody and keeps no audit log.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
import trio
import yaml

from agent.identity.anchored import context_for
from agent.identity.authority import SERVICE_NAME
from agent.identity.clock import utc_now
from agent.identity.csr import make_csr
from agent.identity.key import PrivateKey
from agent.identity.operations import initialize
from agent.identity.pem import CERTIFICATE_REQUEST, format_blocks
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.store import Store
from agent.identity.token import NodeCaller, issue_token

TD: Final = TrustDomain("cluster.local")
REPOSITORY: Final = Path(__file__).parents[2]
READY: Final = re.compile(r'"address": "([^"]+)".*"event": "identity service ready"')
READY_SECONDS: Final = 30.0
PEER_SAMPLE: Final = 100


def main(arguments: list[str]) -> None:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(prog="./run bench identity")
    parser.add_argument("--identities", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        requests = [_request(number) for number in range(options.identities)]
        initialize(Store(place / "ca"), TD, utc_now())
        with _serving(place, options.identities) as url:
            took = trio.run(_issue_all, place, url, requests, options.at_once)
        peer = _peer(place, requests[:PEER_SAMPLE])
    _print(took, peer, options.at_once)


def _request(number: int) -> bytes:
    identity = SpiffeId.for_workload(TD, "bench", f"w{number}")
    der = make_csr(identity, PrivateKey.generate())
    return format_blocks([der], CERTIFICATE_REQUEST)


def _manifests(count: int) -> str:
    pods = (
        f"{{apiVersion: v1, kind: Pod, metadata: {{name: w{n}, namespace: bench, "
        f"uid: u{n}, annotations: {{podlock.io/netns: /run/netns/w{n}}}}}, "
        f"spec: {{nodeName: n1, serviceAccountName: w{n}}}, "
        f"status: {{podIPs: [{{ip: 10.1.{n // 250}.{n % 250 + 1}}}]}}}}"
        for n in range(count)
    )
    namespace = (
        "{apiVersion: v1, kind: Namespace, "
        "metadata: {name: bench, labels: {podlock.io/mesh: enabled}}}"
    )
    return "\n---\n".join([namespace, *pods])


@contextmanager
def _serving(place: Path, identities: int) -> Iterator[str]:
    (place / "manifests").mkdir()
    (place / "manifests" / "pods.yaml").write_text(_manifests(identities))
    settings = {
        "node": "n0",
        "trust_domain": str(TD),
        "manifests": str(place / "manifests"),
        "run_dir": str(place),
        "state_dir": str(place / "state"),
        "authority": {
            "directory": str(place / "ca"),
            "listen": "127.0.0.1:18443",
            "request_burst": identities,
        },
    }
    (place / "podlock.yaml").write_text(yaml.safe_dump(settings))
    argv = [sys.executable, "-m", "agent", "identity", "serve"]
    log = place / "service.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*argv, "--config", str(place / "podlock.yaml")],
            cwd=REPOSITORY,
            stderr=stream,
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not (found := READY.search(log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service does not answer: {log.read_text()}")
            time.sleep(0.05)
        yield f"https://{found[1]}"
    finally:
        process.terminate()
        process.wait(10)


async def _issue_all(
    place: Path, url: str, requests: list[bytes], at_once: int
) -> tuple[float, list[float]]:
    """Seconds for all, and for each."""
    store = Store(place / "ca")
    token = issue_token(
        store.token_key(),
        TD,
        NodeCaller("n1", "bench"),
        now=utc_now(),
        ttl=timedelta(hours=1),
    )
    each: list[float] = []
    waiting = iter(requests)
    client = httpx.AsyncClient(
        base_url=url,
        verify=context_for(store.load().bundle.pem),
        headers={"authorization": f"Bearer {token}"},
        timeout=30,
        trust_env=False,
    )

    async def ask() -> None:
        for csr in waiting:
            began = time.perf_counter()
            answer = await client.post(
                "/v1/sign",
                json={"csr": csr.decode()},
                extensions={"sni_hostname": SERVICE_NAME},
            )
            each.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise SystemExit(f"{answer.status_code}: {answer.text}")

    async with client:
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(ask)
        return time.perf_counter() - began, each


def _peer(place: Path, requests: list[bytes]) -> list[float]:
    """Seconds for each CSR that `openssl x509 -req` signs."""
    state = Store(place / "ca").load()
    assert state.issuer_pem is not None
    assert state.issuer is not None
    key = Store(place / "ca").key_for(state.issuer)
    assert key is not None
    (place / "issuer.crt").write_bytes(state.issuer_pem)
    (place / "issuer.key").touch(0o600)
    (place / "issuer.key").write_bytes(key.pem)
    each = []
    for csr in requests:
        began = time.perf_counter()
        subprocess.run(
            [
                *("openssl", "x509", "-req", "-days", "1", "-copy_extensions", "copy"),
                *("-CA", str(place / "issuer.crt")),
                *("-CAkey", str(place / "issuer.key")),
            ],
            input=csr,
            capture_output=True,
            check=True,
        )
        each.append(time.perf_counter() - began)
    return each


def _print(took: tuple[float, list[float]], peer: list[float], at_once: int) -> None:
    seconds, each = took
    rate, openssl = len(each) / seconds, len(peer) / sum(peer)
    p50, p99 = (
        statistics.median(each) * 1000,
        statistics.quantiles(each, n=100)[98] * 1000,
    )
    sys.stdout.write(
        f"{len(each)} identities over HTTPS, {at_once} at once: "
        f"{rate:.0f} a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms\n"
        f"openssl x509 -req, one process a CSR, {len(peer)} of them: "
        f"{openssl:.0f} a second, p50 {statistics.median(peer) * 1000:.1f} ms\n"
        f"ratio of the rates: {rate / openssl:.2f}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
