"""Processes that hold keys leave no core dump, and none but root may look into them."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

from agent.errors import KernelError

PR_SET_DUMPABLE: Final = 4


def forbid_dumps() -> None:
    """
    Make this process undumpable; what it executes must do so itself (prctl(2)).

    RLIMIT_CORE alone is not enough: core_pattern may be a pipe, which ignores it
    (core(5)). Undumpable also keeps processes of the same user from tracing us.
    Raises: KernelError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise KernelError(f"prctl(PR_SET_DUMPABLE): {reason}")
