"""
What an operator does to an authority: each is one change, whole or not at all.

A running authority on the same directory notices and follows (`following`). These
block, and are for commands; what they decide is in `state`, what stands in their way
is in `dependence`; `silence` is how long a node may be silent before it counts as gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from agent.identity import certificate, pem
from agent.identity.authority import (
    ANCHOR_LIFETIME,
    ISSUER_LIFETIME,
    Authority,
    CaPair,
    create_anchor,
    create_issuer,
    request_issuer,
)
from agent.identity.bundle import Anchor, Bundle
from agent.identity.dependence import Need, Why, lacking, relying
from agent.identity.issuer_files import IssuerFiles
from agent.identity.issuer_path import InvalidAuthority
from agent.identity.key import PrivateKey
from agent.identity.nodes import NodeRecords
from agent.identity.probe import require_acceptable
from agent.identity.spiffe import TrustDomain
from agent.identity.spiffe_bundle import DEFAULT_REFRESH
from agent.identity.state import (
    AuthorityRefused,
    AuthorityState,
    Mark,
    Root,
    mark_issuer,
)
from agent.identity.store import Change, Store

# Our bundle asks to be read again after DEFAULT_REFRESH; one failure is allowed for.
FEDERATED_WAIT: Final = 2 * DEFAULT_REFRESH


class StillNeeded(AuthorityRefused):
    """Somebody would lose connections; `needs` says who, `--force` does it anyway."""

    def __init__(self, what: str, needs: Sequence[Need]) -> None:
        lines = "".join(f"\n  {need}" for need in needs)
        super().__init__(f"{what}:{lines}")
        self.needs = tuple(needs)


def initialize(store: Store, trust_domain: TrustDomain, now: datetime) -> None:
    """A new authority with a new anchor, whose key is here, and an issuer."""
    anchor = create_anchor(trust_domain, now=now, serial=_serial())
    bare = _bare(trust_domain, _der(anchor))
    issuer = create_issuer(trust_domain, anchor, now=now, serial=_serial())
    state = bare.with_issuer(issuer.certificate_pem, now)
    store.create(state, [anchor.key, issuer.key])


def initialize_under(
    store: Store, trust_domain: TrustDomain, anchor_pem: bytes
) -> None:
    """
    A new authority under an anchor whose key is elsewhere. It has no issuer yet.

    Raises: InvalidBundle, InvalidPem; AuthorityRefused for more than one.
    """
    store.create(_bare(trust_domain, _single(anchor_pem)), [])


def add_anchor(
    store: Store,
    anchor_pem: bytes | None,
    now: datetime,
    lifetime: timedelta = ANCHOR_LIFETIME,
) -> Anchor:
    """
    Make everyone trust one more anchor: a new one, or that of the certificate.

    It signs nothing until it is promoted, for which every node must know it.
    """
    with store.changing() as change:
        domain = change.state.trust_domain
        keys: list[PrivateKey] = []
        if anchor_pem is None:
            made = create_anchor(domain, now=now, serial=_serial(), lifetime=lifetime)
            anchor_pem = made.certificate_pem
            keys.append(made.key)
        state = change.state.with_anchor(_single(anchor_pem), now)
        change.commit(state, *keys)
        return state.roots[-1].anchor


def rotate_issuer(
    store: Store, now: datetime, lifetime: timedelta = ISSUER_LIFETIME
) -> None:
    """A new issuer under the signing anchor, whose key must be here."""
    with store.changing() as change:
        anchor = change.state.signing_anchor or _only_root(change.state)
        issuer = _issuer_under(store, anchor, now, lifetime)
        change.commit(change.state.with_issuer(issuer.certificate_pem, now), issuer.key)


def request_new_issuer(store: Store) -> bytes:
    """
    A signing request (PEM) for an issuer, to be signed where the anchor's key is.

    The issuer's key stays here. A request that waits already is answered again.
    """
    with store.changing() as change:
        if change.state.request_pem is not None:
            return change.state.request_pem
        key = PrivateKey.generate()
        request_pem = request_issuer(change.state.trust_domain, key)
        change.commit(change.state.with_request(request_pem), key)
        return request_pem


def install_issuer(
    store: Store,
    issuer_pem: bytes,
    now: datetime,
    silence: timedelta,
    *,
    force: bool = False,
) -> None:
    """
    Sign by an issuer that was signed elsewhere, for our own request.

    Raises: AuthorityRefused where its key is not here; StillNeeded where nodes do not
    trust its anchor yet.
    """
    with store.changing() as change:
        chain = pem.parse(issuer_pem, pem.CERTIFICATE)
        key = store.key_for(chain[0]) if chain else None
        if key is None:
            raise AuthorityRefused(
                "issuer: its key is not here; it must be made from the request of "
                "'podlock ca rotate-issuer --csr'"
            )
        state = change.state.with_issuer(issuer_pem, now)
        key_fits(chain[0], key)
        _require_acceptable(state, key, now)
        if not force:
            _require_known(store, change.state, state.signing_anchor, now, silence)
        change.commit(state)


def _require_acceptable(state: AuthorityState, key: PrivateKey, now: datetime) -> None:
    """Pass an issuer whose certificates peers take. Raises: InputError otherwise."""
    assert state.issuer_pem is not None
    candidate = Authority.assemble(state.bundle, state.issuer_pem, key, now=now)
    require_acceptable(candidate.issue_server(now=now, serial=1), state.bundle)


def adopt_issuer(
    store: Store, files: IssuerFiles, now: datetime, silence: timedelta
) -> AuthorityState:
    """
    Sign by an issuer whose certificate and key are mounted files.

    The key is not copied. Raises: as `AuthorityState.with_issuer`; InvalidAuthority
    for a key that does not belong to the certificate; StillNeeded as above.
    """
    with store.changing() as change:
        chain = pem.parse(files.chain_pem, pem.CERTIFICATE)
        state = change.state.with_issuer(files.chain_pem, now)
        key_fits(chain[0], files.key)
        _require_acceptable(state, files.key, now)
        if state.issuer != change.state.issuer:
            _require_known(store, change.state, state.signing_anchor, now, silence)
            change.commit(state)
        return change.state


def promote_anchor(
    store: Store,
    prefix: str,
    now: datetime,
    silence: timedelta,
    *,
    force: bool = False,
) -> Anchor:
    """
    Sign under another anchor from now on: a new issuer, by its key, which is here.

    Raises: StillNeeded where nodes do not trust it yet.
    """
    with store.changing() as change:
        root = change.state.root(prefix)
        if root.anchor == change.state.signing_anchor:
            raise AuthorityRefused(
                f"anchor {root.anchor.fingerprint}: is the signing one already"
            )
        issuer = _issuer_under(store, root.anchor, now, ISSUER_LIFETIME)
        state = change.state.with_issuer(issuer.certificate_pem, now)
        if not force:
            _require_known(store, change.state, root.anchor, now, silence)
        change.commit(state, issuer.key)
        return root.anchor


def retire_anchor(
    store: Store,
    prefix: str,
    now: datetime,
    silence: timedelta,
    *,
    force: bool = False,
) -> tuple[Anchor, tuple[Need, ...]]:
    """
    Make nobody trust an anchor any more.

    Returns: it, and what `force` has broken. Raises: StillNeeded while anything still
    needs it.
    """
    with store.changing() as change:
        anchor = change.state.root(prefix).anchor
        records = NodeRecords(store.directory).load()
        needs = relying(change.state, records.values(), anchor, now, silence)
        if needs and not force:
            raise StillNeeded(f"anchor {anchor.fingerprint} is still needed", needs)
        change.commit(change.state.without_anchor(anchor.fingerprint, now))
        return anchor, needs


def taint(store: Store, prefix: str, now: datetime, *, force: bool = False) -> Mark:
    """
    Nothing under a signer counts any more, from this one change on.

    Where the issuer is under it, the same change installs a new one, under the
    signing anchor or, if that is what is tainted, under another whose key is here.
    Raises: AuthorityRefused where there is none, unless `force`: then nothing can be
    signed until an issuer is installed.
    """
    with store.changing() as change:
        mark = change.state.signer(prefix, now)
        state = change.state.with_taint(mark, now)
        if state.issuer_pem is not None:
            change.commit(state)
            return mark
        successor = _successor(store, change, state)
        if successor is None and not force:
            raise AuthorityRefused(
                f"{mark.kind} {mark.fingerprint}: nothing could sign after it: no "
                "untainted anchor's key is here; add an anchor first, or --force and "
                "'podlock ca rotate-issuer --csr'"
            )
        if successor is None:
            change.commit(state)
            return mark
        issuer = _issuer_under(store, successor, now, ISSUER_LIFETIME)
        # One change for everyone: nobody hears of the taint without what replaces it.
        change.commit(state.with_issuer(issuer.certificate_pem, now), issuer.key)
        return mark


def taint_certificate(store: Store, signer_pem: bytes, now: datetime) -> Mark:
    """Taint a signer that the authority does not know any more, by its certificate."""
    with store.changing() as change:
        der = _single(signer_pem)
        certificate.require_ca(certificate.parse(der))
        mark = mark_issuer(der, now)
        state = change.state.with_taint(mark, now)
        if state.issuer_pem is None:
            raise AuthorityRefused(
                f"{mark.fingerprint}: signs now; name it by its fingerprint"
            )
        change.commit(state)
        return mark


def federate(store: Store, bundles: tuple[Bundle, ...], now: datetime) -> None:
    """Everyone may judge peers of foreign trust domains by these, and no others."""
    with store.changing() as change:
        state = change.state.with_federated(bundles, now)
        if state != change.state:
            change.commit(state)


def key_fits(der: bytes, key: PrivateKey) -> None:
    """Raises: InvalidAuthority."""
    if certificate.parse(der).public_key() != key.load().public_key():
        raise InvalidAuthority("issuer: certificate and key do not belong together")


def _require_known(
    store: Store,
    state: AuthorityState,
    anchor: Anchor | None,
    now: datetime,
    silence: timedelta,
) -> None:
    """What is signed under an anchor that a node does not know, it would refuse."""
    if anchor is None or anchor == state.signing_anchor:
        return
    records, root = NodeRecords(store.directory).load(), state.root(anchor.fingerprint)
    needs = (
        *lacking(records.values(), root, now, silence),
        *_not_fetched(state, root, now),
    )
    if needs:
        raise StillNeeded(
            f"anchor {anchor.fingerprint} is not trusted everywhere yet", needs
        )


def _not_fetched(state: AuthorityState, root: Root, now: datetime) -> Iterator[Need]:
    """
    Foreign trust domains that may not have read our bundle since the anchor is in it.

    They do not report that they have (SPIFFE Federation has no word for it), so the
    gate is time: twice the refresh hint that our bundle gives. A domain that is locked
    out could not read the next bundle either, once the endpoint's certificate moved.
    """
    if root.added is None or now >= (until := root.added + FEDERATED_WAIT):
        return
    for bundle in state.federated:
        yield Need(
            Why.NOT_FETCHED,
            str(bundle.trust_domain),
            f"may not have read our bundle since {root.added:%H:%M:%SZ}; it has at "
            f"{until:%Y-%m-%dT%H:%M:%SZ}",
        )


def _successor(store: Store, change: Change, state: AuthorityState) -> Anchor | None:
    """The signing anchor if it is clean, else the newest clean one with a key here."""
    usable = [
        root
        for root in state.roots
        if not state.is_tainted(root.anchor.fingerprint)
        and store.key_for(root.anchor.der) is not None
    ]
    signing = change.state.signing_anchor
    usable.sort(key=lambda root: (root.anchor == signing, root.since))
    return usable[-1].anchor if usable else None


def _issuer_under(
    store: Store, anchor: Anchor, now: datetime, lifetime: timedelta
) -> CaPair:
    key = store.key_for(anchor.der)
    if key is None:
        raise AuthorityRefused(
            f"anchor {anchor.fingerprint}: its key is not here; make a request with "
            "'podlock ca rotate-issuer --csr FILE', have it signed, and install it "
            "with '--certificate FILE'"
        )
    if not anchor.not_before <= now < anchor.not_after:
        raise AuthorityRefused(
            f"anchor {anchor.fingerprint}: valid until {anchor.not_after}; add another"
        )
    pair = CaPair(pem.format_blocks([anchor.der], pem.CERTIFICATE), key)
    domain = certificate.trust_domain_of(certificate.parse(anchor.der))
    domain = domain or store.load().trust_domain
    return create_issuer(domain, pair, now=now, serial=_serial(), lifetime=lifetime)


def _only_root(state: AuthorityState) -> Anchor:
    usable = [
        r.anchor for r in state.roots if not state.is_tainted(r.anchor.fingerprint)
    ]
    if len(usable) != 1:
        raise AuthorityRefused("no issuer to rotate: promote one of the anchors")
    return usable[0]


def _bare(trust_domain: TrustDomain, anchor_der: bytes) -> AuthorityState:
    (anchor,) = Bundle.of(trust_domain, [anchor_der]).anchors
    return AuthorityState(trust_domain, 1, (Root(anchor, 1),))


def _single(text: bytes) -> bytes:
    """Raises: InvalidPem; AuthorityRefused for none or several."""
    ders = pem.parse(text, pem.CERTIFICATE)
    if len(ders) != 1:
        raise AuthorityRefused(f"expected one certificate, found {len(ders)}")
    return ders[0]


def _der(pair: CaPair) -> bytes:
    return _single(pair.certificate_pem)


def _serial() -> int:
    return x509.random_serial_number()
