"""Revocation when the kernel refuses for a moment."""

from __future__ import annotations

from agent.addresses import SocketAddress
from agent.errors import KernelError
from tests.unit.app.test_direct import CLIENT, CUT_OFF, WORLD, Bench, FakeMaps
from tests.unit.workload.test_direct import opened


class _Busy(FakeMaps):
    """The kernel's map cannot be locked just now."""

    busy = False

    def withdraw(self, netns: int, destination: SocketAddress) -> None:
        if self.busy:
            raise KernelError("map verdicts: delete: busy")
        super().withdraw(netns, destination)


def test_a_verdict_that_could_not_be_withdrawn_is_withdrawn_later() -> None:
    """Never forgotten: else a pair that policy denies talked on for ever."""
    bench = Bench()
    bench.maps = maps = _Busy()
    bench.direct = bench.made()
    bench.direct.start()
    bench.direct.refresh(WORLD)
    bench.direct.learn(opened())
    assert maps.table
    bench.sockets.live = {101: [CLIENT]}

    maps.busy = True
    bench.direct.refresh(CUT_OFF)
    assert "revocation-failed" in bench.kinds
    assert bench.sockets.live[101] == []
    bench.sockets.live[101].append(CLIENT)  # let in by the verdict that is still there
    maps.busy = False
    bench.direct.refresh(CUT_OFF)

    assert not maps.table
    assert bench.sockets.live[101] == []
