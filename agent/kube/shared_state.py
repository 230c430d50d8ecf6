"""
An authority's state in a ConfigMap, so that replicas of the identity service agree.

    authority.json   the state, without keys (agent.identity.statefile)
    ca.crt           the anchors as PEM, for whoever mounts them

Nothing in it is secret, and who may write it decides whom the mesh trusts. Written
only over the version that was read (`resourceVersion`), looked at every two seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import trio

from agent.errors import InputError, PodlockError
from agent.identity.issuer_files import ANCHORS, IssuerFiles
from agent.identity.operations import initialize_under
from agent.identity.sharing import Step, next_step
from agent.identity.signer_file import naming
from agent.identity.spiffe import TrustDomain
from agent.identity.state import AuthorityState
from agent.identity.statefile import InvalidState, format_state, parse_state
from agent.identity.store import BUNDLE, STATE, InvalidKeystore, Store
from agent.kube.client import ApiFailed, Query
from agent.kube.failure import FailureKind
from agent.log import logger

log = logger()

LOOK_SECONDS: Final = 2.0
# etcd takes 1.5 MiB, and a state is some kB for each anchor.
MAX_BYTES: Final = 2 << 20

Tell = Callable[[str, str, str], None]
"""What happened, to what, in a sentence (see agent.identity.following)."""


class InvalidSharedState(InputError):
    """A ConfigMap that is no state of this authority."""


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str


class _ConfigMap(msgspec.Struct, frozen=True):
    metadata: _Meta
    data: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Copy:
    """The shared state as it was read; `revision` is the ConfigMap's."""

    state: AuthorityState
    revision: str


def config_map(
    state: AuthorityState, namespace: str, name: str, revision: str | None
) -> bytes:
    """The ConfigMap; a `revision` makes writing it fail over any other."""
    metadata = {"namespace": namespace, "name": name}
    if revision is not None:
        metadata["resourceVersion"] = revision
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata,
            "data": {
                STATE: format_state(state).decode(),
                BUNDLE: state.bundle.pem.decode(),
            },
        }
    )


def parse_config_map(body: bytes, expected: TrustDomain) -> Copy:
    """Raises: InvalidSharedState."""
    try:
        found = msgspec.json.decode(body, type=_ConfigMap)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidSharedState(f"the API server's answer: {error}") from error
    if STATE not in found.data:
        raise InvalidSharedState(f"data: expected {STATE}; delete it to begin anew")
    try:
        state = parse_state(found.data[STATE].encode())
    except InvalidState as error:
        raise InvalidSharedState(f"data[{STATE}]: {error}") from error
    if state.trust_domain != expected:
        text = f"is for trust domain {state.trust_domain}, expected {expected}"
        raise InvalidSharedState(f"data[{STATE}]: {text}")
    return Copy(state, found.metadata.resource_version)


class Asked(Protocol):
    """What is asked of a client."""

    async def get(self, path: str, query: Query = (), limit: int = ...) -> bytes:
        """Raises: ApiFailed."""

    async def send(self, method: str, path: str, body: bytes, kind: str = ...) -> bytes:
        """Raises: ApiFailed."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """Keeps a directory and a ConfigMap (`namespace/name`) the same."""

    api: Asked
    store: Store
    name: str
    trust_domain: TrustDomain

    async def join(self, issuer: IssuerFiles) -> None:
        """
        Before the authority starts: take what is shared, or begin it.

        The first replica of all trusts the mounted ca.crt. One that has been here
        before starts without the API server, by what it had. Raises: ApiFailed,
        InvalidSharedState, InvalidKeystore; InvalidBundle for what is no anchor.
        """
        if not self.store.exists:
            copy = await self._read()
            await trio.to_thread.run_sync(self._begin, copy, issuer)
        try:
            await self.agree()
        except (ApiFailed, InvalidSharedState) as error:
            log.warning("state not shared", config_map=self.name, reason=str(error))

    async def run(self, tell: Tell) -> None:
        """Agree again and again, until cancelled; what fails is told once."""
        told: str | None = None
        while True:
            await trio.sleep(LOOK_SECONDS)
            try:
                await self.agree()
                problem = None
            except PodlockError as error:
                problem = str(error)
            if problem is not None and problem != told:
                log.warning("state not shared", config_map=self.name, reason=problem)
                tell("authority-not-shared", self.name, problem)
            told = problem

    async def agree(self) -> Step:
        """One step. Raises: ApiFailed, InvalidSharedState, InvalidKeystore."""
        copy = await self._read()
        ours = await trio.to_thread.run_sync(self.store.load)
        step = next_step(ours, copy.state if copy else None)
        if step is Step.PUBLISH:
            await self._publish(ours, copy)
        elif step is Step.TAKE:
            assert copy is not None
            await trio.to_thread.run_sync(self._take, ours, copy.state)
            log.info("shared state taken", version=copy.state.version)
        return step

    def _begin(self, copy: Copy | None, issuer: IssuerFiles) -> None:
        if copy is not None:
            self.store.create(copy.state, [])
            return
        if issuer.anchors_pem is None:
            raise InvalidKeystore(
                "authority.issuer: no ca.crt is there, and no state is shared yet: "
                "expected the anchor of the issuer"
            )
        with naming(issuer.path.with_name(ANCHORS), issuer.anchors_pem):
            initialize_under(self.store, self.trust_domain, issuer.anchors_pem)

    def _take(self, seen: AuthorityState, state: AuthorityState) -> None:
        with self.store.changing() as change:
            # What changed since it was read is compared anew the next time.
            if change.state == seen:
                change.commit(state)

    @property
    def _home(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/configmaps"

    @property
    def _namespace(self) -> str:
        return self.name.partition("/")[0]

    @property
    def _own_name(self) -> str:
        return self.name.partition("/")[2]

    async def _read(self) -> Copy | None:
        try:
            body = await self.api.get(f"{self._home}/{self._own_name}", (), MAX_BYTES)
        except ApiFailed as error:
            if error.failure.kind is FailureKind.ABSENT:
                return None
            raise
        return parse_config_map(body, self.trust_domain)

    async def _publish(self, state: AuthorityState, copy: Copy | None) -> None:
        revision = copy.revision if copy else None
        body = config_map(state, self._namespace, self._own_name, revision)
        try:
            if copy is None:
                await self.api.send("POST", self._home, body)
            else:
                await self.api.send("PUT", f"{self._home}/{self._own_name}", body)
        except ApiFailed as error:
            if error.failure.kind is not FailureKind.CONFLICT:
                raise
            # Another replica was quicker: the next step takes what it wrote.
            log.info("shared state changed meanwhile", config_map=self.name)
        else:
            log.info("state shared", config_map=self.name, version=state.version)
