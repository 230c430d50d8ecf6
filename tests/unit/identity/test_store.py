"""The authority's directory is made once, whole, and readable by its owner only."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest

from agent.identity.authority import Authority
from agent.identity.operations import initialize, rotate_issuer
from agent.identity.store import BUNDLE, JOIN_KEY, KEYS, STATE, InvalidKeystore, Store
from tests.unit.identity.parts import API, NOW, TD, credential_for


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "var" / "ca")
    initialize(made, TD, NOW)
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def authority_of(store: Store) -> Authority:
    state = store.load()
    assert state.issuer is not None
    assert state.issuer_pem is not None
    key = store.key_for(state.issuer)
    assert key is not None
    return Authority.assemble(state.bundle, state.issuer_pem, key, now=NOW)


def test_what_is_made_can_sign(store: Store) -> None:
    """Create, load, issue: the chain ends in the new anchor."""
    authority = authority_of(store)
    chain = credential_for(authority, API).chain_der
    assert authority.bundle.anchor_of(chain) is not None
    assert len(store.token_key().secret) == 32


def test_keeps_others_out(store: Store) -> None:
    """Keys 0600, directories 0700, and nothing else is left behind."""
    assert mode(store.directory) == mode(store.directory / KEYS) == 0o700
    names = {path.name for path in store.directory.iterdir()}
    assert names == {STATE, KEYS, JOIN_KEY, BUNDLE, "lock"}
    keys = list((store.directory / KEYS).iterdir())
    assert len(keys) == 2
    assert {mode(path) for path in (*keys, store.directory / JOIN_KEY)} == {0o600}


def test_takes_an_empty_directory_and_closes_it(tmp_path: Path) -> None:
    """A directory that was there (a mounted volume) loses its other readers."""
    tmp_path.chmod(0o755)
    initialize(Store(tmp_path), TD, NOW)
    assert mode(tmp_path) == 0o700


def test_never_overwrites(store: Store) -> None:
    """A second one would make every certificate worthless."""
    before = (store.directory / STATE).read_bytes()
    with pytest.raises(InvalidKeystore, match="never overwritten"):
        initialize(store, TD, NOW)
    assert (store.directory / STATE).read_bytes() == before


def test_has_no_key_in_its_state(store: Store) -> None:
    """Who reads authority.json can sign nothing."""
    assert b"PRIVATE" not in (store.directory / STATE).read_bytes()


@pytest.mark.parametrize("others", [0o640, 0o604, 0o610])
def test_refuses_a_key_that_others_reach(store: Store, others: int) -> None:
    """Such a key counts as known to them."""
    for path in (*(store.directory / KEYS).iterdir(), store.directory / JOIN_KEY):
        path.chmod(others)
    with pytest.raises(InvalidKeystore, match=f"key: mode {others:04o}"):
        authority_of(store)
    with pytest.raises(InvalidKeystore, match=rf"token\.key: mode {others:04o}"):
        store.token_key()


def changed(store: Store, **fields: object) -> bytes:
    document = json.loads((store.directory / STATE).read_bytes())
    return json.dumps({**document, **fields}).encode()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "format"),
        ({"version": 0}, "version"),
        ({"anchors": []}, "no trust anchor"),
        ({"anchors": [{"certificate": "noise", "since": 1}]}, "PEM line 1"),
        ({"issuer": "noise"}, "PEM line 1"),
        ({"trust_domain": "other"}, "is for trust domain cluster.local"),
        ({"request": "noise"}, "."),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_names_what_is_broken(
    store: Store, fields: dict[str, object], message: str
) -> None:
    """The message begins with the file; nothing is guessed."""
    (store.directory / STATE).write_bytes(changed(store, **fields))
    with pytest.raises(InvalidKeystore, match=rf"authority\.json: .*{message}"):
        store.load()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff" * 100])
@pytest.mark.parametrize("name", [STATE, JOIN_KEY])
def test_names_a_torn_file(store: Store, name: str, content: bytes) -> None:
    """A corrupted directory is told, and by its file."""
    (store.directory / name).write_bytes(content)
    read = {STATE: store.load, JOIN_KEY: store.token_key}[name]
    with pytest.raises(InvalidKeystore, match=f"{name}: "):
        read()


def test_refuses_parts_of_two_authorities(store: Store, tmp_path: Path) -> None:
    """An issuer under no anchor of the file's is told at once."""
    other = Store(tmp_path / "other")
    initialize(other, TD, NOW)
    issuer = json.loads((other.directory / STATE).read_bytes())["issuer"]
    (store.directory / STATE).write_bytes(changed(store, issuer=issuer))
    with pytest.raises(InvalidKeystore, match="not signed by a trust anchor"):
        store.load()


def test_tells_what_the_system_says(tmp_path: Path) -> None:
    """A directory that cannot be made is an error that names it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidKeystore, match="file/ca"):
        initialize(Store(tmp_path / "file" / "ca"), TD, NOW)


def test_one_changes_at_a_time(store: Store) -> None:
    """Two operators at once: one waits for the other, and no change is lost."""
    with store.changing():
        second = threading.Thread(target=rotate_issuer, args=(store, NOW))
        second.start()
        second.join(0.2)
        assert second.is_alive()
        assert store.load().version == 2
    second.join(10)
    assert store.load().version == 3


def test_tidies_up_after_a_cut(store: Store) -> None:
    """Leftovers and unused keys go; ca.crt is what authority.json says."""
    keys = store.directory / KEYS
    before = set(keys.iterdir())
    (keys / "0123.key").write_bytes(b"")
    (store.directory / ".new-0123").write_bytes(b"half")
    (store.directory / BUNDLE).write_bytes(b"older")
    store.tidy()
    assert set(keys.iterdir()) == before
    assert not list(store.directory.glob(".new-*"))
    assert (store.directory / BUNDLE).read_bytes() == store.load().bundle.pem
