"""
Every error that Podlock raises on purpose, in four families.

*Ours or theirs* is the first question of whoever reads the message, so it is the
first branch of the tree: `PeerError` (somebody on the network broke a rule),
`InputError` (a file, flag, manifest or certificate that a person gave us),
`KernelError` (the machine would not do it), `Refused` (we decided not to).
A message names the object, the field and what was expected.
"""

from __future__ import annotations


class PodlockError(Exception):
    """The root: `except PodlockError` catches what we raised and no accident."""


class InputError(PodlockError):
    """Something a person or an API gave us is not valid; the last good state holds."""


class PeerError(PodlockError):
    """A peer broke a protocol rule or could not prove who it is."""


class KernelError(PodlockError):
    """The kernel refused a program, map, link or namespace operation."""


class Refused(PodlockError):
    """Podlock decided against a connection; the message is the reason."""
