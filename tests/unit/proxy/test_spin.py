"""Looking on pays for one conversation of short messages, and for nothing else."""

from __future__ import annotations

from itertools import cycle, islice

from agent.proxy.spin import EVENTS, PATIENCE, PROBE, SHORT_SECONDS, SOCKETS, Spin

SHORT = SHORT_SECONDS / 2
LONG = SHORT_SECONDS * 2


def in_vain(spin: Spin, times: int) -> None:
    for _ in range(times):
        assert spin.allowed(1, SHORT)
        spin.ended(found=False)


def test_one_conversation() -> None:
    """An application's socket and a tunnel's, in turn: for as long as it lasts."""
    spin = Spin()
    for descriptor in islice(cycle((1, 2)), 100):
        assert spin.allowed(descriptor, SHORT)
        spin.ended(found=True)


def test_both_ends_of_one_conversation() -> None:
    """Two applications and two ends of a tunnel, in turn, once that is seen."""
    spin = Spin()
    told = [spin.allowed(d, SHORT) for d in islice(cycle((1, 2, 3, 4)), 20)]
    assert told == [True] * 2 + [False] * (EVENTS - 3) + [True] * (20 - EVENTS + 1)


def test_several_conversations() -> None:
    """With more sockets than one conversation has, the worker is busy anyway."""
    spin = Spin()
    told = [spin.allowed(d, SHORT) for d in islice(cycle(range(SOCKETS + 1)), 30)]
    assert told == [True] * SOCKETS + [False] * (30 - SOCKETS)


def test_one_conversation_is_left() -> None:
    """The others are forgotten as soon as the last events are its own."""
    spin = Spin()
    for descriptor in range(10, 10 + EVENTS):
        spin.allowed(descriptor, SHORT)
    told = [spin.allowed(d, SHORT) for d in islice(cycle((1, 2)), EVENTS)]
    assert told == [False] * (EVENTS - 1) + [True]


def test_bulk() -> None:
    """What takes long to handle is bulk, and more is there already."""
    spin = Spin()
    assert not spin.allowed(1, LONG)
    assert spin.allowed(1, SHORT)


def test_in_vain() -> None:
    """A habit of finding nothing is probed now and then, not followed."""
    spin = Spin()
    in_vain(spin, PATIENCE)
    told = []
    for _ in range(3 * PROBE):
        told.append(spin.allowed(1, SHORT))
        if told[-1]:
            spin.ended(found=False)
    assert told == ([False] * (PROBE - 1) + [True]) * 3


def test_a_probe_that_finds() -> None:
    """One success, and it is worth it again."""
    spin = Spin()
    in_vain(spin, PATIENCE)
    while not spin.allowed(1, SHORT):
        pass
    spin.ended(found=True)
    in_vain(spin, PATIENCE)
    assert not spin.allowed(1, SHORT)
