"""The proxy's deadlines and counts: what a peer or an application can make us hold."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """
    Deadlines in seconds, counts per pod or per connection.

    Connect and handshake deadlines are ztunnel's 10 s; a tunnel without streams goes
    after 5 minutes, as ztunnel's does.
    """

    connections_per_pod: int = 4096
    tunnel_streams: int = 100
    tunnels_per_source: int = 64
    connect_timeout_seconds: float = 10.0
    handshake_timeout_seconds: float = 10.0
    credential_timeout_seconds: float = 10.0
    idle_tunnel_seconds: float = 300.0
    ping_interval_seconds: float = 10.0
    ping_timeout_seconds: float = 20.0
    tunnel_max_age_seconds: float = math.inf  # but for the certificates' own end
    taint_deadline_seconds: float = 10.0
    control_timeout_seconds: float = 10.0
