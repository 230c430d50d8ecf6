"""
The authority's directory.

    authority.json   what the authority is, without keys; replaced by one rename
    keys/NAME.key    private keys, by the SHA-256 of the public key; there before
                     authority.json needs them, swept after it does not
    token.key        the secret that signs join tokens, hex
    ca.crt           the anchors as PEM, for people to copy; made from authority.json
    nodes/           what each node reported last
    audit.jsonl      every certificate that was issued
    lock             held by whoever changes any of these but the last two

Keys have mode 0600 and the directory 0700. A key that others can read is refused,
since by then it must count as known to them. Every call here may block.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from agent.errors import InputError
from agent.identity import atomic, certificate
from agent.identity.key import InvalidKey, PrivateKey
from agent.identity.state import AuthorityState
from agent.identity.statefile import InvalidState, format_state, parse_state
from agent.identity.token import MIN_KEY_BYTES, TokenKey

STATE: Final = "authority.json"
KEYS: Final = "keys"
JOIN_KEY: Final = "token.key"
BUNDLE: Final = "ca.crt"
NODES: Final = "nodes"
AUDIT_LOG: Final = "audit.jsonl"
_LOCK: Final = "lock"
_OURS: Final = (STATE, KEYS, JOIN_KEY, BUNDLE)

_DIRECTORY_MODE: Final = 0o700
_PUBLIC_MODE: Final = 0o644
_SECRET_MODE: Final = 0o600
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MAX_FILE_BYTES: Final = 8 * 1024 * 1024
_LOCK_SECONDS: Final = 10.0


class InvalidKeystore(InputError):
    """A directory that does not hold a usable authority; names the file."""


@dataclass(frozen=True, slots=True)
class Store:
    """One authority's directory. Raises: InvalidKeystore for what is wrong with it."""

    directory: Path
    disk: atomic.Disk = field(default_factory=atomic.Disk, repr=False, compare=False)

    @property
    def state_path(self) -> Path:
        """What changes when the authority does."""
        return self.directory / STATE

    @property
    def exists(self) -> bool:
        """Whether an authority is there, however broken."""
        return any(os.path.lexists(self.directory / name) for name in _OURS)

    def create(self, state: AuthorityState, keys: Iterable[PrivateKey]) -> None:
        """Begin with this state, in a directory that may exist without an authority."""
        with _naming(self.directory):
            self.directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            # A directory that was there keeps its contents and loses its readers.
            self.directory.chmod(_DIRECTORY_MODE)
            with self._locked():
                if self.state_path.exists():
                    raise InvalidKeystore(
                        f"{self.state_path}: exists; an authority is never overwritten"
                    )
                secret = secrets.token_hex(MIN_KEY_BYTES).encode() + b"\n"
                self._write(JOIN_KEY, secret, _SECRET_MODE)
                self._commit(state, keys)

    def load(self) -> AuthorityState:
        """The state in force. Any number of processes may read while one changes."""
        try:
            return parse_state(read_file(self.state_path))
        except InvalidState as error:
            raise InvalidKeystore(f"{self.state_path}: {error}") from error

    @contextlib.contextmanager
    def changing(self) -> Iterator[Change]:
        """Nobody else changes the authority meanwhile; waits for up to 10 s."""
        with _naming(self.directory), self._locked():
            yield Change(self, self.load())

    def key_for(self, certificate_der: bytes) -> PrivateKey | None:
        """
        The private key of a certificate; None where it is kept elsewhere.

        Raises: InvalidKeystore, InvalidCertificate.
        """
        path = self.directory / KEYS / _key_name(certificate_der)
        if not path.exists():
            return None
        try:
            return PrivateKey.parse(read_secret(path, _OTHERS))
        except InvalidKey as error:
            raise InvalidKeystore(f"{path}: {error}") from error

    def token_key(self) -> TokenKey:
        """The secret for join tokens."""
        path = self.directory / JOIN_KEY
        text = read_secret(path, _OTHERS).decode("ascii", "replace")
        try:
            return TokenKey(bytes.fromhex(text))
        except ValueError as error:
            # Without `error`: its message and ours must not quote a secret.
            raise InvalidKeystore(f"{path}: expected hexadecimal digits") from error
        except InputError as error:
            raise InvalidKeystore(f"{path}: {error}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self.directory / _LOCK
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, _SECRET_MODE)
        try:
            _lock(descriptor, path)
            yield
        finally:
            os.close(descriptor)

    def tidy(self) -> None:
        """Finish what a cut left unfinished: leftovers, unused keys, `ca.crt`."""
        with self.changing() as change:
            self._sweep_leftovers()
            self._sweep_keys(change.state)
            self._write_bundle(change.state)

    def _commit(self, state: AuthorityState, keys: Iterable[PrivateKey]) -> None:
        """First what may be there unused, then the one rename, then the sweep."""
        self._sweep_leftovers()
        for key in keys:
            name = f"{KEYS}/{_name_of(key.load().public_key())}"
            self._write(name, key.pem, _SECRET_MODE)
        self._write_bundle(state)
        self._write(STATE, format_state(state), _PUBLIC_MODE)
        with contextlib.suppress(OSError):  # what stays is swept the next time
            self._sweep_keys(state)

    def _write_bundle(self, state: AuthorityState) -> None:
        path = self.directory / BUNDLE
        if not path.exists() or path.read_bytes() != state.bundle.pem:
            self._write(BUNDLE, state.bundle.pem, _PUBLIC_MODE)

    def _write(self, name: str, content: bytes, mode: int) -> None:
        path = self.directory / name
        path.parent.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
        atomic.write(path, content, mode, self.disk)

    def _sweep_leftovers(self) -> None:
        for place in (self.directory, self.directory / KEYS):
            for path in place.glob(f"{atomic.LEFTOVER_PREFIX}*"):
                self.disk.remove(path)

    def _sweep_keys(self, state: AuthorityState) -> None:
        wanted = {
            _key_name(root.anchor.der)
            for root in state.roots
            if not state.is_tainted(root.anchor.fingerprint)
        }
        wanted |= {_key_name(der) for der in (state.issuer,) if der is not None}
        if state.request_pem is not None:
            wanted.add(_name_of(state.request_key))
        for path in (self.directory / KEYS).glob("*.key"):
            if path.name not in wanted:
                self.disk.remove(path)


