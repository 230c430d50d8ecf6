"""Listen on the wire with tcpdump, and look at what it heard."""

from __future__ import annotations

import ipaddress
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab import names, system, tlsview
from tests.lab.pcap import Capture, Flow, Stream
from tests.lab.topology import Lab
from tests.patience import patient

TUNNEL_PORT: Final = 15008
_POD_NETWORKS: Final = tuple(map(ipaddress.ip_network, names.POD_NETWORKS))
# Frames reach tcpdump a moment after their receiver.
SETTLE_SECONDS: Final = patient(0.15)


class WireTap:
    """
    `with WireTap(lab, "name") as tap:` captures what crosses node 1's link.

    The capture is complete when the block has ended; `path` keeps it for a look by
    tshark.
    """

    def __init__(
        self, lab: Lab, name: str, interface: str = "to-n1", expression: str = ""
    ) -> None:
        """Args: expression is a filter of tcpdump's (pcap-filter(7)); "" takes all."""
        self._expression = expression
        self.path: Path = lab.directory / f"{name}.pcap"
        self._lab = lab
        self._interface = interface

    def __enter__(self) -> Self:
        # Root stays root (-Z): the file is in a directory of root's.
        argv = ["tcpdump", "-i", self._interface, "-s", "0", "-U", "-Z", "root"]
        argv += ["--immediate-mode", "-B", "65536", "-w", str(self.path)]
        argv += [self._expression] if self._expression else []
        cgroup = self._lab.host_cgroup("capture")
        self._process = subprocess.Popen(
            system.inside(self._lab.wire, cgroup, argv),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr
        said = self._process.stderr.readline()
        if "listening on" not in said:
            raise system.LabError(f"tcpdump: {said.strip() or 'did not start'}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        time.sleep(SETTLE_SECONDS)
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=patient(10))
        self.report = said.strip()

    def read(self) -> Wire:
        """What was heard. Raises: LabError when tcpdump lost frames."""
        if "0 packets dropped by kernel" not in self.report:
            raise system.LabError(f"tcpdump: {self.report}")
        return Wire(Capture.parse(self.path.read_bytes()))


@dataclass(slots=True)
class Wire:
    """A capture, seen as conversations between pods."""

    capture: Capture

    def pod_streams(self) -> list[Stream]:
        """The streams whose both ends are pods."""
        return [each for each in self.capture.streams() if between_pods(each.flow)]

    def faults(self) -> list[str]:
        """Why pod-to-pod traffic is not all TLS 1.3 on the tunnel port."""
        return tlsview.faults(self.pod_streams(), TUNNEL_PORT)

    def tunnels(self) -> dict[Flow, int]:
        """The tunnels that were opened between pods, with the TLS version of each."""
        return tlsview.handshakes(self.pod_streams(), TUNNEL_PORT)

    def readable(self, markers: list[bytes]) -> list[bytes]:
        """Those of `markers` that anybody on the wire could read."""
        return [each for each in markers if self.capture.contains(each)]


def between_pods(flow: Flow) -> bool:
    """Whether both addresses are pods' (Services count: nobody should see one)."""
    ends = (ipaddress.ip_address(flow.source), ipaddress.ip_address(flow.destination))
    return all(any(end in network for network in _POD_NETWORKS) for end in ends)
