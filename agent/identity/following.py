"""
A running authority follows its directory, and the files that its issuer comes from.

Looked at every second, as manifests are (inotify says little about a mounted Secret).
What is wrong with a change is told; what was in force stays so.

Where the state is shared by replicas, each has its issuer's files mounted, and the
kubelets bring new ones to each in their own time, within two minutes or so. One that
has the older files goes on signing by them, and tells the trust that is in force.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import trio

from agent.errors import PodlockError
from agent.identity import certificate, pem
from agent.identity.authority import Authority
from agent.identity.clock import Clock, utc_now
from agent.identity.issuance import Issuance
from agent.identity.issuer_files import IssuerFiles, read_issuer_files, stamp
from agent.identity.key import PrivateKey
from agent.identity.operations import adopt_issuer
from agent.identity.signer_file import naming
from agent.identity.spiffe import TrustDomain
from agent.identity.state import AuthorityState
from agent.identity.store import InvalidKeystore, Store
from agent.log import logger

POLL_SECONDS: Final = 1.0

Tell = Callable[[str, str, str], None]
"""What happened, to what, in a sentence: an event for whoever operates this."""


@dataclass(slots=True)
class Source:
    """Where an authority lies, and what of it is in force."""

    store: Store
    lifetime: timedelta
    issuer_directory: Path | None = None
    shared: bool = False
    """Whether replicas change the state too (see agent.kube.shared_state)."""
    clock: Clock = utc_now
    state: AuthorityState = field(init=False)
    authority: Authority | None = field(init=False, default=None)
    problem: PodlockError | None = field(init=False, default=None)
    """Why what lies there is not what is in force."""
    _files: IssuerFiles | None = field(init=False, default=None)
    _stamps: tuple[object, object] | None = field(init=False, default=None)
    _lags: bool = field(init=False, default=False)

    def open(self) -> None:
        """
        Read what is there, finishing what a cut left unfinished. Blocks.

        A mounted issuer that cannot sign is a `problem` where another is here to go
        on with. Raises: PodlockError naming the file.
        """
        self.store.tidy()
        self.state = self.store.load()
        self._stamps = self._look()
        try:
            self._adopt_files()
        except PodlockError as error:
            self.problem, self._stamps = error, None
            if not self.shared and (
                self.state.issuer is None
                or self.store.key_for(self.state.issuer) is None
            ):
                raise
        self._take(self.state)

    def require_trust_domain(self, expected: TrustDomain) -> None:
        """Pass an authority of our trust domain. Raises: InvalidKeystore."""
        if self.state.trust_domain != expected:
            raise InvalidKeystore(
                f"{self.store.state_path}: is for trust domain "
                f"{self.state.trust_domain}, expected {expected}"
            )

    def poll(self) -> bool:
        """
        Look again; `problem` has what is wrong. Blocks.

        What was refused is looked at again each time: what stood in its way (a node
        that does not trust its anchor yet) may be gone. Returns: whether `state` or
        `authority` changed.
        """
        stamps = self._look()
        if stamps == self._stamps:
            return False
        before = (self.state, self.authority)
        try:
            self._reload()
            self._stamps, self.problem = stamps, self._lag()
        except PodlockError as error:
            self._stamps, self.problem = None, error
        return (self.state, self.authority) != before

    def _reload(self) -> None:
        state = self.store.load()
        if state != self.state:
            self._take(state)
        if self._adopt_files():
            self._take(self.state)

    def _take(self, state: AuthorityState) -> None:
        """Put it in force; a shared one also where we cannot sign by it."""
        try:
            self.authority = self._assemble(state)
        except PodlockError as error:
            if not self.shared:
                raise
            self.authority, self.problem = None, error
        self.state = state

    def _adopt_files(self) -> bool:
        """Whether an issuer was mounted that is not the one we had of there."""
        if self.issuer_directory is None:
            return False
        files = read_issuer_files(self.issuer_directory)
        if files == self._files:
            return False
        if not self._is_late(files):
            with naming(files.path, files.chain_pem):
                self.state = adopt_issuer(
                    self.store, files, self.clock(), self.lifetime
                )
        self._files = files
        return True

    def _is_late(self, files: IssuerFiles) -> bool:
        """Whether, at our start, another replica has a newer issuer already."""
        if not self.shared or self._files is not None:
            return False  # files that change under us are meant
        name = certificate.fingerprint(files.der)
        return any(mark.fingerprint == name for mark in self.state.retiring)

    def _assemble(self, state: AuthorityState) -> Authority | None:
        if state.issuer is None or state.issuer_pem is None:
            return None
        chain_pem, key = self._signer(state, state.issuer, state.issuer_pem)
        try:
            return Authority.assemble(
                state.bundle,
                chain_pem,
                key,
                lifetime=self.lifetime,
            )
        except PodlockError as error:
            raise InvalidKeystore(f"{self.store.state_path}: {error}") from error

    def _signer(
        self, state: AuthorityState, issuer: bytes, chain_pem: bytes
    ) -> tuple[bytes, PrivateKey]:
        """Chain and key of the issuer in force, or else of the one mounted here."""
        self._lags = False
        if self._files is not None and self._files.der == issuer:
            return chain_pem, self._files.key
        key = self.store.key_for(issuer)
        if key is not None:
            return chain_pem, key
        if not self.shared or self._files is None:
            raise InvalidKeystore(
                f"{self.store.directory}: the issuer's key is not here; expected its "
                "files mounted and named by authority.issuer"
            )
        self._lags = True
        for der in pem.parse(self._files.chain_pem, pem.CERTIFICATE):
            name = certificate.fingerprint(der)
            if state.is_tainted(name):
                raise InvalidKeystore(f"{self.issuer_directory}: {name} is tainted")
        return self._files.chain_pem, self._files.key

    def _lag(self) -> PodlockError | None:
        if not self._lags:
            return None
        until = "until the kubelet brings the issuer that is in force"
        does = "signs by an older issuer" if self.authority else "signs nothing"
        return InvalidKeystore(f"{self.issuer_directory}: this replica {does} {until}")

    def _look(self) -> tuple[object, object]:
        info = None
        path = self.store.state_path
        if path.exists():
            found = path.stat()
            info = (found.st_ino, found.st_size, found.st_mtime_ns)
        directory = self.issuer_directory
        return info, stamp(directory) if directory is not None else None


async def follow(
    source: Source, issuance: Issuance, tell: Tell, seconds: float = POLL_SECONDS
) -> None:
    """Keep `issuance` equal to what lies in the directory, until cancelled."""
    log = logger(part="identity")
    directory = str(source.store.directory)
    told: str | None = None
    while True:
        changed = await trio.to_thread.run_sync(source.poll)
        if changed:
            version = source.state.version
            issuance.replace(source.authority, source.state.trust)
            log.info("authority changed", directory=directory, version=version)
            tell("authority", directory, f"version {version} is in force")
        problem = str(source.problem) if source.problem else None
        issuance.problems = (problem,) if problem else ()
        if problem is not None and problem != told:
            issuance.counts["refused:authority-change"] += 1
            log.error("authority change refused", directory=directory, error=problem)
            text = f"{problem}; what was in force stays so"
            tell("authority-refused", directory, text)
        told = problem
        await trio.sleep(seconds)
