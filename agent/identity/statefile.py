"""
The file `authority.json`: an authority's state as JSON, for people too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Annotated, Final, Literal

import msgspec

from agent.errors import InputError
from agent.identity import pem
from agent.identity.bundle import Bundle
from agent.identity.issuer_path import check_issuer
from agent.identity.report import Moment
from agent.identity.spiffe import TrustDomain
from agent.identity.state import AuthorityState, Kind, Mark, Root
from agent.identity.trust import UNREADABLE, BundleDocument, Fingerprint

FORMAT: Final = 1


class InvalidState(InputError):
    """Bytes that are not an authority's state."""


class _RootDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    certificate: str
    since: Annotated[int, msgspec.Meta(ge=1)]
    added: Moment | None = None


class _MarkDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fingerprint: Fingerprint
    kind: Kind
    subject: str
    not_after: Moment
    at: Moment

    @classmethod
    def of(cls, mark: Mark) -> _MarkDocument:
        return cls(mark.fingerprint, mark.kind, mark.subject, mark.not_after, mark.at)

    def mark(self) -> Mark:
        return Mark(self.fingerprint, self.kind, self.subject, self.not_after, self.at)


class _StateDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    trust_domain: str
    anchors: list[_RootDocument]
    issuer: str | None
    retiring: list[_MarkDocument]
    tainted: list[_MarkDocument]
    request: str | None
    federated: list[BundleDocument]


def format_state(state: AuthorityState) -> bytes:
    """The file `authority.json`, for people too."""
    document = _StateDocument(
        format=FORMAT,
        version=state.version,
        trust_domain=str(state.trust_domain),
        anchors=[
            _RootDocument(_pem(root.anchor.der), root.since, root.added)
            for root in state.roots
        ],
        issuer=state.issuer_pem.decode() if state.issuer_pem else None,
        retiring=[_MarkDocument.of(mark) for mark in state.retiring],
        tainted=[_MarkDocument.of(mark) for mark in state.tainted],
        request=state.request_pem.decode() if state.request_pem else None,
        federated=[BundleDocument.of(bundle) for bundle in state.federated],
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def parse_state(content: bytes) -> AuthorityState:
    """Read `authority.json`. Raises: InvalidState."""
    try:
        document = msgspec.json.decode(content, type=_StateDocument)
        domain = TrustDomain(document.trust_domain)
        state = AuthorityState(
            trust_domain=domain,
            version=document.version,
            roots=tuple(_roots(document.anchors, domain)),
            issuer_pem=document.issuer.encode() if document.issuer else None,
            retiring=tuple(each.mark() for each in document.retiring),
            tainted=tuple(each.mark() for each in document.tainted),
            request_pem=document.request.encode() if document.request else None,
            federated=tuple(each.parsed() for each in document.federated),
        )
        _ = state.bundle  # at least one anchor
        if state.request_pem is not None:
            with _field("request"):
                _ = state.request_key
        if state.issuer_pem is not None:
            with _field("issuer"):
                check_issuer(state.bundle, pem.parse(state.issuer_pem, pem.CERTIFICATE))
    except (*UNREADABLE, InputError, ValueError) as error:
        raise InvalidState(str(error)) from error
    return state


def _roots(documents: Iterable[_RootDocument], domain: TrustDomain) -> Iterator[Root]:
    for number, document in enumerate(documents, 1):
        with _field(f"anchors, element {number}"):
            anchors = Bundle.parse(domain, document.certificate.encode()).anchors
            if len(anchors) != 1:
                raise InvalidState(f"expected one certificate, found {len(anchors)}")
        yield Root(anchors[0], document.since, document.added)


@contextlib.contextmanager
def _field(name: str) -> Iterator[None]:
    try:
        yield
    except (InputError, ValueError) as error:
        text = str(error).removeprefix(f"{name}: ")
        raise InvalidState(f"{name}: {text}") from error


def _pem(der: bytes) -> str:
    return pem.format_blocks([der], pem.CERTIFICATE).decode()
