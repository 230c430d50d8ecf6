"""The authority's directory is made once, whole, and readable by its owner only."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest

from agent.identity.keystore import NAMES, InvalidKeystore, create, load, load_token_key
from agent.identity.spiffe import TrustDomain
from tests.unit.identity.parts import API, NOW, TD, anchor_at, credential_for


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "var" / "ca"
    create(made, TD, now=NOW)
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_made_can_sign(directory: Path) -> None:
    """Create, load, issue: the chain ends in the new anchor."""
    authority, key = load(directory, TD, now=NOW)
    chain = credential_for(authority, API).chain_der

    assert authority.bundle.anchor_of(chain) is not None
    assert load_token_key(directory) == key


def test_keeps_others_out(directory: Path) -> None:
    """Keys 0600, directory 0700, and nothing else is left behind."""
    assert mode(directory) == 0o700
    assert {path.name for path in directory.iterdir()} == set(NAMES)
    for path in directory.glob("*.key"):
        assert mode(path) == 0o600


def test_takes_an_empty_directory_and_closes_it(tmp_path: Path) -> None:
    """A directory that was there (a mounted volume) loses its other readers."""
    tmp_path.chmod(0o755)
    create(tmp_path, TD, now=NOW)

    assert mode(tmp_path) == 0o700


@pytest.mark.parametrize("name", NAMES)
def test_never_overwrites(tmp_path: Path, name: str) -> None:
    """One file of an authority, even a dangling link, stops a new one."""
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(InvalidKeystore, match=f"has {name}"):
        create(tmp_path, TD, now=NOW)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"anchor.key", "anchor.crt"}))
def test_names_a_missing_file(directory: Path, name: str) -> None:
    """The message says which."""
    (directory / name).unlink()
    with pytest.raises(InvalidKeystore, match=f"{name}: missing"):
        load(directory, TD, now=NOW)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".key")])
@pytest.mark.parametrize("others", [0o640, 0o604, 0o610])
def test_refuses_a_key_that_others_reach(
    directory: Path, name: str, others: int
) -> None:
    """Such a key counts as known to them."""
    (directory / name).chmod(others)
    with pytest.raises(InvalidKeystore, match=f"{name}: mode {others:04o}"):
        load(directory, TD, now=NOW)


def test_the_anchor_key_may_be_elsewhere(directory: Path) -> None:
    """Only the issuer signs from day to day."""
    (directory / "anchor.key").unlink()
    (directory / "anchor.crt").unlink()
    load(directory, TD, now=NOW)


@pytest.mark.parametrize("name", ["ca.crt", "issuer.crt", "issuer.key", "token.key"])
@pytest.mark.parametrize("content", [b"", b"noise", b"\xff" * 100])
def test_names_a_broken_file(directory: Path, name: str, content: bytes) -> None:
    """Whatever is wrong inside, the message begins with the file."""
    (directory / name).write_bytes(content)
    with pytest.raises(InvalidKeystore, match=f"ca/{name}: "):
        load(directory, TD, now=NOW)


def test_refuses_a_file_without_end(directory: Path) -> None:
    """A huge file is not read whole."""
    (directory / "ca.crt").write_bytes(b"\n" * (1024 * 1024 + 1))
    with pytest.raises(InvalidKeystore, match=r"ca\.crt: more than"):
        load(directory, TD, now=NOW)


def test_refuses_parts_of_two_authorities(directory: Path) -> None:
    """An issuer under another anchor than the bundle's is told at the issuer."""
    (directory / "ca.crt").write_bytes(anchor_at(serial=9).certificate_pem)
    with pytest.raises(InvalidKeystore, match=r"issuer\.crt: .*not signed"):
        load(directory, TD, now=NOW)


def test_refuses_another_realm_and_another_time(directory: Path) -> None:
    """The directory of another trust domain, or of a year ago, is not used."""
    with pytest.raises(InvalidKeystore, match=r"trust domain cluster\.local"):
        load(directory, TrustDomain("other"), now=NOW)
    with pytest.raises(InvalidKeystore, match=r"issuer\.crt: .*expired"):
        load(directory, TD, now=NOW + timedelta(days=366))


def test_tells_what_the_system_says(tmp_path: Path) -> None:
    """A directory that cannot be made is an error that names it."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidKeystore, match="file/ca"):
        create(tmp_path / "file" / "ca", TD, now=NOW)
