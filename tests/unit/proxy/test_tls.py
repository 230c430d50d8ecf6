"""Who gets through a handshake: both sides refuse every bad chain, with its rule."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import trio
from cryptography import x509

from agent.errors import PeerError
from agent.identity.authority import Authority
from agent.identity.bundle import Bundle
from agent.identity.certificate import PeerIdentityMismatch, PeerNotAccepted, Rule
from agent.identity.credential import Credential
from agent.identity.key import PrivateKey
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.trust import Trust
from agent.proxy.tls import (
    Contexts,
    ContextStore,
    NotHbone,
    UnknownTrustDomain,
    build_contexts,
    verified_peer,
)
from agent.proxy.transport import HandshakeFailed, Transport
from tests.lab import forgery
from tests.lab.bad_chains import BAD_CHAINS, BadChain
from tests.lab.forgery import Forged, Realm, leaf
from tests.unit.identity.parts import TD, credential_for, make_authority
from tests.unit.proxy.joined import tcp_pair

PARTNER = TrustDomain("partner.example")
OURS = Realm.create()
THEIRS = Realm.create(str(PARTNER))
BUNDLE = Bundle.of(TD, [OURS.anchor.der])
PARTNER_BUNDLE = Bundle.of(PARTNER, [THEIRS.anchor.der])
ME = SpiffeId.parse(forgery.OTHER)
PEER = SpiffeId.parse(forgery.IDENTITY)
FOREIGN = SpiffeId.parse(forgery.FOREIGN_IDENTITY)


def my_credential() -> Credential:
    made = leaf(OURS, names=(forgery.uri(str(ME)),))
    return Credential.assemble(made.chain_pem, PrivateKey.of(made.key))


MINE = my_credential()
CONTEXTS = build_contexts(MINE, BUNDLE)
FEDERATED = build_contexts(MINE, BUNDLE, (PARTNER_BUNDLE,))


def hostile(forged: Forged, *, server: bool, alpn: str = "h2") -> ssl.SSLContext:
    """A peer that presents anything and accepts anything."""
    kind = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(kind)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols([alpn])
    forged.load_into(context)
    return context


@dataclass(slots=True)
class Meeting:
    """Our end of a handshake with a forger."""

    contexts: Contexts
    peer_is_server: bool
    alpn: str = "h2"

    async def with_(self, forged: Forged, expected: SpiffeId = PEER) -> SpiffeId:
        """Who we take the peer for. Raises: PeerError."""
        near, far = tcp_pair()
        context = hostile(forged, server=self.peer_is_server, alpn=self.alpn)
        outcome: SpiffeId | PeerError
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pose, far, context)
            try:
                outcome = await self._meet(near, expected)
            except PeerError as error:
                outcome = error
        if isinstance(outcome, PeerError):
            raise outcome
        return outcome

    async def _pose(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        with contextlib.suppress(HandshakeFailed):  # what the liar hears: no matter
            posing = await Transport.handshake(
                sock, context, server=self.peer_is_server, timeout_seconds=5
            )
            posing.tls.close()

    async def _meet(self, sock: socket.socket, expected: SpiffeId) -> SpiffeId:
        client = self.contexts.client_for(expected.trust_domain)
        ours = await Transport.handshake(
            sock,
            client if self.peer_is_server else self.contexts.server,
            server=not self.peer_is_server,
            timeout_seconds=5,
        )
        try:
            asked = expected if self.peer_is_server else None
            return verified_peer(ours.tls, self.contexts.judge, asked).svid.spiffe_id
        finally:
            ours.tls.close()


SIDES = pytest.mark.parametrize(
    "peer_is_server", [True, False], ids=["as-server", "as-client"]
)


async def rules(meeting: Meeting, forged: Forged, who: SpiffeId = PEER) -> set[Rule]:
    """The rules that a forgery breaks, as the refusal tells them."""
    with pytest.raises((HandshakeFailed, PeerNotAccepted)) as caught:
        await meeting.with_(forged, who)
    assert isinstance(caught.value, HandshakeFailed | PeerNotAccepted)
    for finding in caught.value.findings:
        assert finding.rule.value in str(caught.value)
    return {finding.rule for finding in caught.value.findings}


@SIDES
class TestBadChains:
    @pytest.mark.parametrize("bad", BAD_CHAINS, ids=lambda bad: bad.name)
    async def test_is_refused(self, bad: BadChain, peer_is_server: bool) -> None:
        """By the client and by the server, and the reason is the fault itself."""
        special = bad.as_server if peer_is_server else bad.as_client
        found = await rules(Meeting(CONTEXTS, peer_is_server), bad.forge(OURS))
        assert found == {Rule[name] for name in (special or bad.rule).split("+")}

    async def test_a_good_one_is_taken(self, peer_is_server: bool) -> None:
        """What is refused above is refused for its one fault."""
        meeting = Meeting(CONTEXTS, peer_is_server)
        assert await meeting.with_(leaf(OURS)) == PEER

    async def test_dns_names_mean_nothing(self, peer_is_server: bool) -> None:
        """X509-SVID section 2 allows them beside the URI; they prove nothing."""
        names = (x509.DNSName("batch.shop"), forgery.uri(str(PEER)))
        forged = leaf(OURS, names=names)
        assert await Meeting(CONTEXTS, peer_is_server).with_(forged) == PEER

    async def test_the_anchor_may_come_along(self, peer_is_server: bool) -> None:
        """Some authorities hand it out with the chain; it changes nothing."""
        good = leaf(OURS)
        whole = Forged((*good.chain, OURS.anchor.der), good.key)
        assert await Meeting(CONTEXTS, peer_is_server).with_(whole) == PEER

    async def test_another_protocol(self, peer_is_server: bool) -> None:
        """Who does not speak HTTP/2 is told apart from who is not let in."""
        with pytest.raises(NotHbone):
            await Meeting(CONTEXTS, peer_is_server, "http/1.1").with_(leaf(OURS))


class TestIdentity:
    async def test_somebody_elses(self) -> None:
        """A valid certificate with another name is not who we asked for."""
        named = leaf(OURS, names=(forgery.uri(str(ME)),))
        with pytest.raises(PeerIdentityMismatch, match=r"expected .*/sa/api"):
            await Meeting(CONTEXTS, peer_is_server=True).with_(named)

    async def test_the_same_key_under_another_name(self) -> None:
        """A key makes no identity: the certificate names it."""
        mine = leaf(OURS)
        named = leaf(OURS, mine.key, names=(forgery.uri(str(ME)),))
        found = await rules(Meeting(CONTEXTS, peer_is_server=True), named)
        assert found == {Rule.IDENTITY}

    async def test_no_certificate(self) -> None:
        """A client that presents nothing is refused."""
        near, far = tcp_pair()
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        bare.check_hostname, bare.verify_mode = False, ssl.CERT_NONE

        async def pose() -> None:
            posing = await Transport.handshake(
                far, bare, server=False, timeout_seconds=5
            )
            posing.tls.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pose)
            with pytest.raises(HandshakeFailed, match="presented no certificate"):
                await Transport.handshake(
                    near, CONTEXTS.server, server=True, timeout_seconds=5
                )


@SIDES
class TestClockSkew:
    """Certificates start two minutes early: so far clocks may differ (authority.py)."""

    @pytest.mark.parametrize(
        ("ahead", "accepted"),
        [(timedelta(seconds=110), True), (timedelta(seconds=150), False)],
    )
    async def test_an_issuer_ahead(
        self, ahead: timedelta, accepted: bool, peer_is_server: bool
    ) -> None:
        """Within two minutes it is not noticed; beyond, the reason names it."""
        now = datetime.now(UTC)
        authority: Authority = make_authority(now - timedelta(hours=1))
        theirs = credential_for(authority, PEER, now + ahead)
        mine = credential_for(authority, ME, now)
        contexts = build_contexts(mine, authority.bundle)
        key = theirs.key.load()
        assert isinstance(key, forgery.Key)
        meeting = Meeting(contexts, peer_is_server)
        if accepted:
            assert await meeting.with_(Forged(theirs.chain_der, key)) == PEER
        else:
            found = await rules(meeting, Forged(theirs.chain_der, key))
            assert found == {Rule.NOT_YET_VALID}


class TestFederation:
    """A peer of a domain is checked with that domain's anchors, and no other's."""

    @SIDES
    async def test_a_federated_peer(self, peer_is_server: bool) -> None:
        """Its own authority's signature makes it known, under its whole name."""
        forged = leaf(THEIRS, names=(forgery.uri(str(FOREIGN)),))
        meeting = Meeting(FEDERATED, peer_is_server)
        assert await meeting.with_(forged, FOREIGN) == FOREIGN

    @SIDES
    async def test_ours_still_works(self, peer_is_server: bool) -> None:
        """Other domains beside ours change nothing for our own."""
        assert await Meeting(FEDERATED, peer_is_server).with_(leaf(OURS)) == PEER

    async def test_our_anchor_speaks_not_for_them(self) -> None:
        """A certificate for them under our anchor: a client and a server refuse it."""
        forged = leaf(OURS, names=(forgery.uri(str(FOREIGN)),))
        as_server = await rules(Meeting(FEDERATED, True), forged, FOREIGN)
        as_client = await rules(Meeting(FEDERATED, False), forged)
        assert as_server == {Rule.UNKNOWN_AUTHORITY}
        assert as_client == {Rule.FOREIGN_ANCHOR}

    async def test_their_anchor_speaks_not_for_us(self) -> None:
        """A certificate for one of ours under their anchor."""
        forged = leaf(THEIRS)
        assert await rules(Meeting(FEDERATED, True), forged) == {Rule.UNKNOWN_AUTHORITY}
        assert await rules(Meeting(FEDERATED, False), forged) == {Rule.FOREIGN_ANCHOR}

    async def test_nor_for_a_third(self) -> None:
        """Two foreign domains are as separate as each is from us."""
        third = Realm.create("third.example")
        bundle = Bundle.of(TrustDomain("third.example"), [third.anchor.der])
        contexts = build_contexts(MINE, BUNDLE, (PARTNER_BUNDLE, bundle))
        forged = leaf(third, names=(forgery.uri(str(FOREIGN)),))
        as_server = await rules(Meeting(contexts, True), forged, FOREIGN)
        as_client = await rules(Meeting(contexts, False), forged)
        assert as_server == {Rule.UNKNOWN_AUTHORITY}
        assert as_client == {Rule.FOREIGN_ANCHOR}

    async def test_a_cross_signed_anchor(self) -> None:
        """That we once signed their anchor lets nobody in who is not federated."""
        crossed = forgery.authority("partner.example anchor", str(PARTNER)).cast(
            OURS.anchor, THEIRS.anchor.key
        )
        good = leaf(THEIRS, names=(forgery.uri(str(FOREIGN)),))
        forged = Forged((*good.chain, crossed.der), good.key)
        assert await rules(Meeting(CONTEXTS, False), forged) == {Rule.TRUST_DOMAIN}
        assert await Meeting(FEDERATED, False).with_(forged) == FOREIGN

    async def test_a_domain_without_a_bundle(self) -> None:
        """There is nothing to check its servers with."""
        with pytest.raises(UnknownTrustDomain, match=r"partner\.example"):
            CONTEXTS.client_for(PARTNER)


class TestContextStore:
    async def test_federation_changes(self) -> None:
        """New handshakes follow the bundles; a domain that goes is an anchor gone."""
        store = ContextStore()
        store.install(MINE)
        assert not store.trust(Trust(1, BUNDLE, federated=(PARTNER_BUNDLE,)))
        forged = leaf(THEIRS, names=(forgery.uri(str(FOREIGN)),))
        contexts = store.current(ME)
        assert contexts is not None
        assert await Meeting(contexts, False).with_(forged) == FOREIGN

        assert store.trust(Trust(2, BUNDLE))
        contexts = store.current(ME)
        assert contexts is not None
        with pytest.raises(PeerError):
            await Meeting(contexts, False).with_(forged)
