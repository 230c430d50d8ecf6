"""Listen on the wire between the two nodes, and tell what anybody there could read."""

from __future__ import annotations

import ipaddress
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.cluster import machine
from tests.lab import tlsview
from tests.lab.pcap import Capture, Flow, Stream
from tests.lab.system import LabError

TUNNEL_PORT: Final = 15008
SETTLE_SECONDS: Final = 0.2


class Tap:
    """`with Tap() as tap:` captures what passes between the nodes; then `tap.heard`."""

    heard: Heard

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="podlock-tap-")
        self._path = Path(self._folder.name) / "wire.pcap"
        argv = ["tcpdump", "-i", machine.WIRE, "-s", "0", "-U", "-Z", "root", "-n"]
        argv += ["--immediate-mode", "-B", "131072", "-w", str(self._path)]
        argv += [f"tcp and net {machine.POD_NETWORK}"]
        self._process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        said = self._process.stderr.readline()
        if "listening on" not in said:
            raise LabError(f"tcpdump: {said.strip() or 'did not start'}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        time.sleep(SETTLE_SECONDS)
        self._process.send_signal(signal.SIGINT)
        _, said = self._process.communicate(timeout=30)
        try:
            if kind is None and "0 packets dropped by kernel" not in said:
                raise LabError(f"tcpdump: {said.strip()}")
            self.heard = Heard(Capture.parse(self._path.read_bytes()))
        finally:
            self._folder.cleanup()


@dataclass(slots=True)
class Heard:
    """A capture, seen as conversations between pods of the two nodes."""

    capture: Capture

    def streams(self) -> list[Stream]:
        """The streams whose both ends are pods, and that carried anything."""
        every = self.capture.streams()
        return [each for each in every if each.data and between_pods(each.flow)]

    def plaintext(self, addresses: Collection[str] = ()) -> list[str]:
        """
        What was not TLS 1.3 in a tunnel, a line each.

        `addresses`: only what one of these pods had a part in.
        """
        chosen = [
            each
            for each in self.streams()
            if not addresses
            or {each.flow.source, each.flow.destination} & set(addresses)
        ]
        return tlsview.faults(chosen, TUNNEL_PORT)

    def tunnels(self) -> dict[Flow, int]:
        """The tunnels that were opened, with the TLS version of each."""
        return tlsview.handshakes(self.streams(), TUNNEL_PORT)

    def readable(self, *markers: str) -> list[str]:
        """Those of `markers` that anybody on the wire could read."""
        return [each for each in markers if self.capture.contains(each.encode())]


def between_pods(flow: Flow) -> bool:
    """Whether both addresses are pods'."""
    ends = (ipaddress.ip_address(flow.source), ipaddress.ip_address(flow.destination))
    return all(end in machine.POD_NETWORK for end in ends)
