"""Steps 1 and 2: every way to reach a peer, and what the wire saw of it."""

from __future__ import annotations

from tests.demo.calls import curl, logged_client, url
from tests.demo.report import Notes
from tests.demo.stage import Stage
from tests.lab import apps
from tests.lab.capture import TUNNEL_PORT, WireTap
from tests.lab.names import DualStack
from tests.lab.pod import Pod

# What two routers and their neighbours say to each other by themselves: address
# resolution, neighbour discovery, multicast listener reports (a hop-by-hop header).
HOUSEKEEPING = {"arp", "icmp6", "ipv6 next header 0"}
TLS_1_3 = 0x0304


def every_address(stage: Stage, notes: Notes) -> None:
    """HTTP, redis and FTP by pod and Service address, in both families and mapped."""
    stage.tap = WireTap(stage.lab, "step-1")
    with stage.tap:
        _http(stage, notes)
        _peer_names(stage, notes)
        _redis(stage, notes)
        _ftp(stage, notes)


def _http(stage: Stage, notes: Notes) -> None:
    web, api = stage.pods["web"], stage.pods["api"]
    notes.did("curl from web (node 1) to nginx in api (node 2)")
    for kind, addresses in (("pod", api.address), ("Service", stage.service("api"))):
        for address in addresses:
            path = f"/?{kind}-{address}-{stage.secret}"
            answer = curl(web, url(address, path))
            page = answer.served and answer.body == stage.page("api")
            asked = f"{kind} address {address}"
            if notes.saw(f"{asked}: {answer}, remote {answer.remote}", page):
                notes.saw(
                    f"{asked} is what curl is connected to", answer.remote == address
                )
                _logged(notes, web, api, path)


def _logged(notes: Notes, web: Pod, api: Pod, path: str) -> None:
    """nginx must show web's own address and have been asked at its own."""
    client, server = logged_client(api, path)
    ends = {(web.address.v4, api.address.v4), (web.address.v6, api.address.v6)}
    notes.saw(
        f"nginx's access log: client {client} at {server}", (client, server) in ends
    )


def _peer_names(stage: Stage, notes: Notes) -> None:
    web, api = stage.pods["web"], stage.pods["api"]
    notes.did("connect from web by IPv4, IPv6 and IPv4-mapped sockets: getpeername()")
    for target in (api.address, stage.service("api")):
        for how, asked in _ways(target):
            host = target.v4 if how else asked
            answer = web.ask("peername", host, apps.HTTP_PORT, *how)
            peer, local = answer["peer"], answer["local"]
            notes.saw(
                f"asked for {asked}: getpeername {peer[0]}:{peer[1]}",
                peer == [asked, apps.HTTP_PORT] and answer["body"] == stage.page("api"),
            )
            own = {*web.address, web.address.mapped}
            notes.saw(
                f"getsockname in web is its own address: {local[0]}", local[0] in own
            )


def _ways(target: DualStack) -> list[tuple[list[str], str]]:
    return [([], target.v4), ([], target.v6), (["mapped"], target.mapped)]


def _redis(stage: Stage, notes: Notes) -> None:
    buyer = stage.pods["buyer"]
    notes.did("redis-cli from buyer (node 1) to redis-server in cache (node 2)")
    cache = [*stage.pods["cache"].address, *stage.service("cache")]
    for address in cache:
        base = ["redis-cli", "-h", address]
        buyer.run(*base, "set", "key", stage.secret)
        value = buyer.run(*base, "get", "key").stdout.strip()
        clients = buyer.run(*base, "client", "list").stdout
        own = buyer.address.v6 if ":" in address else buyer.address.v4
        listed = f"addr={own}:" in clients or f"addr=[{own}]:" in clients
        notes.saw(f"redis at {address}: set and got back", value == stage.secret)
        notes.saw(f"redis' own client list shows buyer at {own}", listed)


def _ftp(stage: Stage, notes: Notes) -> None:
    buyer, files = stage.pods["buyer"], stage.pods["files"]
    notes.did("curl ftp:// from buyer to vsftpd in files, which speaks first")
    for address, option in (
        (files.address.v4, "--disable-epsv"),
        (files.address.v6, "--ftp-pasv"),
    ):
        answer = curl(buyer, url(address, "/list.txt", "ftp"), option, "-v")
        greeted = stage.secret in answer.said
        got = answer.exit_code == 0 and answer.body == stage.page("files")
        passive = "PASV" if option == "--disable-epsv" else "EPSV"
        notes.saw(f"vsftpd at {address} greets first", greeted)
        notes.saw(f"passive transfer ({passive}) to a port of its own choice", got)


def the_wire(stage: Stage, notes: Notes) -> None:
    """Nothing of step 1 is readable, and pods speak TLS 1.3 on one port only."""
    assert stage.tap is not None
    wire = stage.tap.read()
    notes.did(f"looked at {len(wire.capture.frames)} frames captured during step 1")
    markers = [stage.secret.encode(), b"HTTP/1.1", b"USER anonymous", b"redis"]
    readable = wire.readable(markers)
    notes.saw(
        f"payload, commands, paths: {readable or 'nothing'} readable", not readable
    )
    faults = wire.faults()
    told = "; ".join(faults[:3]) or f"all on port {TUNNEL_PORT}"
    notes.saw(f"TCP between pods: {told}", not faults)
    versions = wire.tunnels()
    held = versions and set(versions.values()) == {TLS_1_3}
    notes.saw(f"{len(versions)} tunnels opened, each agreed on TLS 1.3", held)
    others = set(wire.capture.others) - HOUSEKEEPING
    notes.saw(
        f"besides TCP: {others or 'only ARP and neighbour discovery'}", not others
    )
