"""Both families at once: a connection must pass each (DECISIONS.md, 45)."""

from __future__ import annotations

from typing import Final

from tests.unit.policy.tables.block import Block

BLOCKS: Final = [
    Block(
        "Istio allows, Linkerd's Server does not",
        "a connection must pass each",
        """
        Istio AuthorizationPolicy shop/all: {rules: [{}]}
        Server shop/http: {podSelector: {}, port: 80}
        """,
        """
        web    api  80  deny   Server shop/http
        plain  api  80  deny   Server shop/http
        web    api  81  allow  Istio AuthorizationPolicy shop/all
        """,
    ),
    Block(
        "Linkerd admits, Istio does not",
        "a connection must pass each",
        """
        Istio AuthorizationPolicy shop/web:
          rules: [{from: [{source: {serviceAccounts: [web]}}]}]
        Server shop/http: {podSelector: {}, port: 80}
        ServerAuthorization shop/mesh:
          {server: {name: http}, client: {meshTLS: {identities: ["*"]}}}
        """,
        """
        web    api  80  allow  ServerAuthorization shop/mesh
        batch  api  80  deny   Istio AuthorizationPolicy shop/web
        plain  api  80  deny   Istio AuthorizationPolicy shop/web
        web    api  81  allow  Istio AuthorizationPolicy shop/web
        """,
    ),
    Block(
        "Linkerd's default holds beside Istio's ALLOW",
        "a connection must pass each; the default is Linkerd's answer without a Server",
        """
        Namespace shop: all-authenticated
        Istio AuthorizationPolicy shop/all: {rules: [{}]}
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/all
        plain  api  80  deny   Namespace shop
        """,
    ),
    Block(
        "STRICT beside an open Server",
        "a connection must pass each",
        """
        Istio PeerAuthentication shop/default: {mtls: {mode: STRICT}}
        Server shop/http:
          {podSelector: {}, port: 80, accessPolicy: all-unauthenticated}
        """,
        """
        web    api  80  allow  Server shop/http
        plain  api  80  deny   Istio PeerAuthentication shop/default
        """,
    ),
    Block(
        "audited by both",
        "what either would refuse is told",
        """
        Namespace shop: audit
        Istio AuthorizationPolicy shop/try?: {action: DENY, rules: [{}]}
        """,
        """
        plain  api  80  allow  Namespace shop ~ Istio AuthorizationPolicy shop/try, Namespace shop
        plain  job  80  allow  configuration
        """,  # noqa: E501 - a row is a line
    ),
    Block(
        "an enforced refusal is no audit",
        "a DENY that is enforced refuses, whatever else only audits",
        """
        Namespace shop: audit
        Istio AuthorizationPolicy shop/no: {action: DENY, rules: [{}]}
        """,
        """
        plain  api  80  deny  Istio AuthorizationPolicy shop/no
        """,
    ),
]