@dataclass(slots=True)
class Change:
    """The authority while nobody else can change it."""

    store: Store
    state: AuthorityState

    def commit(self, state: AuthorityState, *keys: PrivateKey) -> None:
        """
        Put `state` in force. Raises: InvalidKeystore, and then the old one is.
        """
        try:
            with _naming(self.store.directory):
                self.store._commit(state, keys)
        except InvalidKeystore:
            with contextlib.suppress(OSError):
                self.store._write_bundle(self.state)
            raise
        self.state = state


def read_file(path: Path) -> bytes:
    """A file of at most some MiB. Raises: InvalidKeystore."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidKeystore(f"{path}: missing") from error
    except OSError as error:
        raise InvalidKeystore(f"{path}: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise InvalidKeystore(f"{path}: more than {_MAX_FILE_BYTES} bytes")
    return content


def read_secret(path: Path, forbidden: int) -> bytes:
    """As `read_file`, unless one of the mode bits `forbidden` lets others at it."""
    try:
        # Follows links: a mounted Secret is one.
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError as error:
        raise InvalidKeystore(f"{path}: missing") from error
    except OSError as error:
        raise InvalidKeystore(f"{path}: {error.strerror}") from error
    if mode & forbidden:
        raise InvalidKeystore(
            f"{path}: mode {mode:04o} lets others at it, expected 0600 or 0400"
        )
    return read_file(path)


@contextlib.contextmanager
def _naming(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or directory
        raise InvalidKeystore(f"{place}: {error.strerror or error}") from error


def _lock(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                message = f"{path}: another process is changing the authority"
                raise InvalidKeystore(message) from error
            time.sleep(0.05)
        else:
            return


def _key_name(certificate_der: bytes) -> str:
    return _name_of(certificate.parse(certificate_der).public_key())


def _name_of(public_key: object) -> str:
    encoded = public_key.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"{hashlib.sha256(encoded).hexdigest()[:32]}.key"
