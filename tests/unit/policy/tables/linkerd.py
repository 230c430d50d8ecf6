"""
Linkerd's policy kinds and defaults.

Sources: [REF] linkerd.io, reference "Authorization Policy"; [FEAT] feature
"Authorization Policy"; [ADM] what the policy controller's admission refuses; [PROXY]
linkerd2-proxy's inbound policy; [CIDR] NetworkAuthentication of the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.unit.policy.tables.block import Block

IDENTITY: Final = "serviceaccount.identity.linkerd.cluster.local"

# [REF] Default policies: who is let in by each of the six.
_ADMITS: Final = {
    "all-unauthenticated": "web batch edge vm plain mapped plain6 outside outside6",
    "cluster-unauthenticated": "web batch vm plain mapped plain6",
    "all-authenticated": "web batch edge vm",
    "cluster-authenticated": "web batch vm",
    "deny": "",
    "audit": "web batch edge vm plain mapped plain6 outside outside6",
}
_EVERYBODY: Final = _ADMITS["audit"].split()


def _rows(value: str, decided: str, target: str = "api", port: int = 80) -> str:
    lines = []
    for client in _EVERYBODY:
        verdict = "allow" if client in _ADMITS[value].split() else "deny"
        told = f" ~ {decided}" if value == "audit" else ""
        lines.append(f"{client} {target} {port} {verdict} {decided}{told}")
    return "\n".join(lines)


def _defaults() -> Iterator[Block]:
    for value in _ADMITS:
        yield Block(
            f"default {value} of the cluster",
            "[REF] default policies",
            "{}",
            _rows(value, "configuration"),
            default=value,
        )
        yield Block(
            f"accessPolicy {value}",
            "[REF] Server.accessPolicy: for traffic that no policy authorizes",
            f"Server shop/http: {{podSelector: {{}}, port: 80, accessPolicy: {value}}}",
            _rows(value, "Server shop/http"),
            default="deny",
        )


BLOCKS: Final = [
    *_defaults(),
    Block(
        "the namespace before the cluster, the pod before both",
        "[REF] the annotation on the namespace or the pod overrides the default",
        """
        Namespace shop: deny
        Pod shop/cart: all-authenticated
        Namespace jobs: cluster-authenticated
        """,
        """
        web    api   80  deny   Namespace shop
        plain  api   80  deny   Namespace shop
        web    cart  80  allow  Pod shop/cart
        plain  cart  80  deny   Pod shop/cart
        edge   job   80  deny   Namespace jobs
        web    job   80  allow  Namespace jobs
        plain  root  80  allow  configuration
        """,
    ),
    Block(
        "audit of a namespace",
        "[REF] audit: allowed, and told as it would be denied",
        "Namespace shop: audit",
        """
        plain  api  80  allow  Namespace shop ~ Namespace shop
        web    api  80  allow  Namespace shop ~ Namespace shop
        plain  job  80  deny   configuration
        """,
        default="deny",
    ),
    Block(
        "an unknown default denies",
        "fail closed: somebody asked for a policy that cannot be read",
        "Namespace shop: allow-everyone",
        """
        web    api  80  deny   Namespace shop
        plain  api  80  deny   Namespace shop
        """,
    ),
    Block(
        "a Server closes its port",
        "[REF] a Server without policies denies; its accessPolicy is deny by default",
        "Server shop/http: {podSelector: {matchLabels: {app: api}}, port: 80}",
        """
        web    api   80  deny   Server shop/http
        plain  api   80  deny   Server shop/http
        web    api   81  allow  configuration
        web    cart  80  allow  configuration
        web    job   80  allow  configuration
        """,
    ),
    Block(
        "a Server by port name",
        "[REF] port: a number, or a name in the pod's spec",
        "Server shop/http: {podSelector: {}, port: http}",
        """
        web  api   8080  deny   Server shop/http
        web  cart  8080  deny   Server shop/http
        web  api   80    allow  configuration
        """,
    ),
    Block(
        "a Server by matchExpressions",
        "[REF] podSelector is a Kubernetes label selector",
        """
        Server shop/in:
          podSelector: {matchExpressions: [{key: app, operator: In, values: [api]}]}
          port: 80
        Server shop/not:
          podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [api]}]}
          port: 81
        Server shop/has:
          podSelector: {matchExpressions: [{key: tier, operator: Exists}]}
          port: 82
        Server shop/hasnot:
          podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}
          port: 83
        Server shop/both:
          podSelector:
            matchLabels: {tier: back}
            matchExpressions: [{key: app, operator: In, values: [cart, x]}]
          port: 84
        """,
        """
        web  api   80  deny   Server shop/in
        web  cart  80  allow  configuration
        web  api   81  allow  configuration
        web  cart  81  deny   Server shop/not
        web  api   82  deny   Server shop/has
        web  api   83  allow  configuration
        web  cart  84  deny   Server shop/both
        web  api   84  allow  configuration
        """,
    ),
    Block(
        "a Server of ExternalWorkloads is of no pod",
        "[REF] externalWorkloadSelector selects ExternalWorkloads, not pods",
        "Server shop/vm: {externalWorkloadSelector: {}, port: 80}",
        """
        web  api  80  allow  configuration
        """,
    ),
    Block(
        "two Servers on one port",
        "[ADM] refused there; here the older holds, then the first by name",
        """
        Server shop/b: {podSelector: {}, port: 80, accessPolicy: all-unauthenticated}
        Server shop/a: {podSelector: {}, port: 80}
        Server shop/young:
          created: "2026-03-01T00:00:00Z"
          podSelector: {}
          port: 81
        Server shop/zold:
          created: "2026-01-01T00:00:00Z"
          podSelector: {}
          port: 81
          accessPolicy: all-unauthenticated
        """,
        """
        web  api  80  deny   Server shop/a
        web  api  81  allow  Server shop/zold
        """,
    ),
    Block(
        "identities",
        "[REF] MeshTLSAuthentication.identities: exact, `*.suffix`, `*`",
        f"""
        Server shop/exact: {{podSelector: {{}}, port: 80}}
        Server shop/uri: {{podSelector: {{}}, port: 81}}
        Server shop/suffix: {{podSelector: {{}}, port: 82}}
        Server shop/any: {{podSelector: {{}}, port: 83}}
        MeshTLSAuthentication shop/exact: {{identities: [web.shop.{IDENTITY}]}}
        MeshTLSAuthentication shop/uri:
          {{identities: ["spiffe://cluster.local/ns/shop/sa/web"]}}
        MeshTLSAuthentication shop/suffix: {{identities: ["*.shop.{IDENTITY}"]}}
        MeshTLSAuthentication shop/any: {{identities: ["*"]}}
        AuthorizationPolicy shop/exact:
          targetRef: {{group: policy.linkerd.io, kind: Server, name: exact}}
          requiredAuthenticationRefs:
          - {{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: exact}}
        AuthorizationPolicy shop/uri:
          targetRef: {{group: policy.linkerd.io, kind: Server, name: uri}}
          requiredAuthenticationRefs:
          - {{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: uri}}
        AuthorizationPolicy shop/suffix:
          targetRef: {{group: policy.linkerd.io, kind: Server, name: suffix}}
          requiredAuthenticationRefs:
          - {{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: suffix}}
        AuthorizationPolicy shop/any:
          targetRef: {{group: policy.linkerd.io, kind: Server, name: any}}
          requiredAuthenticationRefs:
          - {{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: any}}
        """,
        """
        web      api  80  allow  AuthorizationPolicy shop/exact
        edge     api  80  deny   Server shop/exact
        batch    api  80  deny   Server shop/exact
        dotted   api  80  deny   Server shop/exact
        vm       api  80  deny   Server shop/exact
        foreign  api  80  deny   Server shop/exact
        plain    api  80  deny   Server shop/exact
        web      api  81  allow  AuthorizationPolicy shop/uri
        edge     api  81  deny   Server shop/uri
        foreign  api  81  deny   Server shop/uri
        plain    api  81  deny   Server shop/uri
        web      api  82  allow  AuthorizationPolicy shop/suffix
        edge     api  82  allow  AuthorizationPolicy shop/suffix
        batch    api  82  deny   Server shop/suffix
        dotted   api  82  deny   Server shop/suffix
        foreign  api  82  deny   Server shop/suffix
        vm       api  82  deny   Server shop/suffix
        plain    api  82  deny   Server shop/suffix
        web      api  83  allow  AuthorizationPolicy shop/any
        vm       api  83  allow  AuthorizationPolicy shop/any
        plain    api  83  deny   Server shop/any
        mapped   api  83  deny   Server shop/any
        """,
    ),
    Block(
        "identityRefs",
        "[REF] identityRefs: ServiceAccounts, or all of a Namespace",
        """
        Server shop/sa: {podSelector: {}, port: 80}
        Server shop/ns: {podSelector: {}, port: 81}
        Server shop/direct: {podSelector: {}, port: 82}
        MeshTLSAuthentication shop/sa:
          identityRefs:
          - {kind: ServiceAccount, name: web}
          - {kind: ServiceAccount, name: batch, namespace: jobs}
        MeshTLSAuthentication shop/ns: {identityRefs: [{kind: Namespace, name: jobs}]}
        AuthorizationPolicy shop/sa:
          targetRef: {group: policy.linkerd.io, kind: Server, name: sa}
          requiredAuthenticationRefs:
          - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: sa}
        AuthorizationPolicy shop/ns:
          targetRef: {group: policy.linkerd.io, kind: Server, name: ns}
          requiredAuthenticationRefs:
          - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: ns}
        AuthorizationPolicy shop/direct:
          targetRef: {group: policy.linkerd.io, kind: Server, name: direct}
          requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]
        """,
        """
        web    api  80  allow  AuthorizationPolicy shop/sa
        batch  api  80  allow  AuthorizationPolicy shop/sa
        edge   api  80  deny   Server shop/sa
        plain  api  80  deny   Server shop/sa
        batch  api  81  allow  AuthorizationPolicy shop/ns
        dotted api  81  allow  AuthorizationPolicy shop/ns
        web    api  81  deny   Server shop/ns
        web    api  82  allow  AuthorizationPolicy shop/direct
        batch  api  82  deny   Server shop/direct
        """,
    ),
    Block(
        "nothing required",
        "[REF] an empty requiredAuthenticationRefs admits anyone",
        """
        Server shop/http: {podSelector: {}, port: 80}
        AuthorizationPolicy shop/open:
          targetRef: {group: policy.linkerd.io, kind: Server, name: http}
          requiredAuthenticationRefs: []
        """,
        """
        web      api  80  allow  AuthorizationPolicy shop/open
        plain    api  80  allow  AuthorizationPolicy shop/open
        outside6 api  80  allow  AuthorizationPolicy shop/open
        """,
    ),
    Block(
        "networks",
        "[CIDR] cidr without except; plaintext too",
        """
        Server shop/http: {podSelector: {}, port: 80}
        NetworkAuthentication shop/nets:
          networks:
          - {cidr: 10.0.0.0/8, except: [10.2.0.0/16, 10.4.0.1]}
          - {cidr: "2001:db8::/32"}
        AuthorizationPolicy shop/nets:
          targetRef: {group: policy.linkerd.io, kind: Server, name: http}
          requiredAuthenticationRefs:
          - {group: policy.linkerd.io, kind: NetworkAuthentication, name: nets}
        """,
        """
        web      api  80  allow  AuthorizationPolicy shop/nets
        plain    api  80  allow  AuthorizationPolicy shop/nets
        mapped   api  80  allow  AuthorizationPolicy shop/nets
        outside6 api  80  allow  AuthorizationPolicy shop/nets
        batch    api  80  deny   Server shop/http
        vm       api  80  deny   Server shop/http
        outside  api  80  deny   Server shop/http
        plain6   api  80  deny   Server shop/http
        """,
    ),
    Block(
        "network and identity must both be met",
        "[REF] all required authentications must be satisfied",
        """
        Server shop/http: {podSelector: {}, port: 80}
        NetworkAuthentication shop/nets: {networks: [{cidr: 10.0.0.0/8}]}
        MeshTLSAuthentication shop/mesh: {identities: ["*"]}
        AuthorizationPolicy shop/both:
          targetRef: {group: policy.linkerd.io, kind: Server, name: http}
          requiredAuthenticationRefs:
          - {group: policy.linkerd.io, kind: NetworkAuthentication, name: nets}
          - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: mesh}
        """,
        """
        web      api  80  allow  AuthorizationPolicy shop/both
        edge     api  80  deny   Server shop/http
        plain    api  80  deny   Server shop/http
        outside  api  80  deny   Server shop/http
        """,
    ),
    Block(
        "policies of one Server are alternatives",
        "[FEAT] any AuthorizationPolicy that is satisfied is enough",
        """
        Server shop/http: {podSelector: {}, port: 80}
        NetworkAuthentication shop/nets: {networks: [{cidr: 192.0.2.0/24}]}
        AuthorizationPolicy shop/a:
          targetRef: {group: policy.linkerd.io, kind: Server, name: http}
          requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]
        AuthorizationPolicy shop/b:
          targetRef: {group: policy.linkerd.io, kind: Server, name: http}
          requiredAuthenticationRefs:
          - {group: policy.linkerd.io, kind: NetworkAuthentication, name: nets}
        """,
        """
        web      api  80  allow  AuthorizationPolicy shop/a
        outside  api  80  allow  AuthorizationPolicy shop/b
        edge     api  80  allow  AuthorizationPolicy shop/b
        batch    api  80  deny   Server shop/http
        """,
    ),
    Block(
        "a Namespace as target is all of its Servers",
        "[REF] targetRef: a Namespace, the policy's own",
        """
        Server shop/http: {podSelector: {}, port: 80}
        Server shop/admin: {podSelector: {}, port: admin}
        Server jobs/http: {podSelector: {}, port: 80}
        AuthorizationPolicy shop/all:
          targetRef: {kind: Namespace, name: shop}
          requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]
        """,
        """
        web    api  80    allow  AuthorizationPolicy shop/all
        web    api  9000  allow  AuthorizationPolicy shop/all
        batch  api  80    deny   Server shop/http
        web    job  80    deny   Server jobs/http
        web    api  81    allow  configuration
        """,
    ),
    Block(
        "references that lead nowhere admit nobody",
        "[REF] a required authentication that does not exist cannot be satisfied",
        """
        Server shop/http: {podSelector: {}, port: 80}
        MeshTLSAuthentication jobs/mesh: {identities: ["*"]}
        AuthorizationPolicy shop/a:
          targetRef: {group: policy.linkerd.io, kind: Server, name: http}
          requiredAuthenticationRefs:
          - {group: policy.linkerd.io, kind: MeshTLSAuthentication, name: mesh}
        AuthorizationPolicy shop/b:
          targetRef: {group: policy.linkerd.io, kind: Server, name: missing}
          requiredAuthenticationRefs: []
        AuthorizationPolicy shop/c:
          targetRef: {kind: Namespace, name: jobs}
          requiredAuthenticationRefs: []
        AuthorizationPolicy shop/d:
          targetRef: {group: policy.linkerd.io, kind: HTTPRoute, name: http}
          requiredAuthenticationRefs: []
        """,
        """
        web    api  80  deny  Server shop/http
        plain  api  80  deny  Server shop/http
        """,
    ),
    Block(
        "an authentication of another namespace, by name",
        "[REF] requiredAuthenticationRefs may name a namespace",
        """
        Server shop/http: {podSelector: {}, port: 80}
        MeshTLSAuthentication jobs/mesh: {identities: ["*"]}
        AuthorizationPolicy shop/a:
          targetRef: {group: policy.linkerd.io, kind: Server, name: http}
          requiredAuthenticationRefs:
          - group: policy.linkerd.io
            kind: MeshTLSAuthentication
            name: mesh
            namespace: jobs
        """,
        """
        web    api  80  allow  AuthorizationPolicy shop/a
        plain  api  80  deny   Server shop/http
        """,
    ),
    Block(
        "ServerAuthorization by name",
        "[REF] ServerAuthorization: server.name, client.meshTLS",
        """
        Server shop/http: {podSelector: {}, port: 80}
        ServerAuthorization shop/web:
          server: {name: http}
          client:
            meshTLS:
              serviceAccounts: [{name: web}, {name: batch, namespace: jobs}]
        """,
        """
        web    api  80  allow  ServerAuthorization shop/web
        batch  api  80  allow  ServerAuthorization shop/web
        edge   api  80  deny   Server shop/http
        plain  api  80  deny   Server shop/http
        """,
    ),
    Block(
        "ServerAuthorization by labels",
        "[REF] server.selector: the labels of Servers of its namespace",
        """
        Server shop/a: {labels: {team: a}, podSelector: {}, port: 80}
        Server shop/b: {labels: {team: b}, podSelector: {}, port: 81}
        Server jobs/a: {labels: {team: a}, podSelector: {}, port: 80}
        ServerAuthorization shop/team-a:
          server: {selector: {matchLabels: {team: a}}}
          client: {meshTLS: {identities: ["*"]}}
        """,
        """
        web    api  80  allow  ServerAuthorization shop/team-a
        vm     api  80  allow  ServerAuthorization shop/team-a
        plain  api  80  deny   Server shop/a
        web    api  81  deny   Server shop/b
        web    job  80  deny   Server jobs/a
        """,
    ),
    Block(
        "ServerAuthorization of unauthenticated clients",
        "[REF] client.unauthenticated, limited by client.networks",
        """
        Server shop/http: {podSelector: {}, port: 80}
        Server shop/admin: {podSelector: {}, port: 81}
        ServerAuthorization shop/all:
          server: {name: http}
          client: {unauthenticated: true}
        ServerAuthorization shop/near:
          server: {name: admin}
          client:
            unauthenticated: true
            networks: [{cidr: 10.0.0.0/8, except: [10.3.0.0/16]}]
        """,
        """
        plain    api  80  allow  ServerAuthorization shop/all
        outside  api  80  allow  ServerAuthorization shop/all
        web      api  81  allow  ServerAuthorization shop/near
        plain    api  81  deny   Server shop/admin
        outside  api  81  deny   Server shop/admin
        """,
    ),
    Block(
        "ServerAuthorization of any TLS",
        "[REF] meshTLS.unauthenticatedTLS; every TLS of ours proves an identity",
        """
        Server shop/http: {podSelector: {}, port: 80}
        ServerAuthorization shop/tls:
          server: {name: http}
          client: {meshTLS: {unauthenticatedTLS: true}, networks: [{cidr: 10.0.0.0/8}]}
        """,
        """
        web    api  80  allow  ServerAuthorization shop/tls
        vm     api  80  allow  ServerAuthorization shop/tls
        edge   api  80  deny   Server shop/http
        plain  api  80  deny   Server shop/http
        """,
    ),
    Block(
        "ServerAuthorization of a Server that does not exist",
        "[REF] it is about Servers of its own namespace",
        """
        Server shop/http: {podSelector: {}, port: 80}
        ServerAuthorization jobs/web:
          {server: {name: http}, client: {unauthenticated: true}}
        """,
        """
        web    api  80  deny  Server shop/http
        plain  api  80  deny  Server shop/http
        """,
    ),
]
