"""
Istio's AuthorizationPolicy and PeerAuthentication at an L4 proxy.

Sources: [AP] istio.io, reference "Authorization Policy"; [COND] reference
"Authorization Policy Conditions"; [IMPL] concepts "Security", implicit enablement and
order of actions; [L4] ambient usage "Use Layer 4 security policy"; [PA] reference
"PeerAuthentication"; [DRY] task "Dry Run"; [ZT] the match algebra of ztunnel's rbac.
"""

from __future__ import annotations

from typing import Final

from tests.unit.policy.tables.block import Block

BLOCKS: Final = [
    Block(
        "no policy",
        "[IMPL] without any policy that applies, everything is allowed",
        "{}",
        """
        web      api  80    allow  configuration
        foreign  api  80    allow  configuration
        plain    api  8080  allow  configuration
        outside6 job  1     allow  configuration
        """,
    ),
    Block(
        "allow nothing",
        "[AP] `spec: {}` is an ALLOW policy that never matches: nobody gets in",
        "Istio AuthorizationPolicy shop/none: {}",
        """
        web    api   80  deny   Istio AuthorizationPolicy shop/none
        plain  api   80  deny   Istio AuthorizationPolicy shop/none
        web    cart  80  deny   Istio AuthorizationPolicy shop/none
        web    job   80  allow  configuration
        web    root  80  allow  configuration
        """,
    ),
    Block(
        "allow nothing by an empty list",
        "[ZT] empty rules never match",
        "Istio AuthorizationPolicy shop/none: {action: ALLOW, rules: []}",
        """
        web    api   80  deny   Istio AuthorizationPolicy shop/none
        batch  api   80  deny   Istio AuthorizationPolicy shop/none
        plain  cart  80  deny   Istio AuthorizationPolicy shop/none
        """,
    ),
    Block(
        "deny nothing",
        "[ZT] empty rules never match: such a DENY refuses nobody",
        "Istio AuthorizationPolicy shop/none: {action: DENY, rules: []}",
        """
        web    api  80  allow  configuration
        plain  api  80  allow  configuration
        """,
    ),
    Block(
        "allow everything",
        "[AP] `rules: [{}]` matches every request",
        "Istio AuthorizationPolicy shop/all: {rules: [{}]}",
        """
        web      api  80    allow  Istio AuthorizationPolicy shop/all
        foreign  api  9000  allow  Istio AuthorizationPolicy shop/all
        plain    api  80    allow  Istio AuthorizationPolicy shop/all
        outside6 api  80    allow  Istio AuthorizationPolicy shop/all
        plain    job  80    allow  configuration
        """,
    ),
    Block(
        "deny everything",
        "[AP] DENY with `rules: [{}]`",
        "Istio AuthorizationPolicy shop/all: {action: DENY, rules: [{}]}",
        """
        web      api   80    deny   Istio AuthorizationPolicy shop/all
        plain    cart  9000  deny   Istio AuthorizationPolicy shop/all
        web      job   80    allow  configuration
        """,
    ),
    Block(
        "an empty clause always matches",
        "[ZT] a clause without matches holds",
        """
        Istio AuthorizationPolicy shop/all: {rules: [{}]}
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/all
        plain  api  81  allow  Istio AuthorizationPolicy shop/all
        """,
    ),
    Block(
        "principals, exact",
        "[AP] source.principals: trust-domain/ns/N/sa/S, exact",
        """
        Istio AuthorizationPolicy shop/web:
          rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/web
        web      api  81  allow  Istio AuthorizationPolicy shop/web
        batch    api  80  deny   Istio AuthorizationPolicy shop/web
        edge     api  80  deny   Istio AuthorizationPolicy shop/web
        vm       api  80  deny   Istio AuthorizationPolicy shop/web
        foreign  api  80  deny   Istio AuthorizationPolicy shop/web
        plain    api  80  deny   Istio AuthorizationPolicy shop/web
        """,
    ),
    Block(
        "principals, prefix",
        "[AP] prefix match: `abc*`",
        """
        Istio AuthorizationPolicy shop/p:
          rules: [{from: [{source: {principals: ["cluster.local/ns/shop/*"]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/p
        edge     api  80  allow  Istio AuthorizationPolicy shop/p
        batch    api  80  deny   Istio AuthorizationPolicy shop/p
        dotted   api  80  deny   Istio AuthorizationPolicy shop/p
        foreign  api  80  deny   Istio AuthorizationPolicy shop/p
        plain    api  80  deny   Istio AuthorizationPolicy shop/p
        """,
    ),
    Block(
        "principals, suffix",
        "[AP] suffix match: `*abc`",
        """
        Istio AuthorizationPolicy shop/s:
          rules: [{from: [{source: {principals: ["*/sa/web"]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/s
        foreign  api  80  allow  Istio AuthorizationPolicy shop/s
        dotted   api  80  deny   Istio AuthorizationPolicy shop/s
        batch    api  80  deny   Istio AuthorizationPolicy shop/s
        outside  api  80  deny   Istio AuthorizationPolicy shop/s
        """,
    ),
    Block(
        "principals, presence",
        "[AP] `*` matches anything that is not empty: any peer with mutual TLS",
        """
        Istio AuthorizationPolicy shop/mtls:
          rules: [{from: [{source: {principals: ["*"]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/mtls
        vm       api  80  allow  Istio AuthorizationPolicy shop/mtls
        foreign  api  80  allow  Istio AuthorizationPolicy shop/mtls
        plain    api  80  deny   Istio AuthorizationPolicy shop/mtls
        mapped   api  80  deny   Istio AuthorizationPolicy shop/mtls
        outside6 api  80  deny   Istio AuthorizationPolicy shop/mtls
        """,
    ),
    Block(
        "trust domains",
        "[AP] source.trustDomains and notTrustDomains, of the peer's certificate",
        """
        Istio AuthorizationPolicy shop/domains:
          rules: [{from: [{source: {trustDomains: [cluster.local]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/domains
        foreign  api  80  deny   Istio AuthorizationPolicy shop/domains
        plain    api  80  deny   Istio AuthorizationPolicy shop/domains
        """,
    ),
    Block(
        "a DENY of other trust domains",
        "[AP] notTrustDomains is a negative match; plaintext has no trust domain",
        """
        Istio AuthorizationPolicy shop/domains:
          action: DENY
          rules: [{from: [{source: {notTrustDomains: [cluster.local]}}]}]
        """,
        """
        web      api  80  allow  configuration
        foreign  api  80  deny   Istio AuthorizationPolicy shop/domains
        plain    api  80  deny   Istio AuthorizationPolicy shop/domains
        """,
    ),
    Block(
        "a condition on the service account",
        "[AC] source.serviceAccount: of the policy's namespace, or NAMESPACE/NAME",
        """
        Istio AuthorizationPolicy shop/account:
          action: DENY
          rules: [{when: [{key: source.serviceAccount, values: [web, jobs/batch]}]}]
        """,
        """
        web      api  80  deny   Istio AuthorizationPolicy shop/account
        batch    api  80  deny   Istio AuthorizationPolicy shop/account
        plain    api  80  allow  configuration
        """,
    ),
    Block(
        "notPrincipals admits plaintext",
        "[ZT] a negative holds where there is no identity; [AP] negative matches",
        """
        Istio AuthorizationPolicy shop/but:
          rules: [{from: [{source: {notPrincipals: [cluster.local/ns/jobs/sa/batch]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/but
        vm       api  80  allow  Istio AuthorizationPolicy shop/but
        plain    api  80  allow  Istio AuthorizationPolicy shop/but
        outside6 api  80  allow  Istio AuthorizationPolicy shop/but
        batch    api  80  deny   Istio AuthorizationPolicy shop/but
        """,
    ),
    Block(
        "notPrincipals with presence is what STRICT means",
        "[PA] STRICT is compiled to this DENY for ztunnel",
        """
        Istio AuthorizationPolicy shop/strict:
          action: DENY
          rules: [{from: [{source: {notPrincipals: ["*"]}}]}]
        """,
        """
        web      api  80  allow  configuration
        foreign  api  80  allow  configuration
        plain    api  80  deny   Istio AuthorizationPolicy shop/strict
        mapped   api  80  deny   Istio AuthorizationPolicy shop/strict
        """,
    ),
    Block(
        "principals and notPrincipals",
        "[ZT] positive and negative of one field must both hold",
        """
        Istio AuthorizationPolicy shop/but:
          rules:
          - from:
            - source:
                principals: ["cluster.local/ns/shop/*"]
                notPrincipals: [cluster.local/ns/shop/sa/edge]
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/but
        edge   api  80  deny   Istio AuthorizationPolicy shop/but
        batch  api  80  deny   Istio AuthorizationPolicy shop/but
        plain  api  80  deny   Istio AuthorizationPolicy shop/but
        """,
    ),
    Block(
        "namespaces",
        "[AP] source.namespaces, of the peer's certificate",
        """
        Istio AuthorizationPolicy shop/ns:
          rules: [{from: [{source: {namespaces: [jobs]}}]}]
        """,
        """
        batch    api  80  allow  Istio AuthorizationPolicy shop/ns
        dotted   api  80  allow  Istio AuthorizationPolicy shop/ns
        web      api  80  deny   Istio AuthorizationPolicy shop/ns
        vm       api  80  deny   Istio AuthorizationPolicy shop/ns
        plain    api  80  deny   Istio AuthorizationPolicy shop/ns
        """,
    ),
    Block(
        "namespaces of any trust domain",
        "[ZT] the namespace alone is compared",
        """
        Istio AuthorizationPolicy shop/ns:
          rules: [{from: [{source: {namespaces: ["sh*", "*bs"]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/ns
        foreign  api  80  allow  Istio AuthorizationPolicy shop/ns
        batch    api  80  allow  Istio AuthorizationPolicy shop/ns
        vm       api  80  deny   Istio AuthorizationPolicy shop/ns
        plain    api  80  deny   Istio AuthorizationPolicy shop/ns
        """,
    ),
    Block(
        "notNamespaces admits plaintext too",
        "[ZT] negative of what is not there holds",
        """
        Istio AuthorizationPolicy shop/ns:
          rules: [{from: [{source: {notNamespaces: [shop]}}]}]
        """,
        """
        batch    api  80  allow  Istio AuthorizationPolicy shop/ns
        vm       api  80  allow  Istio AuthorizationPolicy shop/ns
        plain    api  80  allow  Istio AuthorizationPolicy shop/ns
        web      api  80  deny   Istio AuthorizationPolicy shop/ns
        foreign  api  80  deny   Istio AuthorizationPolicy shop/ns
        """,
    ),
    Block(
        "serviceAccounts",
        "[AP] serviceAccounts: NAME in the policy's namespace, or NAMESPACE/NAME",
        """
        Istio AuthorizationPolicy shop/sa:
          rules: [{from: [{source: {serviceAccounts: [web, jobs/batch]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/sa
        batch    api  80  allow  Istio AuthorizationPolicy shop/sa
        edge     api  80  deny   Istio AuthorizationPolicy shop/sa
        dotted   api  80  deny   Istio AuthorizationPolicy shop/sa
        vm       api  80  deny   Istio AuthorizationPolicy shop/sa
        plain    api  80  deny   Istio AuthorizationPolicy shop/sa
        """,
    ),
    Block(
        "a short serviceAccount is of the policy's namespace",
        "[AP] without a namespace, that of the AuthorizationPolicy",
        """
        Istio AuthorizationPolicy jobs/sa:
          rules: [{from: [{source: {serviceAccounts: [batch]}}]}]
        """,
        """
        batch  job  80  allow  Istio AuthorizationPolicy jobs/sa
        web    job  80  deny   Istio AuthorizationPolicy jobs/sa
        web    api  80  allow  configuration
        """,
    ),
    Block(
        "notServiceAccounts",
        "[AP] negative of serviceAccounts",
        """
        Istio AuthorizationPolicy shop/sa:
          action: DENY
          rules: [{from: [{source: {notServiceAccounts: [web]}}]}]
        """,
        """
        web    api  80  allow  configuration
        edge   api  80  deny   Istio AuthorizationPolicy shop/sa
        batch  api  80  deny   Istio AuthorizationPolicy shop/sa
        plain  api  80  deny   Istio AuthorizationPolicy shop/sa
        """,
    ),
    Block(
        "ipBlocks",
        "[AP] ipBlocks: an address or a CIDR, of the connection's source",
        """
        Istio AuthorizationPolicy shop/ip:
          rules: [{from: [{source: {ipBlocks: [10.1.0.0/16, 192.0.2.9]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/ip
        outside  api  80  allow  Istio AuthorizationPolicy shop/ip
        edge     api  80  deny   Istio AuthorizationPolicy shop/ip
        batch    api  80  deny   Istio AuthorizationPolicy shop/ip
        plain    api  80  deny   Istio AuthorizationPolicy shop/ip
        outside6 api  80  deny   Istio AuthorizationPolicy shop/ip
        """,
    ),
    Block(
        "ipBlocks of both families",
        "[AP] IPv6 too; an IPv4-mapped source is IPv4 (RFC 4291 2.5.5.2)",
        """
        Istio AuthorizationPolicy shop/ip:
          rules: [{from: [{source: {ipBlocks: ["fd00::/8", 10.3.0.0/24]}}]}]
        """,
        """
        plain6   api  80  allow  Istio AuthorizationPolicy shop/ip
        plain    api  80  allow  Istio AuthorizationPolicy shop/ip
        mapped   api  80  allow  Istio AuthorizationPolicy shop/ip
        outside6 api  80  deny   Istio AuthorizationPolicy shop/ip
        web      api  80  deny   Istio AuthorizationPolicy shop/ip
        """,
    ),
    Block(
        "everything of one family only",
        "[ZT] families never match each other",
        """
        Istio AuthorizationPolicy shop/v4:
          rules: [{from: [{source: {ipBlocks: [0.0.0.0/0]}}]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/v4
        mapped   api  80  allow  Istio AuthorizationPolicy shop/v4
        plain6   api  80  deny   Istio AuthorizationPolicy shop/v4
        """,
    ),
    Block(
        "host bits",
        "[AP] a CIDR with host bits is its network (Go's ParseCIDR)",
        """
        Istio AuthorizationPolicy shop/ip:
          rules: [{from: [{source: {ipBlocks: [10.1.200.3/16]}}]}]
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/ip
        batch  api  80  deny   Istio AuthorizationPolicy shop/ip
        """,
    ),
    Block(
        "notIpBlocks",
        "[AP] negative of ipBlocks",
        """
        Istio AuthorizationPolicy shop/ip:
          rules: [{from: [{source: {notIpBlocks: [10.0.0.0/8]}}]}]
        """,
        """
        edge     api  80  allow  Istio AuthorizationPolicy shop/ip
        outside  api  80  allow  Istio AuthorizationPolicy shop/ip
        outside6 api  80  allow  Istio AuthorizationPolicy shop/ip
        web      api  80  deny   Istio AuthorizationPolicy shop/ip
        mapped   api  80  deny   Istio AuthorizationPolicy shop/ip
        """,
    ),
    Block(
        "ipBlocks without notIpBlocks",
        "[ZT] positive and negative of one field must both hold",
        """
        Istio AuthorizationPolicy shop/ip:
          rules:
          - from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.2.0.0/16]}}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/ip
        plain    api  80  allow  Istio AuthorizationPolicy shop/ip
        batch    api  80  deny   Istio AuthorizationPolicy shop/ip
        outside  api  80  deny   Istio AuthorizationPolicy shop/ip
        """,
    ),
    Block(
        "fields of one source must all hold",
        "[AP] fields in a source are and-ed",
        """
        Istio AuthorizationPolicy shop/and:
          rules: [{from: [{source: {namespaces: [shop], ipBlocks: [10.0.0.0/8]}}]}]
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/and
        edge   api  80  deny   Istio AuthorizationPolicy shop/and
        batch  api  80  deny   Istio AuthorizationPolicy shop/and
        plain  api  80  deny   Istio AuthorizationPolicy shop/and
        """,
    ),
    Block(
        "sources of one rule are alternatives",
        "[AP] items of `from` are or-ed",
        """
        Istio AuthorizationPolicy shop/or:
          rules:
          - from: [{source: {namespaces: [jobs]}}, {source: {ipBlocks: [10.3.0.5]}}]
        """,
        """
        batch    api  80  allow  Istio AuthorizationPolicy shop/or
        plain    api  80  allow  Istio AuthorizationPolicy shop/or
        mapped   api  80  allow  Istio AuthorizationPolicy shop/or
        web      api  80  deny   Istio AuthorizationPolicy shop/or
        plain6   api  80  deny   Istio AuthorizationPolicy shop/or
        """,
    ),
    Block(
        "ports",
        "[AP] operation.ports, of the workload, as text",
        """
        Istio AuthorizationPolicy shop/ports:
          rules: [{to: [{operation: {ports: ["80", "8080"]}}]}]
        """,
        """
        web    api  80    allow  Istio AuthorizationPolicy shop/ports
        plain  api  8080  allow  Istio AuthorizationPolicy shop/ports
        web    api  81    deny   Istio AuthorizationPolicy shop/ports
        plain  api  9000  deny   Istio AuthorizationPolicy shop/ports
        """,
    ),
    Block(
        "notPorts",
        "[AP] negative of ports",
        """
        Istio AuthorizationPolicy shop/ports:
          action: DENY
          rules: [{to: [{operation: {notPorts: ["80", "8080"]}}]}]
        """,
        """
        web    api  80    allow  configuration
        plain  api  8080  allow  configuration
        web    api  81    deny   Istio AuthorizationPolicy shop/ports
        """,
    ),
    Block(
        "operations are alternatives",
        "[AP] items of `to` are or-ed",
        """
        Istio AuthorizationPolicy shop/to:
          rules:
          - to: [{operation: {ports: ["80"]}}, {operation: {ports: ["443", "81"]}}]
        """,
        """
        web  api  80   allow  Istio AuthorizationPolicy shop/to
        web  api  443  allow  Istio AuthorizationPolicy shop/to
        web  api  81   allow  Istio AuthorizationPolicy shop/to
        web  api  82   deny   Istio AuthorizationPolicy shop/to
        """,
    ),
    Block(
        "alternatives of ports and of exclusions",
        "[ZT] a clause is the union of its matches",
        """
        Istio AuthorizationPolicy shop/to:
          rules:
          - to:
            - operation: {notPorts: ["80", "81"]}
            - operation: {notPorts: ["81", "82"]}
            - operation: {ports: ["90", "81"], notPorts: ["81"]}
        """,
        """
        web  api  80  allow  Istio AuthorizationPolicy shop/to
        web  api  82  allow  Istio AuthorizationPolicy shop/to
        web  api  83  allow  Istio AuthorizationPolicy shop/to
        web  api  81  deny   Istio AuthorizationPolicy shop/to
        """,
    ),
    Block(
        "ports minus ports",
        "[ZT] positive and negative of one field must both hold, in each operation",
        """
        Istio AuthorizationPolicy shop/to:
          rules:
          - to:
            - operation: {ports: ["80", "81"], notPorts: ["81"]}
            - operation: {ports: ["82"], notPorts: ["82"]}
        """,
        """
        web  api  80  allow  Istio AuthorizationPolicy shop/to
        web  api  81  deny   Istio AuthorizationPolicy shop/to
        web  api  82  deny   Istio AuthorizationPolicy shop/to
        """,
    ),
    Block(
        "from, to and when must all hold",
        "[AP] the parts of one rule are and-ed",
        """
        Istio AuthorizationPolicy shop/all:
          rules:
          - from: [{source: {namespaces: [shop]}}]
            to: [{operation: {ports: ["80"]}}]
            when: [{key: source.ip, values: [10.0.0.0/8]}]
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/all
        web    api  81  deny   Istio AuthorizationPolicy shop/all
        batch  api  80  deny   Istio AuthorizationPolicy shop/all
        edge   api  80  deny   Istio AuthorizationPolicy shop/all
        """,
    ),
    Block(
        "rules are alternatives",
        "[AP] any rule that matches is enough",
        """
        Istio AuthorizationPolicy shop/two:
          rules:
          - {from: [{source: {namespaces: [shop]}}], to: [{operation: {ports: ["80"]}}]}
          - {from: [{source: {namespaces: [jobs]}}], to: [{operation: {ports: ["81"]}}]}
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/two
        batch  api  81  allow  Istio AuthorizationPolicy shop/two
        web    api  81  deny   Istio AuthorizationPolicy shop/two
        batch  api  80  deny   Istio AuthorizationPolicy shop/two
        """,
    ),
    Block(
        "when source.principal",
        "[COND] source.principal",
        """
        Istio AuthorizationPolicy shop/when:
          rules:
          - when:
            - key: source.principal
              values: ["cluster.local/ns/shop/*"]
              notValues: ["*/sa/edge"]
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/when
        edge   api  80  deny   Istio AuthorizationPolicy shop/when
        batch  api  80  deny   Istio AuthorizationPolicy shop/when
        plain  api  80  deny   Istio AuthorizationPolicy shop/when
        """,
    ),
    Block(
        "when source.namespace",
        "[COND] source.namespace",
        """
        Istio AuthorizationPolicy shop/when:
          rules: [{when: [{key: source.namespace, values: [jobs]}]}]
        """,
        """
        batch  api  80  allow  Istio AuthorizationPolicy shop/when
        web    api  80  deny   Istio AuthorizationPolicy shop/when
        plain  api  80  deny   Istio AuthorizationPolicy shop/when
        """,
    ),
    Block(
        "when source.ip",
        "[COND] source.ip, an address or a CIDR",
        """
        Istio AuthorizationPolicy shop/when:
          rules:
          - when: [{key: source.ip, values: [10.0.0.0/8], notValues: [10.3.0.5]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/when
        plain    api  80  deny   Istio AuthorizationPolicy shop/when
        mapped   api  80  deny   Istio AuthorizationPolicy shop/when
        outside  api  80  deny   Istio AuthorizationPolicy shop/when
        """,
    ),
    Block(
        "when destination.ip",
        "[COND] destination.ip",
        """
        Istio AuthorizationPolicy shop/when:
          rules: [{when: [{key: destination.ip, values: [10.1.0.20]}]}]
        """,
        """
        web    api   80  allow  Istio AuthorizationPolicy shop/when
        plain  api   80  allow  Istio AuthorizationPolicy shop/when
        web    cart  80  deny   Istio AuthorizationPolicy shop/when
        """,
    ),
    Block(
        "when destination.ip is not",
        "[COND] destination.ip, notValues",
        """
        Istio AuthorizationPolicy shop/when:
          action: DENY
          rules: [{when: [{key: destination.ip, notValues: [10.1.0.20/32]}]}]
        """,
        """
        web  api   80  allow  configuration
        web  cart  80  deny   Istio AuthorizationPolicy shop/when
        """,
    ),
    Block(
        "when destination.port",
        "[COND] destination.port",
        """
        Istio AuthorizationPolicy shop/when:
          rules:
          - to: [{operation: {ports: ["80", "81"]}}]
            when: [{key: destination.port, values: ["81", "82"]}]
        """,
        """
        web  api  81  allow  Istio AuthorizationPolicy shop/when
        web  api  80  deny   Istio AuthorizationPolicy shop/when
        web  api  82  deny   Istio AuthorizationPolicy shop/when
        """,
    ),
    Block(
        "two conditions on one key must both hold",
        "[AP] conditions are and-ed",
        """
        Istio AuthorizationPolicy shop/when:
          rules:
          - from: [{source: {ipBlocks: [10.0.0.0/8]}}]
            when:
            - {key: source.ip, values: [10.1.0.0/16, 10.2.0.0/16, 192.0.2.0/24]}
            - {key: source.ip, values: [10.2.0.0/16, 10.3.0.0/16, 192.0.2.0/24]}
        """,
        """
        batch    api  80  allow  Istio AuthorizationPolicy shop/when
        web      api  80  deny   Istio AuthorizationPolicy shop/when
        plain    api  80  deny   Istio AuthorizationPolicy shop/when
        outside  api  80  deny   Istio AuthorizationPolicy shop/when
        """,
    ),
    Block(
        "an exclusion between two demands of one attribute",
        "[AP] fields and conditions are and-ed, in whatever order",
        """
        Istio AuthorizationPolicy shop/when:
          rules:
          - from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.4.0.0/16]}}]
            when: [{key: source.ip, values: [10.1.0.0/16, 10.4.0.0/16, 192.0.2.0/24]}]
        """,
        """
        web      api  80  allow  Istio AuthorizationPolicy shop/when
        batch    api  80  deny   Istio AuthorizationPolicy shop/when
        vm       api  80  deny   Istio AuthorizationPolicy shop/when
        outside  api  80  deny   Istio AuthorizationPolicy shop/when
        """,
    ),
    Block(
        "DENY before ALLOW",
        "[IMPL] a DENY that matches wins over every ALLOW",
        """
        Istio AuthorizationPolicy shop/a-allow: {rules: [{}]}
        Istio AuthorizationPolicy shop/z-deny:
          action: DENY
          rules: [{from: [{source: {namespaces: [jobs]}}]}]
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/a-allow
        plain  api  80  allow  Istio AuthorizationPolicy shop/a-allow
        batch  api  80  deny   Istio AuthorizationPolicy shop/z-deny
        """,
    ),
    Block(
        "a DENY alone leaves the rest allowed",
        "[IMPL] without an ALLOW policy, what no DENY matches is allowed",
        """
        Istio AuthorizationPolicy shop/deny:
          action: DENY
          rules: [{from: [{source: {principals: [cluster.local/ns/jobs/sa/batch]}}]}]
        """,
        """
        web    api  80  allow  configuration
        plain  api  80  allow  configuration
        batch  api  80  deny   Istio AuthorizationPolicy shop/deny
        """,
    ),
    Block(
        "several ALLOW policies are alternatives",
        "[IMPL] any ALLOW policy that matches is enough",
        """
        Istio AuthorizationPolicy shop/one:
          rules: [{from: [{source: {namespaces: [shop]}}]}]
        Istio AuthorizationPolicy shop/two:
          rules: [{from: [{source: {namespaces: [jobs]}}]}]
        Istio AuthorizationPolicy shop/none: {}
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/one
        batch  api  80  allow  Istio AuthorizationPolicy shop/two
        plain  api  80  deny   Istio AuthorizationPolicy shop/one
        """,
    ),
    Block(
        "selector",
        "[AP] selector: pods of the policy's namespace with these labels",
        """
        Istio AuthorizationPolicy shop/api:
          selector: {matchLabels: {app: api, tier: back}}
        """,
        """
        web  api   80  deny   Istio AuthorizationPolicy shop/api
        web  cart  80  allow  configuration
        web  job   80  allow  configuration
        """,
    ),
    Block(
        "a selector of labels that nobody has",
        "[AP] all labels must be there",
        """
        Istio AuthorizationPolicy shop/api:
          selector: {matchLabels: {app: api, tier: front}}
        """,
        """
        web  api   80  allow  configuration
        web  cart  80  allow  configuration
        """,
    ),
    Block(
        "an empty selector is the namespace",
        "[AP] without labels it selects all workloads of its namespace",
        "Istio AuthorizationPolicy shop/all: {selector: {}}",
        """
        web  api   80  deny   Istio AuthorizationPolicy shop/all
        web  cart  80  deny   Istio AuthorizationPolicy shop/all
        web  job   80  allow  configuration
        """,
    ),
    Block(
        "the root namespace is the mesh",
        "[AP] a policy in the root namespace applies to all namespaces",
        """
        Istio AuthorizationPolicy istio-system/mesh:
          action: DENY
          rules: [{from: [{source: {namespaces: [jobs]}}]}]
        """,
        """
        batch  api   80  deny   Istio AuthorizationPolicy istio-system/mesh
        batch  job   80  deny   Istio AuthorizationPolicy istio-system/mesh
        batch  root  80  deny   Istio AuthorizationPolicy istio-system/mesh
        web    api   80  allow  configuration
        """,
    ),
    Block(
        "a selector in the root namespace",
        "[AP] in the root namespace the selector is for all namespaces",
        """
        Istio AuthorizationPolicy istio-system/jobs:
          selector: {matchLabels: {app: job}}
        """,
        """
        web  job   80  deny   Istio AuthorizationPolicy istio-system/jobs
        web  api   80  allow  configuration
        web  root  80  allow  configuration
        """,
    ),
    Block(
        "ALLOW of the mesh, the namespace and the workload",
        "[IMPL] the policies of all scopes are one union",
        """
        Istio AuthorizationPolicy istio-system/mesh:
          rules: [{from: [{source: {principals: ["*/sa/edge"]}}]}]
        Istio AuthorizationPolicy shop/ns:
          rules: [{from: [{source: {namespaces: [jobs]}}]}]
        Istio AuthorizationPolicy shop/pod:
          selector: {matchLabels: {app: api}}
          rules: [{from: [{source: {principals: ["*/sa/web"]}}]}]
        """,
        """
        edge   api   80  allow  Istio AuthorizationPolicy istio-system/mesh
        batch  api   80  allow  Istio AuthorizationPolicy shop/ns
        web    api   80  allow  Istio AuthorizationPolicy shop/pod
        plain  api   80  deny   Istio AuthorizationPolicy shop/pod
        web    cart  80  deny   Istio AuthorizationPolicy shop/ns
        edge   cart  80  allow  Istio AuthorizationPolicy istio-system/mesh
        web    job   80  deny   Istio AuthorizationPolicy istio-system/mesh
        """,
    ),
    Block(
        "targetRefs to a Service",
        "[AP] targetRefs; here the pods behind the Service (DECISIONS.md, 47)",
        """
        Istio AuthorizationPolicy shop/svc:
          targetRefs: [{kind: Service, group: "", name: api}]
          rules: [{from: [{source: {namespaces: [shop]}}]}]
        """,
        """
        web    api   80  allow  Istio AuthorizationPolicy shop/svc
        batch  api   80  deny   Istio AuthorizationPolicy shop/svc
        batch  cart  80  allow  configuration
        """,
    ),
    Block(
        "the single targetRef of before",
        "[AP] targetRef, deprecated",
        """
        Istio AuthorizationPolicy shop/svc: {targetRef: {kind: Service, name: api}}
        """,
        """
        web  api   80  deny   Istio AuthorizationPolicy shop/svc
        web  cart  80  allow  configuration
        """,
    ),
    Block(
        "targets that are not pods of ours",
        "[AP] Gateways and waypoints are enforced elsewhere; so is what does not exist",
        """
        Istio AuthorizationPolicy shop/gw:
          targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: in}]
        Istio AuthorizationPolicy shop/missing:
          targetRefs: [{kind: Service, name: missing}]
        Istio AuthorizationPolicy shop/headless:
          targetRefs: [{kind: Service, name: headless}]
        Istio AuthorizationPolicy jobs/across:
          targetRefs: [{kind: Service, name: api, namespace: shop}]
        """,
        """
        web  api   80  allow  configuration
        web  cart  80  allow  configuration
        web  job   80  allow  configuration
        """,
    ),
    Block(
        "ALLOW with HTTP never matches",
        "[L4] rules of ALLOW with HTTP attributes are left out: stricter",
        """
        Istio AuthorizationPolicy shop/http:
          rules:
          - to: [{operation: {methods: [GET], ports: ["80"]}}]
          - to: [{operation: {ports: ["81"]}}]
        """,
        """
        web    api  80  deny   Istio AuthorizationPolicy shop/http
        web    api  81  allow  Istio AuthorizationPolicy shop/http
        plain  api  80  deny   Istio AuthorizationPolicy shop/http
        """,
    ),
    Block(
        "one HTTP operation spoils the whole ALLOW rule",
        "[L4] the rule is left out, not the operation",
        """
        Istio AuthorizationPolicy shop/http:
          rules:
          - to: [{operation: {ports: ["80"]}}, {operation: {paths: [/admin]}}]
        """,
        """
        web  api  80  deny  Istio AuthorizationPolicy shop/http
        web  api  81  deny  Istio AuthorizationPolicy shop/http
        """,
    ),
    Block(
        "ALLOW with requestPrincipals never matches",
        "[L4] requestPrincipals need a JWT, so HTTP",
        """
        Istio AuthorizationPolicy shop/jwt:
          rules:
          - from: [{source: {requestPrincipals: ["*"], namespaces: [shop]}}]
          - from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]
          - when: [{key: "request.auth.claims[iss]", values: [me]}]
          - when: [{key: connection.sni, values: [example.com]}]
        """,
        """
        web    api  80  deny  Istio AuthorizationPolicy shop/jwt
        plain  api  80  deny  Istio AuthorizationPolicy shop/jwt
        """,
    ),
    Block(
        "DENY keeps its L4 part",
        "[L4] HTTP attributes of DENY are left out: stricter",
        """
        Istio AuthorizationPolicy shop/http:
          action: DENY
          rules:
          - from: [{source: {namespaces: [jobs], requestPrincipals: ["*"]}}]
            to: [{operation: {methods: [POST], ports: ["80"]}}]
        """,
        """
        batch  api  80  deny   Istio AuthorizationPolicy shop/http
        batch  api  81  allow  configuration
        web    api  80  allow  configuration
        plain  api  80  allow  configuration
        """,
    ),
    Block(
        "DENY with nothing but HTTP",
        "[ZT] an empty match never matches; [L4] such a DENY has no effect",
        """
        Istio AuthorizationPolicy shop/http:
          action: DENY
          rules:
          - to: [{operation: {methods: [POST]}}]
          - from: [{source: {requestPrincipals: ["*"]}}]
          - when: [{key: "request.headers[x]", values: [y]}]
        """,
        """
        batch  api  80  allow  configuration
        plain  api  80  allow  configuration
        """,
    ),
    Block(
        "DENY with an HTTP alternative keeps the other",
        "[ZT] empty matches are skipped, others of the clause count",
        """
        Istio AuthorizationPolicy shop/http:
          action: DENY
          rules:
          - to: [{operation: {methods: [POST]}}, {operation: {ports: ["80"]}}]
          - from: [{source: {requestPrincipals: ["*"]}}, {source: {namespaces: [jobs]}}]
        """,
        """
        web    api  80  deny   Istio AuthorizationPolicy shop/http
        batch  api  81  deny   Istio AuthorizationPolicy shop/http
        web    api  81  allow  configuration
        """,
    ),
    Block(
        "AUDIT and CUSTOM",
        "[L4] ztunnel supports ALLOW and DENY only; others have no effect",
        """
        Istio AuthorizationPolicy shop/audit: {action: AUDIT, rules: [{}]}
        Istio AuthorizationPolicy shop/custom:
          {action: CUSTOM, provider: {name: x}, rules: [{}]}
        """,
        """
        web    api  80  allow  configuration
        plain  api  80  allow  configuration
        """,
    ),
    Block(
        "dry-run DENY",
        "[DRY] judged, told, not enforced",
        """
        Istio AuthorizationPolicy shop/try?:
          action: DENY
          rules: [{from: [{source: {namespaces: [jobs]}}]}]
        """,
        """
        batch  api   80  allow  configuration ~ Istio AuthorizationPolicy shop/try
        web    api   80  allow  configuration
        plain  api   80  allow  configuration
        batch  job   80  allow  configuration
        """,
    ),
    Block(
        "dry-run ALLOW",
        "[DRY] would deny whom no ALLOW matches, were it enforced",
        """
        Istio AuthorizationPolicy shop/try?:
          rules: [{from: [{source: {namespaces: [shop]}}]}]
        """,
        """
        web    api  80  allow  configuration
        batch  api  80  allow  configuration ~ Istio AuthorizationPolicy shop/try
        plain  api  80  allow  configuration ~ Istio AuthorizationPolicy shop/try
        """,
    ),
    Block(
        "dry-run ALLOW beside an enforced one",
        "[IMPL] one more ALLOW policy can only allow more",
        """
        Istio AuthorizationPolicy shop/real:
          rules: [{from: [{source: {namespaces: [jobs]}}]}]
        Istio AuthorizationPolicy shop/try?:
          rules: [{from: [{source: {namespaces: [shop]}}]}]
        """,
        """
        batch  api  80  allow  Istio AuthorizationPolicy shop/real
        web    api  80  deny   Istio AuthorizationPolicy shop/real
        """,
    ),
    Block(
        "dry-run of both kinds",
        "[DRY] each is told",
        """
        Istio AuthorizationPolicy shop/deny?:
          {action: DENY, rules: [{to: [{operation: {ports: ["80"]}}]}]}
        Istio AuthorizationPolicy shop/none?: {}
        """,
        """
        web  api  80  allow  configuration ~ Istio AuthorizationPolicy shop/deny, Istio AuthorizationPolicy shop/none
        web  api  81  allow  configuration ~ Istio AuthorizationPolicy shop/none
        """,  # noqa: E501 - a row is a line
    ),
    Block(
        "STRICT of a namespace",
        "[PA] STRICT: plaintext is refused",
        "Istio PeerAuthentication shop/default: {mtls: {mode: STRICT}}",
        """
        web      api   80  allow  configuration
        foreign  api   80  allow  configuration
        plain    api   80  deny   Istio PeerAuthentication shop/default
        mapped   cart  80  deny   Istio PeerAuthentication shop/default
        plain    job   80  allow  configuration
        """,
    ),
    Block(
        "STRICT of the mesh",
        "[PA] in the root namespace, for all namespaces",
        "Istio PeerAuthentication istio-system/default: {mtls: {mode: STRICT}}",
        """
        plain  api   80  deny   Istio PeerAuthentication istio-system/default
        plain  job   80  deny   Istio PeerAuthentication istio-system/default
        plain  root  80  deny   Istio PeerAuthentication istio-system/default
        web    job   80  allow  configuration
        """,
    ),
    Block(
        "the narrower scope wins",
        "[PA] workload over namespace over mesh",
        """
        Istio PeerAuthentication istio-system/default: {mtls: {mode: STRICT}}
        Istio PeerAuthentication shop/default: {mtls: {mode: PERMISSIVE}}
        Istio PeerAuthentication shop/cart:
          {selector: {matchLabels: {app: cart}}, mtls: {mode: STRICT}}
        """,
        """
        plain  api   80  allow  configuration
        plain  cart  80  deny   Istio PeerAuthentication shop/cart
        plain  job   80  deny   Istio PeerAuthentication istio-system/default
        web    cart  80  allow  configuration
        """,
    ),
    Block(
        "UNSET inherits",
        "[PA] UNSET inherits from the parent; PERMISSIVE where there is none",
        """
        Istio PeerAuthentication istio-system/default: {mtls: {mode: STRICT}}
        Istio PeerAuthentication shop/default: {mtls: {mode: UNSET}}
        Istio PeerAuthentication jobs/default: {}
        Istio PeerAuthentication shop/api: {selector: {matchLabels: {app: api}}}
        """,
        """
        plain  api   80  deny  Istio PeerAuthentication istio-system/default
        plain  cart  80  deny  Istio PeerAuthentication istio-system/default
        plain  job   80  deny  Istio PeerAuthentication istio-system/default
        """,
    ),
    Block(
        "UNSET of the mesh is PERMISSIVE",
        "[PA] the default of the mesh",
        "Istio PeerAuthentication istio-system/default: {mtls: {mode: UNSET}}",
        """
        plain  api  80  allow  configuration
        web    api  80  allow  configuration
        """,
    ),
    Block(
        "DISABLE is PERMISSIVE",
        "[PA] DISABLE is not supported in ambient mode; mutual TLS stays possible",
        """
        Istio PeerAuthentication shop/default: {mtls: {mode: STRICT}}
        Istio PeerAuthentication shop/api:
          {selector: {matchLabels: {app: api}}, mtls: {mode: DISABLE}}
        """,
        """
        plain  api   80  allow  configuration
        web    api   80  allow  configuration
        plain  cart  80  deny   Istio PeerAuthentication shop/default
        """,
    ),
    Block(
        "a port of its own",
        "[PA] portLevelMtls: STRICT with an open port",
        """
        Istio PeerAuthentication shop/api:
          selector: {matchLabels: {app: api}}
          mtls: {mode: STRICT}
          portLevelMtls: {8080: {mode: PERMISSIVE}, 8081: {mode: DISABLE}}
        """,
        """
        plain  api   80    deny   Istio PeerAuthentication shop/api
        plain  api   8080  allow  configuration
        plain  api   8081  allow  configuration
        web    api   80    allow  configuration
        plain  cart  80    allow  configuration
        """,
    ),
    Block(
        "a strict port",
        "[PA] portLevelMtls: PERMISSIVE with a strict port, UNSET as the workload",
        """
        Istio PeerAuthentication shop/api:
          selector: {matchLabels: {app: api}}
          mtls: {mode: PERMISSIVE}
          portLevelMtls: {"9000": {mode: STRICT}, 9001: {mode: UNSET}, 9002: {}}
        """,
        """
        plain  api  80    allow  configuration
        plain  api  9000  deny   Istio PeerAuthentication shop/api
        web    api  9000  allow  configuration
        plain  api  9001  allow  configuration
        plain  api  9002  allow  configuration
        """,
    ),
    Block(
        "an UNSET workload with ports",
        "[PA] mode inherited from the namespace, overwritten for one port",
        """
        Istio PeerAuthentication shop/default: {mtls: {mode: STRICT}}
        Istio PeerAuthentication shop/api:
          selector: {matchLabels: {app: api}}
          mtls: {mode: UNSET}
          portLevelMtls: {8080: {mode: PERMISSIVE}, 81: {mode: UNSET}}
        """,
        """
        plain  api  80    deny   Istio PeerAuthentication shop/default
        plain  api  8080  allow  configuration
        plain  api  81    deny   Istio PeerAuthentication shop/default
        """,
    ),
    Block(
        "the older of two holds",
        "[PA] of several in one scope the oldest is used",
        """
        Istio PeerAuthentication shop/a:
          {created: "2026-03-01T00:00:00Z", mtls: {mode: STRICT}}
        Istio PeerAuthentication shop/z:
          {created: "2026-01-01T00:00:00Z", mtls: {mode: PERMISSIVE}}
        Istio PeerAuthentication jobs/a:
          created: "2026-03-01T00:00:00Z"
          selector: {matchLabels: {app: job}}
          mtls: {mode: PERMISSIVE}
        Istio PeerAuthentication jobs/z:
          created: "2026-01-01T00:00:00Z"
          selector: {matchLabels: {tier: back}}
          mtls: {mode: STRICT}
        """,
        """
        plain  api  80  allow  configuration
        plain  job  80  deny   Istio PeerAuthentication jobs/z
        """,
    ),
    Block(
        "a selector in the root namespace is ignored",
        "[PA] PeerAuthentications with selectors are ignored in the root namespace",
        """
        Istio PeerAuthentication istio-system/api:
          {selector: {matchLabels: {app: api}}, mtls: {mode: STRICT}}
        """,
        """
        plain  api   80  allow  configuration
        plain  root  80  allow  configuration
        """,
    ),
    Block(
        "STRICT and ALLOW",
        "[PA] [IMPL] both must be met: an ALLOW of addresses does not bypass STRICT",
        """
        Istio PeerAuthentication shop/default: {mtls: {mode: STRICT}}
        Istio AuthorizationPolicy shop/ip:
          rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]
        """,
        """
        web    api  80  allow  Istio AuthorizationPolicy shop/ip
        edge   api  80  deny   Istio AuthorizationPolicy shop/ip
        plain  api  80  deny   Istio PeerAuthentication shop/default
        """,
    ),
]
