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


def causes(error: BaseException) -> list[BaseException]:
    """An error and those under it, the innermost last; of a group its first member."""
    found: list[BaseException] = []
    under: BaseException | None = error
    while under is not None and under not in found:
        found.append(under)
        # trio tells in a group why each address of a host could not be reached.
        below = under.exceptions[0] if isinstance(under, BaseExceptionGroup) else None
        under = below or under.__cause__ or under.__context__
    return found


def innermost(error: BaseException) -> str:
    """What OpenSSL or the system said, under the layers of empty errors above."""
    *_, last = (text for each in causes(error) if (text := _text(each)))
    return last


def _text(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
