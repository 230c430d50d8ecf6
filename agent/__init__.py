"""
Podlock: one agent per node gives every pod mutual TLS under its own identity.

The map of the house, by noun. Imports only go down this list (`./run lint` checks).

    cli        what a person types
    app        the composition root: builds the parts, starts and drains them
    config     one YAML file, flags and environment -> each part's Settings
    status     what we tell: documents and the local status socket
    proxy      what we do with a connection: TLS, tunnels, relay
    redirect   how traffic reaches us: eBPF programs, maps, where pods live, listeners
    kube       where we learn of objects: manifests in a directory, or an API server
    workload   what runs where: pods, services, the directory that locates a peer
    policy     who may talk to whom, with a reason for every no
    identity   who a workload is: SPIFFE, certificates, the authority, renewal
    hbone      the tunnel's wire format: HTTP/2 CONNECT, bytes in, events out
    addresses, findings, log, spelling, errors

One connection's path, from the application's connect() to the other's accept():

    connect() in pod A
      -> bpf/redirect.c          remembers the destination, turns to 127.0.0.1:15001
      -> proxy/outbound.py       locates (routing), identifies, picks a tunnel (pool)
      -> proxy/tunnel.py         HTTP/2 CONNECT (hbone) over mutual TLS (tls)
      ~~ the wire ~~             pod B's address, port 15008
      -> proxy/inbound.py        who is it (tls), may it (policy.decision)
      -> bpf/redirect.c          accept() in pod B shows pod A's address

Inside a domain, cores and edges are separate files. A core takes bytes, values and
`now`, and returns values or raises: no trio, socket, clock or environment in it.
"""

__version__ = "0.1.0"
