"""Stacks of samples: read, told apart, drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tests.bench import flame

TEXT = """\
main (worker.py:1);relay (relay.py:20);send (libc.so.6) 30
main (worker.py:1);relay (relay.py:20);SSL_write_ex (libssl.so.3);0x7f (libcrypto.so.3) 10
main (worker.py:1);relay (relay.py:20);SSL_write_ex (libssl.so.3);write (libc.so.6) 5
main (worker.py:1);relay (relay.py:21) 50
main (worker.py:1);relay (relay.py:21) 5
main (worker.py:1);run (_run.py:7);epoll_wait (libc.so.6) 900
"""  # noqa: E501 (as py-spy writes it)


def test_waiting_is_left_out() -> None:
    """And equal stacks are added up."""
    stacks = flame.parse(TEXT)
    assert sum(stacks.values()) == 100
    assert stacks["main (worker.py:1)", "relay (relay.py:21)"] == 55


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        ("recv (libc.so.6)", "system calls"),
        ("write (libc.so.6)", "system calls"),
        ("memcpy (libc.so.6)", "interpreter"),
        ("0x7fbb7a5ac874 (libc.so.6)", "interpreter"),
        ("EVP_EncryptUpdate (libcrypto.so.3)", "OpenSSL"),
        ("SSL_read_ex (libssl.so.3)", "OpenSSL"),
        ("0x7f (_ssl.cpython-311-x86_64-linux-gnu.so)", "interpreter"),
        ("Tunnel._read (agent/proxy/tunnel.py:285)", "interpreter"),
    ],
)
def test_parts(frame: str, part: str) -> None:
    """By the innermost frame: a write that OpenSSL makes is a system call."""
    assert flame.part(frame) == part


def test_counts_of_the_parts() -> None:
    """They are all of the samples."""
    counts = flame.parts(flame.parse(TEXT))
    assert counts == {"system calls": 35, "OpenSSL": 10, "interpreter": 55}


@pytest.mark.parametrize("text", ["main", "main x", "12"])
def test_what_is_no_sample_is_refused(text: str) -> None:
    """Rather than left out of the shares."""
    with pytest.raises(flame.InvalidSamples):
        flame.parse(text)


def test_boxes_lie_inside_their_callers() -> None:
    """Each as wide as its samples, beside its siblings and below its caller."""
    every = flame.boxes(flame.parse(TEXT))
    assert [(box.start, box.count) for box in every if box.depth == 0] == [(0, 100)]
    for box in every[1:]:
        assert any(
            caller.depth == box.depth - 1
            and caller.start <= box.start
            and box.start + box.count <= caller.start + caller.count
            for caller in every
        )
    for depth in range(3):
        row = sorted((b.start, b.count) for b in every if b.depth == depth)
        ends = [start + count for start, count in row]
        assert all(e <= s for e, (s, _) in zip(ends, row[1:], strict=False))


def test_the_graph_is_well_formed() -> None:
    """With every frame by name, whatever characters are in it."""
    drawn = flame.draw({("<module> (a & b)", "f"): 3}, "a <title>")
    root = ElementTree.fromstring(drawn)  # noqa: S314 (our own text)
    titles = [e.text for e in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["<module> (a & b): 3 samples, 100.0%", "f: 3 samples, 100.0%"]
    assert "interpreter 100%" in drawn


def test_no_samples_are_an_empty_graph() -> None:
    """A worker that never was seen busy."""
    ElementTree.fromstring(flame.draw({}, "nothing"))  # noqa: S314
