"""The identity service gives a node the identities of its own pods and no others."""

from __future__ import annotations

import pytest

from agent.identity.certificate import Rule
from agent.identity.csr import make_csr
from agent.identity.key import PrivateKey
from agent.identity.pem import CERTIFICATE_REQUEST, format_blocks
from agent.identity.signing import (
    Issued,
    SigningReason,
    SigningRefused,
    authorize_request,
    sign_request,
)
from agent.identity.spiffe import SpiffeId, TrustDomain
from agent.identity.token import AdminCaller, Caller, NodeCaller, WorkloadCaller
from tests.unit.identity.parts import API, BATCH, NOW, TD, Registry, make_authority

AUTHORITY = make_authority()
NODE = NodeCaller("n1", "id")
OWN = SpiffeId(TD, ("podlock", "identity"))
FOREIGN = SpiffeId(TrustDomain("other"), API.path)
# The registry says yes to everything that the rules must refuse by themselves.
REGISTRY = Registry(("n1", API), ("n2", BATCH), ("n1", OWN), ("n1", FOREIGN))


def ask(caller: Caller, csr_pem: bytes) -> Issued:
    request = authorize_request(TD, REGISTRY, caller, csr_pem)
    return sign_request(AUTHORITY, request, now=NOW, serial=5)


def request(identity: SpiffeId) -> bytes:
    der = make_csr(identity, PrivateKey.generate())
    return format_blocks([der], CERTIFICATE_REQUEST)


@pytest.mark.parametrize(
    ("caller", "identity", "reason"),
    [
        (NODE, BATCH, SigningReason.NOT_ON_NODE),
        (NodeCaller("n3", "id"), API, SigningReason.NOT_ON_NODE),
        (NODE, FOREIGN, SigningReason.WRONG_TRUST_DOMAIN),
        (NODE, OWN, SigningReason.RESERVED_IDENTITY),
        (WorkloadCaller(OWN, "id"), OWN, SigningReason.RESERVED_IDENTITY),
        (WorkloadCaller(API, "id"), BATCH, SigningReason.NOT_THE_CALLER),
        (AdminCaller("id"), API, SigningReason.NOT_THE_CALLER),
    ],
)
def test_refuses(caller: Caller, identity: SpiffeId, reason: SigningReason) -> None:
    """The reason is a code, and the identity is known to the log."""
    with pytest.raises(SigningRefused) as caught:
        ask(caller, request(identity))
    assert caught.value.reason is reason
    assert caught.value.identity == identity
    assert str(identity) in str(caught.value)


@pytest.mark.parametrize(
    "csr_pem", [b"", b"noise", request(API) * 2, request(API).replace(b"MI", b"MA")]
)
def test_refuses_a_malformed_request(csr_pem: bytes) -> None:
    """Exactly one readable CSR, before anything else is asked."""
    with pytest.raises(SigningRefused) as caught:
        ask(NODE, csr_pem)
    assert caught.value.reason is Rule.MALFORMED
    assert caught.value.identity is None


@pytest.mark.parametrize("caller", [NODE, WorkloadCaller(API, "id")])
def test_signs_for_the_pods_node_and_for_the_workload_itself(caller: Caller) -> None:
    """The answer has the chain and what to log."""
    issued = ask(caller, request(API))

    assert (issued.svid.spiffe_id, issued.svid.serial) == (API, 5)
    assert issued.chain_pem.endswith(AUTHORITY.chain_pem)


def test_a_refusal_says_whose_objects_were_looked_at() -> None:
    """Of an identity service without objects every refusal would be untrue."""
    text = r"the identity service knows \(3 pods"
    with pytest.raises(SigningRefused, match=text):
        authorize_request(TD, REGISTRY, NODE, request(BATCH))
