"""
May this client open that port: `podlock authz check`. Pure.

The verdict of the destination's agent, which is where policy is enforced; and what is
decided before policy is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.addresses import IPAddress
from agent.authz.judgement import Destination, Verdict, judge
from agent.authz.party import Client
from agent.authz.servers import Server
from agent.authz.survey import Survey

# The agent's own ports in every pod: outbound, inbound, tunnel. Nobody reaches an
# application there, whatever policy says.
AGENT_PORTS = frozenset({15001, 15006, 15008})


@dataclass(frozen=True, slots=True)
class Answer:
    """One client's verdict at one server; `address` is the one it was judged with."""

    client: Client
    address: IPAddress | None
    server: Server
    verdict: Verdict


def check(client: Client, server: Server, survey: Survey) -> list[Answer]:
    """A verdict for each address of the client. Raises: NeedsAddress."""
    return [
        Answer(client, address, server, _verdict(client, address, server, survey))
        for address in _addresses(client, server)
    ]


def _addresses(client: Client, server: Server) -> Iterator[IPAddress | None]:
    """Those of the client that can reach the server: of a family that both have."""
    theirs = (server.address,) if server.address else server.pod.addresses
    versions = {ip.version for ip in theirs}
    common = [ip for ip in client.addresses if ip.version in versions]
    yield from common or client.addresses or (None,)


def _verdict(
    client: Client, address: IPAddress | None, server: Server, survey: Survey
) -> Verdict:
    pod, port = server.pod, server.port
    if pod.host_network:
        text = f"{pod.key} is on the host network, outside the mesh: no agent checks it"
        return Verdict(True, "", text)
    if not pod.meshed:
        return Verdict(True, "", f"{pod.key} is not in the mesh: nobody judges there")
    if client.pod == pod.key:
        return Verdict(True, "", f"{pod.key} itself: stays on its own loopback")
    if port in AGENT_PORTS:
        return Verdict(False, "", f"{pod.key}: port {port} belongs to the agent")
    to = destination(server, survey, address)
    within = to.policy.cluster_networks if client.pod else ()
    return judge(client.identity, address, to, within)


def destination(
    server: Server, survey: Survey, client: IPAddress | None = None
) -> Destination:
    """
    What is asked for: at its address of the client's family, or at its first one.
    """
    addresses = (server.address,) if server.address else server.pod.addresses
    fitting = [ip for ip in addresses if client and ip.version == client.version]
    address = next(iter([*fitting, *addresses]), None)
    return Destination(survey.policy_of(server.pod), server.port, address)
