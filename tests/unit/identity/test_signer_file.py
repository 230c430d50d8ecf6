"""Whoever reads issuers or anchors from a file says which file, and which in it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from agent.app.checks import _ask_service
from agent.app.remote import ask_state
from agent.errors import InputError
from agent.identity import operations
from agent.identity.authority import CaPair, create_issuer
from agent.identity.client import InvalidClientSettings
from agent.identity.federated import FederatedDomain
from agent.identity.federation import Federation
from agent.identity.issuer_files import IssuerFiles
from agent.identity.key import PrivateKey
from agent.identity.pem import CERTIFICATE, format_blocks
from agent.identity.signer_file import signers_in
from agent.identity.spiffe import TrustDomain
from agent.identity.state import AuthorityRefused
from agent.identity.statefile import InvalidState, parse_state
from agent.identity.store import InvalidKeystore, Store
from agent.kube.shared_state import SharedState
from tests.unit.identity.parts import (
    NOW,
    TD,
    anchor_at,
    authority_under,
    certificate,
    ders,
)
from tests.unit.kube.test_shared_state import ConfigMaps

ANCHOR = anchor_at()
GOOD = ANCHOR.certificate_pem
TORN = GOOD.replace(b"\n", b"\n!", 2)
NO_CA = format_blocks([certificate()], CERTIFICATE)


def _root(certificate_pem: bytes) -> dict[str, object]:
    return {"certificate": certificate_pem.decode(), "since": 1}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "signers.pem"


def test_an_error_names_the_file_and_the_certificate(file: Path) -> None:
    """A chain whose second certificate is no CA."""
    authority = authority_under(ANCHOR)
    file.write_bytes(authority.chain_pem + NO_CA)
    bare = operations._bare(TD, ders(GOOD)[0])
    text = rf"^{file}: certificate 2 of 2: certificate: a signing certificate is not"
    with pytest.raises(InvalidKeystore, match=text), signers_in(file) as chain_pem:
        bare.with_issuer(chain_pem, NOW)


def test_an_error_about_the_path_names_the_certificate(file: Path) -> None:
    """An intermediate that ends before its issuer does."""
    middle = create_issuer(TD, ANCHOR, now=NOW, serial=0xC, lifetime=NOW - NOW)
    issuer = create_issuer(
        TD, CaPair(middle.certificate_pem, middle.key), now=NOW, serial=0xD
    )
    file.write_bytes(issuer.certificate_pem + middle.certificate_pem)
    bare = operations._bare(TD, ders(GOOD)[0])
    text = rf"^{file}: certificate 2 of 2: issuer: pathlen 0"
    with pytest.raises(InvalidKeystore, match=text), signers_in(file) as chain_pem:
        bare.with_issuer(chain_pem, NOW)


def test_a_refusal_names_the_file(file: Path, tmp_path: Path) -> None:
    """The certificate is well formed, and its key is not here."""
    store = Store(tmp_path / "ca")
    operations.initialize_under(store, TD, GOOD)
    file.write_bytes(authority_under(ANCHOR).chain_pem)
    with (
        pytest.raises(AuthorityRefused, match=rf"^{file}: issuer: its key is not"),
        signers_in(file) as issuer_pem,
    ):
        operations.install_issuer(store, issuer_pem, NOW, NOW - NOW)


def test_a_file_is_named_once(file: Path, tmp_path: Path) -> None:
    """An authority that is broken is not the certificate's fault."""
    store = Store(tmp_path / "none")
    file.write_bytes(GOOD)
    with (
        pytest.raises(InvalidKeystore, match=f"^{store.directory}"),
        signers_in(file) as anchor_pem,
    ):
        operations.add_anchor(store, anchor_pem, NOW)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (TORN, "certificate 1: "),
        (GOOD + TORN, "certificate 2: "),
        (GOOD + b"# a comment\n" + GOOD + TORN, "certificate 3: "),
        (b"", ""),
    ],
)
async def test_anchors_of_the_identity_service(
    file: Path, content: bytes, where: str
) -> None:
    """`ca show --service` and `check --pre` say the same; so does a start."""
    await trio.Path(file).write_bytes(content)
    expected = f"{file}: trust anchors for the identity service: {where}"
    with pytest.raises(InvalidKeystore) as caught:
        await trio.to_thread.run_sync(ask_state, "https://127.0.0.1:1", file, file)
    assert str(caught.value).startswith(expected)
    config = SimpleNamespace(identity=SimpleNamespace(anchors=file, token=file))
    (finding,) = await _ask_service(config, "https://127.0.0.1:1")  # type: ignore[arg-type]
    assert finding.message.startswith(expected)


async def test_an_error_about_the_address_names_no_file(file: Path) -> None:
    """The anchors are good."""
    await trio.Path(file).write_bytes(GOOD)
    with pytest.raises(InvalidClientSettings, match=r"^identity service 'http://x'"):
        await trio.to_thread.run_sync(ask_state, "http://x", file, file)


async def test_anchors_that_are_missing(file: Path) -> None:
    config = SimpleNamespace(identity=SimpleNamespace(anchors=file, token=file))
    (finding,) = await _ask_service(config, "https://127.0.0.1:1")  # type: ignore[arg-type]
    assert finding.message == f"{file}: missing"


@pytest.mark.parametrize("content", [GOOD + NO_CA, b'{"keys": [1]}', GOOD + TORN])
async def test_a_federated_bundle(file: Path, content: bytes) -> None:
    """PEM and JSON; the position in it follows."""
    await trio.Path(file).write_bytes(content)
    federation = Federation(
        [FederatedDomain(TrustDomain("partner.example"), file=file)], lambda _: None
    )
    await federation.look()
    (standing,) = federation.report()
    assert (standing.problem or "").startswith(f"{file}: ")


async def test_the_anchor_beside_a_mounted_issuer(tmp_path: Path) -> None:
    """Replicas begin with it."""
    issuer = IssuerFiles(
        tmp_path / "tls.crt", GOOD, PrivateKey.generate(), GOOD + NO_CA
    )
    shared = SharedState(ConfigMaps(), Store(tmp_path / "ca"), "podlock/trust", TD)
    with pytest.raises((InputError, AuthorityRefused), match=f"^{tmp_path}/ca.crt: "):
        shared._begin(None, issuer)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"anchors": [_root(GOOD), _root(TORN)]}, "anchors, element 2"),
        ({"anchors": [_root(GOOD + NO_CA)]}, "anchors, element 1"),
        ({"issuer": NO_CA.decode()}, "issuer"),
        ({"issuer": "nonsense"}, "issuer"),
        ({"request": "nonsense"}, "request"),
    ],
)
def test_the_state_of_an_authority(
    tmp_path: Path, change: dict[str, object], field: str
) -> None:
    """A field, and the element of a list."""
    store = Store(tmp_path / "ca")
    operations.initialize(store, TD, NOW)
    document = json.loads(store.state_path.read_bytes()) | change
    with pytest.raises(InvalidState, match=f"^{field}: "):
        parse_state(json.dumps(document).encode())
