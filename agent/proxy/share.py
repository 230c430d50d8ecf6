"""
Who used the thread how much: a worker has one, and every peer's work runs on it (pure).

An account is that of a peer: its identity, its address before there is one, or a pod of
this node. It may use a share of the thread, and some of it in advance; over that its
work comes last, and still comes while no other waits. An account outlives its
connections, so that to reconnect gains nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

# Of the thread's time. Four peers that use all they can leave room for a fifth.
SHARE: Final = 0.25
# Seconds of work that make an account greedy; it is forgiven within as long as it takes
# to fall from MOST_OWED to it, 0.4 s.
ADVANCE_SECONDS: Final = 0.1
MOST_OWED_SECONDS: Final = 0.2
# An account without debt is like none: what is forgotten first has long been quiet.
MAX_ACCOUNTS: Final = 16_384


class Account:
    """What one peer has used and not yet made up for."""

    __slots__ = ("_at", "_owed")

    def __init__(self) -> None:
        self._owed = 0.0
        self._at = 0.0

    def charge(self, seconds: float, now: float) -> None:
        """It used so much time, until `now` (monotonic seconds)."""
        self._owed = min(self.owed(now) + seconds, MOST_OWED_SECONDS)
        self._at = now

    def owed(self, now: float) -> float:
        """Seconds, less what its share has paid since."""
        return max(0.0, self._owed - (now - self._at) * SHARE)

    def is_greedy(self, now: float) -> bool:
        """Whether the work of others goes first."""
        return self._owed > ADVANCE_SECONDS and self.owed(now) > ADVANCE_SECONDS


class Accounts:
    """The account of every peer that was heard of lately."""

    def __init__(self) -> None:
        self._accounts: OrderedDict[Hashable, Account] = OrderedDict()

    def of(self, owner: Hashable) -> Account:
        """The same for as long as `owner` owes anything."""
        account = self._accounts.pop(owner, None) or Account()
        self._accounts[owner] = account
        if len(self._accounts) > MAX_ACCOUNTS:
            self._accounts.popitem(last=False)
        return account
